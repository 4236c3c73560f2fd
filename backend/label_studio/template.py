"""The labeling configurations that the desk makes for a model's classes, by the name of their template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from backend.label_studio.binding import REGION_TAGS, RegionKind
from backend.label_studio.labeling_config import ANSWER_NAME, BLIND_CLASS, REASONS_NAME, SUMMARY_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

CHOICES_NAME = "defect"
REGIONS_NAME = "region"
ASK_NAME = "ask"
IMAGE_NAME = "image"
IMAGE_VARIABLE = "image"
EVIDENCE_NAME = "evidence"
UNDECIDED = "No class is ticked: the decision is yours."
REASONS: Mapping[str, str] = {
    "wrong class": "z",
    "wrong place": "x",
    "too large": "c",
    "too small": "n",
    "dirt or reflection": "j",
    "within tolerance": "k",
    "bad photograph": "l",
}
"""Why an inspector corrects (a region is too large, a defect within tolerance), and the key that says so."""
# Of the width that Label Studio gives an image, its tools take 42 pixels once they appear. An image smaller than its
# place, which is enlarged to fill it before, would lose its edges under them.
_BESIDE_THE_TOOLS = "calc(100% - 42px)"
# Told apart by colour-blind readers too (Okabe and Ito's set, then further hues).
_COLOURS = (
    "#D55E00",
    "#0072B2",
    "#E69F00",
    "#CC79A7",
    "#009E73",
    "#56B4E9",
    "#F0E442",
    "#8C564B",
    "#7F3C8D",
    "#3969AC",
)
_LETTERS = "qwertyasdfg"
_ROW = "display: flex; flex-wrap: wrap; align-items: center; column-gap: 24px"
# Label Studio leaves a line's height free around each control.
_CLOSER = "; margin: -14px 0"


@dataclass(frozen=True)
class _Looks:
    """How labels of one kind are drawn, and Label Studio's own keys for the tools that they bring."""

    attributes: Mapping[str, str]
    tool_keys: str


_LOOKS: Mapping[RegionKind, _Looks] = {
    "polygonlabels": _Looks({"strokeWidth": "2", "opacity": "0.2", "pointSize": "small"}, "p"),
    "brushlabels": _Looks({"opacity": "0.4"}, "be"),
    "rectanglelabels": _Looks({"strokeWidth": "2", "opacity": "0.2"}, "r"),
}


@dataclass(frozen=True)
class Template:
    """What a labeling configuration is made for.

    Attributes:
        regions: the kind that regions are drawn as.
        takes_several: whether several classes can be ticked even where the model names one.
        images: how many photographs each part has.
    """

    regions: RegionKind = "polygonlabels"
    takes_several: bool = False
    images: int = 1


DEFAULT_TEMPLATE = Template()
TEMPLATES: Mapping[str, Template] = {
    "default": DEFAULT_TEMPLATE,
    "multi-label": Template(takes_several=True),
    "brush": Template(regions="brushlabels"),
    "boxes": Template(regions="rectanglelabels"),
    "several-images": Template(images=2),
}
"""By the name that `inspection connect --template` takes."""


def labeling_configuration(
    classes: Sequence[str],
    good_class: str | None,
    *,
    heading: str,
    template: Template = DEFAULT_TEMPLATE,
    takes_several: bool = False,
    is_blind: bool = False,
    maps: str | None = None,
) -> str:
    """One choice a class on the number keys, a label for every defect class to draw with, and the image with zoom.

    All that is to be read or ticked stands above the image, where it is seen without scrolling: what the model says,
    the classes, the labels, and the reasons for a correction. No key means two things. As long as no class is ticked, a
    line says that the decision is the inspector's.

    Args:
        takes_several: whether the model names several classes of one image, so that several can be ticked.
        is_blind: the desk is to keep its answers from Label Studio, and the page has nothing that the model says, to
            ask it with, or to correct it by; then `maps` is None.
        maps: the address of the project's maps, which are shown beside the image; None shows none.
    """
    defects = [name for name in classes if name != good_class]
    page = _Page(
        classes=[name for name in classes if name == good_class] + defects,
        defects=defects,
        regions=template.regions,
        takes_several=takes_several or template.takes_several,
        is_blind=is_blind,
        maps=maps,
    )
    view = Element("View", className=BLIND_CLASS) if is_blind else Element("View")
    if template.images == 1:
        view.extend(_of_one_image(page, heading))
    else:
        view.extend(_of_several_images(page, heading, template.images))
    indent(view)
    return tostring(view, encoding="unicode")


@dataclass(frozen=True)
class _Page:
    """What the rows of a page are made of; `classes` in the order of their keys, `defects` in that of the model."""

    classes: Sequence[str]
    defects: Sequence[str]
    regions: RegionKind
    takes_several: bool
    is_blind: bool
    maps: str | None


def _of_one_image(page: _Page, heading: str) -> list[Element]:
    told = [] if page.is_blind else [_filling(_summary(None))]
    rows = [
        _title(_heading(heading), *told),
        _undecided(),
        _row(_verdict(page, IMAGE_NAME), _labels(page, None)),
    ]
    if not page.is_blind:
        rows += [_row(_questions(page.defects, None), _filling(_answers(IMAGE_NAME))), _reasons(IMAGE_NAME)]
    return [*rows, _photograph(page.maps, None)]


def _of_several_images(page: _Page, heading: str, images: int) -> list[Element]:
    """The verdict on the part above, then each image with what is said of it and drawn on it."""
    first = _numbered(IMAGE_NAME, 1)
    rows = [_title(_heading(heading)), _undecided(), _row(_verdict(page, first))]
    if not page.is_blind:
        rows += [_reasons(first), _row(_filling(_answers(first)))]
    for number in range(1, images + 1):
        name = Element("Header", value=f"Image {number}", size="5", style="margin: 0")
        told = [] if page.is_blind else [_filling(_summary(number))]
        asked = [] if page.is_blind else [_questions(page.defects, number)]
        rows += [_title(name, *told), _row(_labels(page, number), *asked), _photograph(page.maps, number)]
    return rows


def _numbered(name: str, number: int | None) -> str:
    """A name, with the number of its image where there are several."""
    return name if number is None else f"{name}_{number}"


def _row(*tags: Element) -> Element:
    """Controls beside each other where there is room."""
    row = Element("View", style=_ROW + _CLOSER)
    row.extend(tags)
    return row


def _title(*tags: Element) -> Element:
    """A name and what is said of it."""
    row = Element("View", style=_ROW)
    row.extend(tags)
    return row


def _filling(control: Element) -> Element:
    """The control in what its row leaves free."""
    place = Element("View", style="flex: 1 1 300px; min-width: 0")
    place.append(control)
    return place


def _heading(text: str) -> Element:
    return Element("Header", value=text, size="4", style="margin: 0")


def _undecided() -> Element:
    hint = Element("View", visibleWhen="choice-unselected", whenTagName=CHOICES_NAME)
    SubElement(hint, "Header", value=UNDECIDED, size="5")
    return hint


def _verdict(page: _Page, image: str) -> Element:
    keys = dict(zip(page.classes, "123456789", strict=False))
    return _choices(CHOICES_NAME, image, page.classes, keys, multiple=page.takes_several, required=True)


def _reasons(image: str) -> Element:
    name = Element("Header", value="Corrected:", size="5", style="margin: 0; font-size: 14px")
    return _row(name, _filling(_choices(REASONS_NAME, image, list(REASONS), REASONS, multiple=True, required=False)))


def _choices(
    name: str, image: str, values: Sequence[str], keys: Mapping[str, str], *, multiple: bool, required: bool
) -> Element:
    control = Element("Choices", name=name, toName=image, choice="multiple" if multiple else "single")
    control.set("showInLine", "true")
    control.set("required", "true" if required else "false")
    for value in values:
        choice = SubElement(control, "Choice", value=value)
        if value in keys:
            choice.set("hotkey", keys[value])
    return control


def _labels(page: _Page, number: int | None) -> Element:
    looks = _LOOKS[page.regions]
    names = {"name": _numbered(REGIONS_NAME, number), "toName": _numbered(IMAGE_NAME, number)}
    control = Element(REGION_TAGS[page.regions], {**names, **looks.attributes})
    # Else the smart tool would draw with it as well.
    control.set("smart", "false")
    # A key is one label's alone: to those of further images Label Studio gives what is left.
    letters = [letter for letter in _LETTERS if letter not in looks.tool_keys] if number in (None, 1) else []
    for place, name in enumerate(page.defects):
        label = SubElement(control, "Label", value=name, background=_COLOURS[place % len(_COLOURS)])
        if place < len(letters):
            label.set("hotkey", letters[place])
    return control


def _questions(defects: Sequence[str], number: int | None) -> Element:
    # The smart tool's alone, so that nothing is drawn with these labels but questions.
    names = {"name": _numbered(ASK_NAME, number), "toName": _numbered(IMAGE_NAME, number)}
    asked = Element("RectangleLabels", {**names, "smart": "true", "smartOnly": "true"})
    for place, name in enumerate(defects):
        SubElement(asked, "Label", value=f"{name}?", alias=name, background=_COLOURS[place % len(_COLOURS)])
    return asked


def _summary(number: int | None) -> Element:
    image = _numbered(IMAGE_NAME, number)
    return _text(_numbered(SUMMARY_NAME, number), image, "What the model says stands here.")


def _answers(image: str) -> Element:
    return _text(ANSWER_NAME, image, "Answers to questions stand here.")


def _text(name: str, image: str, placeholder: str) -> Element:
    """A place for what the desk says, which nobody writes into."""
    return Element(
        "TextArea",
        name=name,
        toName=image,
        editable="false",
        maxSubmissions="1",
        rows="1",
        showSubmitButton="false",
        placeholder=placeholder,
    )


def _photograph(maps: str | None, number: int | None) -> Element:
    """The image; side by side with its maps where there is room for both, else the maps below."""
    image = _image(_numbered(IMAGE_NAME, number), f"${_numbered(IMAGE_VARIABLE, number)}")
    if maps is None:
        return image
    columns = Element("View", style="display: flex; flex-wrap: wrap; gap: 12px")
    photograph = SubElement(columns, "View", style="flex: 3 1 480px; min-width: 0")
    photograph.append(image)
    why = SubElement(columns, "View", style="flex: 2 1 300px; min-width: 0")
    why.append(evidence_tag(maps, _numbered(IMAGE_VARIABLE, number), number))
    return columns


def evidence_tag(maps: str, variable: str, number: int | None = None) -> Element:
    """The tag that shows the maps of the image whose address the task's data has under `variable`.

    Args:
        number: of the image, where a part has several.
    """
    return _image(_numbered(EVIDENCE_NAME, number), f"{maps}?image=${variable}")


def _image(name: str, value: str) -> Element:
    return Element(
        "Image",
        name=name,
        value=value,
        zoom="true",
        zoomControl="true",
        rotateControl="false",
        defaultZoom="fit",
        width=_BESIDE_THE_TOOLS,
    )
