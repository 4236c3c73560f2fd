"""The labeling configurations that the desk makes for a model's classes, by the name of their template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from backend.label_studio.binding import REGION_TAGS, RegionKind
from backend.label_studio.labeling_config import ANSWER_NAME, REASONS_NAME, SUMMARY_NAME

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
    """

    regions: RegionKind = "polygonlabels"
    takes_several: bool = False


DEFAULT_TEMPLATE = Template()
TEMPLATES: Mapping[str, Template] = {
    "default": DEFAULT_TEMPLATE,
    "multi-label": Template(takes_several=True),
    "brush": Template(regions="brushlabels"),
    "boxes": Template(regions="rectanglelabels"),
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
        is_blind: nothing is there that the model says, to ask the model with, or to correct it by.
        maps: the address of the project's maps, which are shown beside the image; None shows none.
    """
    view = Element("View")
    top = SubElement(view, "View", style=_ROW)
    SubElement(top, "Header", value=heading, size="4", style="margin: 0")
    if not is_blind:
        top.append(_filling(_text(SUMMARY_NAME, IMAGE_NAME, "What the model says stands here.")))
    undecided = SubElement(view, "View", visibleWhen="choice-unselected", whenTagName=CHOICES_NAME)
    SubElement(undecided, "Header", value=UNDECIDED, size="5")
    ordered = [name for name in classes if name == good_class] + [name for name in classes if name != good_class]
    keys = dict(zip(ordered, "123456789", strict=False))
    judging = SubElement(view, "View", style=_ROW)
    judging.append(
        _choices(CHOICES_NAME, ordered, keys, multiple=takes_several or template.takes_several, required=True)
    )
    defects = [name for name in classes if name != good_class]
    judging.append(_labels(defects, template.regions))
    if not is_blind:
        asking = SubElement(view, "View", style=_ROW)
        asking.append(_questions(defects))
        asking.append(_filling(_text(ANSWER_NAME, IMAGE_NAME, "Answers to questions stand here.")))
        why = SubElement(view, "View", style=_ROW)
        SubElement(why, "Header", value="Corrected:", size="5", style="margin: 0; font-size: 14px")
        why.append(_filling(_choices(REASONS_NAME, list(REASONS), REASONS, multiple=True, required=False)))
    view.append(_photograph(maps))
    indent(view)
    return tostring(view, encoding="unicode")


def _choices(name: str, values: Sequence[str], keys: Mapping[str, str], *, multiple: bool, required: bool) -> Element:
    control = Element("Choices", name=name, toName=IMAGE_NAME, choice="multiple" if multiple else "single")
    control.set("showInLine", "true")
    control.set("required", "true" if required else "false")
    for value in values:
        choice = SubElement(control, "Choice", value=value)
        if value in keys:
            choice.set("hotkey", keys[value])
    return control


def _labels(defects: Sequence[str], kind: RegionKind) -> Element:
    looks = _LOOKS[kind]
    control = Element(REGION_TAGS[kind], {**looks.attributes, "name": REGIONS_NAME, "toName": IMAGE_NAME})
    # Else the smart tool would draw with it as well.
    control.set("smart", "false")
    letters = [letter for letter in _LETTERS if letter not in looks.tool_keys]
    for place, name in enumerate(defects):
        label = SubElement(control, "Label", value=name, background=_COLOURS[place % len(_COLOURS)])
        if place < len(letters):
            label.set("hotkey", letters[place])
    return control


def _questions(defects: Sequence[str]) -> Element:
    # The smart tool's alone, so that nothing is drawn with these labels but questions.
    asked = Element("RectangleLabels", name=ASK_NAME, toName=IMAGE_NAME, smart="true", smartOnly="true")
    for place, name in enumerate(defects):
        SubElement(asked, "Label", value=f"{name}?", alias=name, background=_COLOURS[place % len(_COLOURS)])
    return asked


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


def _filling(control: Element) -> Element:
    """The control in what its row leaves free."""
    place = Element("View", style="flex: 1 1 300px; min-width: 0")
    place.append(control)
    return place


def _photograph(maps: str | None) -> Element:
    """The image; side by side with its maps where there is room for both, else the maps below."""
    if maps is None:
        return _image(IMAGE_NAME, f"${IMAGE_VARIABLE}")
    columns = Element("View", style="display: flex; flex-wrap: wrap; gap: 12px")
    photograph = SubElement(columns, "View", style="flex: 3 1 480px; min-width: 0")
    photograph.append(_image(IMAGE_NAME, f"${IMAGE_VARIABLE}"))
    why = SubElement(columns, "View", style="flex: 2 1 300px; min-width: 0")
    why.append(evidence_tag(maps, IMAGE_VARIABLE))
    return columns


def evidence_tag(maps: str, variable: str) -> Element:
    """The tag that shows the maps of the image whose address the task's data has under `variable`."""
    return _image(EVIDENCE_NAME, f"{maps}?image=${variable}")


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
