"""Images that changed sides between two models, and which of them are worst."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection_models.gate.answers import Answer, GoldenImage

WORSE = {
    "new escape": "a defect that the candidate alone passes as good",
    "new overkill": "a good part that the candidate alone calls defective",
    "newly wrong": "the class was right and is wrong",
    "newly sent to review": "was decided and is sent to a person",
    "otherwise wrong": "wrong before and after, in another way",
}
BETTER = {
    "no longer sent to review": "was sent to a person and is decided",
    "now right": "the class was wrong and is right",
    "overkill resolved": "a good part that the candidate alone does not call defective",
    "escape caught": "a defect that the model in service alone passes as good",
}
KINDS = {**WORSE, **BETTER}
"""What a change is called, and what that means; the worst first."""


@dataclass(frozen=True)
class Change:
    """One image that changed sides.

    Attributes:
        place: of the image among those compared.
        kind: a key of `KINDS`.
        move: by how much the probability of any defect rose from the model in service to the candidate.
    """

    place: int
    kind: str
    move: float


def changed_sides(
    images: Sequence[GoldenImage], candidate: Sequence[Answer], service: Sequence[Answer]
) -> tuple[Change, ...]:
    """The images whose verdict or decided classes differ: by kind, the worst first, then by the largest move."""
    changes = []
    for place, (image, new, old) in enumerate(zip(images, candidate, service, strict=True)):
        kind = _kind(image, new, old)
        if kind is not None:
            changes.append(Change(place, kind, new.defect_probability - old.defect_probability))
    order = list(KINDS)
    ranked = sorted(changes, key=lambda one: (order.index(one.kind), -abs(one.move), images[one.place].file))
    return tuple(ranked)


def _kind(image: GoldenImage, new: Answer, old: Answer) -> str | None:
    if (new.verdict, new.labels) == (old.verdict, old.labels):
        return None
    wrong_verdict = "good" if image.defective else "defect"
    if (new.verdict == wrong_verdict) != (old.verdict == wrong_verdict):
        names = ("new escape", "escape caught") if image.defective else ("new overkill", "overkill resolved")
        return names[0] if new.verdict == wrong_verdict else names[1]
    was_right, is_right = old.labels == image.labels, new.labels == image.labels
    if was_right != is_right:
        return "now right" if is_right else "newly wrong"
    if (new.verdict == "review") != (old.verdict == "review"):
        return "newly sent to review" if new.verdict == "review" else "no longer sent to review"
    return "otherwise wrong"
