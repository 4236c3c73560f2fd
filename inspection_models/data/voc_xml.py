"""Pascal VOC's annotation files: one XML for each image, with its size and labelled boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from inspection_models.data.dataset import Box
from inspection_models.data.shapes import box_between

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element  # only the type; parsing is defused


@dataclass(frozen=True)
class VocObject:
    """A labelled box as it is written: xmin, ymin, xmax, ymax."""

    label: str
    corners: tuple[float, float, float, float]


@dataclass(frozen=True)
class VocAnnotation:
    """An annotation file.

    Attributes:
        size: height and width that it states; None where it states none, or zeros as some programs do.
        objects: in the file's order.
    """

    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def read_annotation(path: Path) -> VocAnnotation:
    """Read an annotation.

    Raises:
        ValueError: the file cannot be read, is no XML, declares entities, or lacks a number; the message does not
            name it.
    """
    try:
        tree: Element = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, DefusedXmlException) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error})") from error
    size = None
    if tree.find("size") is not None:
        height, width = int(_number(tree, "size/height")), int(_number(tree, "size/width"))
        size = (height, width) if height and width else None
    objects = []
    for entry in tree.iter("object"):
        left, top, right, bottom = (_number(entry, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
        objects.append(VocObject((entry.findtext("name") or "").strip(), (left, top, right, bottom)))
    return VocAnnotation(size, tuple(objects))


def read_sized_annotation(path: Path) -> tuple[tuple[int, int], tuple[VocObject, ...]]:
    """Size and objects of an annotation. Raises `ValueError` as `read_annotation`, and where no size is stated."""
    annotation = read_annotation(path)
    if annotation.size is None:
        raise ValueError("there is no element size/width")
    return annotation.size, annotation.objects


def inclusive_box(label: str, corners: tuple[float, float, float, float], size: tuple[int, int]) -> Box:
    """The box from its first to its last pixel, both counted from 1 as the standard has it.

    Raises:
        ValueError: it does not lie in the image of `size` (height, width), to the pixel.
    """
    left, top, right, bottom = corners
    if not (1 <= left <= right <= size[1] and 1 <= top <= bottom <= size[0]):
        raise ValueError(
            f"the box ({left:g}, {top:g}, {right:g}, {bottom:g}) does not lie in the image of "
            f"{size[1]} x {size[0]} pixels"
        )
    return box_between(label, left - 1, top - 1, right, bottom, size)


def _number(entry: Element, path: str) -> float:
    text = entry.findtext(path)
    if text is None:
        raise ValueError(f"there is no element {path}")
    return float(text)
