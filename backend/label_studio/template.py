"""The labeling configuration that the desk makes for a model's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from backend.label_studio.labeling_config import ANSWER_NAME, BLIND_CLASS

if TYPE_CHECKING:
    from collections.abc import Sequence

CHOICES_NAME = "defect"
REGIONS_NAME = "region"
ASK_NAME = "ask"
IMAGE_NAME = "image"
IMAGE_VARIABLE = "image"
EVIDENCE_NAME = "evidence"
UNDECIDED = "No class is ticked: the decision is yours."
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


def labeling_configuration(
    classes: Sequence[str],
    good_class: str | None,
    *,
    heading: str,
    takes_several: bool = False,
    asks: bool = True,
    maps: str | None = None,
    is_blind: bool = False,
) -> str:
    """One choice a class on the number keys, a polygon label for every defect class, and the image with zoom.

    Classes and labels stand above the image, where they are seen without scrolling; the labels have letter keys, so
    that no key means two things. As long as no class is ticked, a line says that the decision is the inspector's.

    Args:
        takes_several: whether several classes can be ticked for one image.
        asks: whether there is a label for every defect class, too, with which the smart tool asks about a place.
        maps: the address of the project's maps, which are shown beside the image; None shows none.
        is_blind: whether the desk is to keep its answers from Label Studio; then it `asks` nothing, without `maps`.
    """
    view = Element("View", className=BLIND_CLASS) if is_blind else Element("View")
    SubElement(view, "Header", value=heading, size="4")
    undecided = SubElement(view, "View", visibleWhen="choice-unselected", whenTagName=CHOICES_NAME)
    SubElement(undecided, "Header", value=UNDECIDED, size="5")
    choices = SubElement(
        view,
        "Choices",
        name=CHOICES_NAME,
        toName=IMAGE_NAME,
        choice="multiple" if takes_several else "single",
        showInLine="true",
        required="true",
    )
    ordered = [name for name in classes if name == good_class] + [name for name in classes if name != good_class]
    for number, name in enumerate(ordered, start=1):
        choice = SubElement(choices, "Choice", value=name)
        if number <= len("123456789"):
            choice.set("hotkey", str(number))
    labels = SubElement(
        view, "PolygonLabels", name=REGIONS_NAME, toName=IMAGE_NAME, strokeWidth="2", opacity="0.2", pointSize="small"
    )
    # Else the smart tool would draw with it as well.
    labels.set("smart", "false")
    letters = "qwertyasdfg"
    defects = [name for name in classes if name != good_class]
    for place, name in enumerate(defects):
        label = SubElement(labels, "Label", value=name, background=_COLOURS[place % len(_COLOURS)])
        if place < len(letters):
            label.set("hotkey", letters[place])
    if asks:
        view.extend(_asking(defects))
    if maps is None:
        view.append(_image(IMAGE_NAME, f"${IMAGE_VARIABLE}"))
    else:
        # Side by side where there is room for both, else the maps below.
        columns = SubElement(view, "View", style="display: flex; flex-wrap: wrap; gap: 12px")
        photograph = SubElement(columns, "View", style="flex: 3 1 480px; min-width: 0")
        photograph.append(_image(IMAGE_NAME, f"${IMAGE_VARIABLE}"))
        why = SubElement(columns, "View", style="flex: 2 1 300px; min-width: 0")
        why.append(evidence_tag(maps, IMAGE_VARIABLE))
    indent(view)
    return tostring(view, encoding="unicode")


def _asking(defects: Sequence[str]) -> tuple[Element, Element]:
    """The labels of questions and the place of the answer."""
    # The smart tool's alone, so that nothing is drawn with these labels but questions.
    asked = Element("RectangleLabels", name=ASK_NAME, toName=IMAGE_NAME, smart="true", smartOnly="true")
    for place, name in enumerate(defects):
        SubElement(asked, "Label", value=f"{name}?", alias=name, background=_COLOURS[place % len(_COLOURS)])
    answer = Element(
        "TextArea",
        name=ANSWER_NAME,
        toName=IMAGE_NAME,
        editable="false",
        maxSubmissions="1",
        rows="1",
        showSubmitButton="false",
        placeholder="What the model answers to a question stands here.",
    )
    return asked, answer


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
