"""A question of Label Studio's smart tool: which class, and about which place of the photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.label_studio.shapes import ShapeError, geometry_kind, image_size, rasterise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from backend.label_studio.binding import Binding
    from backend.label_studio.labeling_config import ImageObject

MOST_RECTANGLES = 20
"""The page sends each rectangle of a class that it still shows, and an inspector draws one or two."""


class QuestionError(ValueError):
    """What came is no question that can be answered; the message says why and what to do."""


@dataclass(frozen=True)
class Question:
    """`rectangles`: results as drawn, in percent of `image`, of `size` (height, width), as it is shown."""

    label: str
    image: ImageObject
    rectangles: tuple[Mapping[str, Any], ...]
    size: tuple[int, int]

    def place(self) -> NDArray[np.bool_]:
        """The pixels asked about, bool [height, width] of `size`: those of all rectangles.

        Raises:
            QuestionError: no pixel's centre lies in them.
        """
        mask = np.zeros(self.size, np.bool_)
        for one in self.rectangles:
            mask |= rasterise(one)
        if not mask.any():
            raise QuestionError(
                "the rectangle lies outside the photograph or is smaller than a pixel; draw a larger one"
            )
        return mask


def read_question(context: Mapping[str, Any], binding: Binding) -> Question:
    """The question that a smart tool's context holds.

    Raises:
        QuestionError: it holds none, one of several classes or with another tool than the rectangle, or numbers that
            make no sense.
    """
    drawn = context.get("result")
    if not isinstance(drawn, list) or not drawn:
        raise QuestionError("the context has no result; choose the smart tool, then a label, then draw a rectangle")
    if len(drawn) > MOST_RECTANGLES:
        raise QuestionError(f"{len(drawn)} shapes are asked about, at most {MOST_RECTANGLES} can be; delete some")
    if not all(isinstance(one, dict) for one in drawn):
        raise QuestionError("the context's result holds something else than objects")
    if any(geometry_kind(one) != "rectangle" for one in drawn):
        raise QuestionError("ask with a rectangle; other tools are not understood")
    image = next((one for one in binding.images if one.name == drawn[0].get("to_name")), None)
    if image is None or any(one.get("to_name") != image.name for one in drawn):
        raise QuestionError("the rectangle stands on another object than the photograph that is judged")
    try:
        sizes = {image_size(one) for one in drawn}
        for one in drawn:
            _require_numbers(one)
    except ShapeError as error:
        raise QuestionError(str(error)) from error
    if len(sizes) != 1:
        raise QuestionError("the rectangles were drawn on images of different sizes; reload the page")
    return Question(_class_of(drawn, binding), image, tuple(drawn), next(iter(sizes)))


def _require_numbers(rectangle: Mapping[str, Any]) -> None:
    """Refuse, before anything is drawn, what cannot be: on a picture of one pixel it costs nothing to try."""
    if not isinstance(rectangle.get("value"), dict):
        raise ShapeError("the rectangle has no value")
    rasterise({**rectangle, "original_width": 1, "original_height": 1})
    value = rectangle["value"]
    if not (value["width"] > 0 and value["height"] > 0):
        raise ShapeError("the rectangle has no area; draw a larger one")


def _class_of(drawn: Sequence[Mapping[str, Any]], binding: Binding) -> str:
    asked: set[tuple[str, ...]] = set()
    for one in drawn:
        labels = one["value"].get(str(one.get("type")))
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            raise QuestionError("the rectangle has no label; choose one before you draw")
        control = str(one.get("from_name"))
        classes = binding.label_classes.get((control, labels[0]))
        if classes is None:
            raise QuestionError(
                f"label '{labels[0][:80]}' of control '{control[:80]}' stands for no class of the model "
                f"(its classes: {', '.join(binding.classes)})"
            )
        asked.add(classes)
    if len(asked) != 1 or len(next(iter(asked))) != 1:
        raise QuestionError("the labels stand for several classes; ask about one at a time")
    label = next(iter(asked))[0]
    if label == binding.good_class:
        raise QuestionError(f"no evidence is shown for '{label}': ask about a defect")
    return label
