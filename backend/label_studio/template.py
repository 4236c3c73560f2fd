"""The labeling configuration that the desk makes for a model's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

if TYPE_CHECKING:
    from collections.abc import Sequence

CHOICES_NAME = "defect"
REGIONS_NAME = "region"
IMAGE_NAME = "image"
UNDECIDED = "No class is ticked: the decision is yours."
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
    classes: Sequence[str], good_class: str | None, *, heading: str, takes_several: bool = False
) -> str:
    """One choice a class on the number keys, a polygon label for every defect class, and the image with zoom.

    Classes and labels stand above the image, where they are seen without scrolling; the labels have letter keys, so
    that no key means two things. As long as no class is ticked, a line says that the decision is the inspector's.

    Args:
        takes_several: whether several classes can be ticked for one image.
    """
    view = Element("View")
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
    letters = "qwertyasdfg"
    for place, name in enumerate(name for name in classes if name != good_class):
        label = SubElement(labels, "Label", value=name, background=_COLOURS[place % len(_COLOURS)])
        if place < len(letters):
            label.set("hotkey", letters[place])
    SubElement(
        view,
        "Image",
        name=IMAGE_NAME,
        value="$image",
        zoom="true",
        zoomControl="true",
        rotateControl="false",
        defaultZoom="fit",
    )
    indent(view)
    return tostring(view, encoding="unicode")
