"""Answers of models that never were, for tests of the gate."""

from __future__ import annotations

from collections.abc import Sequence

from inspection_models.gate import Answer, ComparedModel, GoldenImage
from inspection_models.gate.golden import GoldenSet
from inspection_models.model_card import ModelVersion

CLASSES = ("crack", "good", "pit")


def image(number: int, label: str = "crack", group: str | None = None, also: Sequence[str] = ()) -> GoldenImage:
    labels = frozenset({label, *also})
    return GoldenImage(f"{label}/{number}.png", f"{number:064x}", group or str(number), labels, "good" not in labels)


def answer(label: str, sure: float = 0.9, verdict: str | None = None, classes: Sequence[str] = CLASSES) -> Answer:
    rest = (1 - sure) / (len(classes) - 1)
    probabilities = tuple(sure if one == label else rest for one in classes)
    defect = 1 - probabilities[classes.index("good")] if "good" in classes else 1.0
    own = "good" if label == "good" else "defect"
    return Answer(verdict or own, frozenset({label}), probabilities, defect)  # type: ignore[arg-type]


def model(
    answers: Sequence[Answer], name: str = "a", classes: Sequence[str] = CLASSES, *, exclusive: bool = True
) -> ComparedModel:
    good = "good" if "good" in classes else None
    return ComparedModel(ModelVersion(name, "1", "0" * 64, "f" * 64), tuple(classes), good, exclusive, tuple(answers))


def golden(images: Sequence[GoldenImage], **changes: object) -> GoldenSet:
    fields = {
        "samples": (),
        "images": tuple(images),
        "good_name": "good",
        "left_out": {},
        "seen": {"candidate": 0, "service": 0},
        "notes": (),
    }
    return GoldenSet(**fields | changes)  # type: ignore[arg-type]
