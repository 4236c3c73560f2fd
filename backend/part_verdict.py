"""The verdict on a part that several images were taken of: that of its worst image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from db.records import NewDecision, Verdict

_SEVERITY: Mapping[Verdict, int] = {"good": 0, "review": 1, "defect": 2}


@dataclass(frozen=True)
class PartVerdict:
    """What the decisions on a part's images come to.

    Attributes:
        deciding: the place of the worst image, from 0: a defect is worse than what is left to a person, that is worse
            than good, and of equals the one that is likelier to have any defect.
        labels: the decided classes, those of the worst image first; of further images what else is decided there.
    """

    deciding: int
    labels: tuple[str, ...]


def judge_part(decisions: Sequence[NewDecision], good_class: str | None) -> PartVerdict:
    """The verdict on the part that these decisions are about: one an image, at least one, by one model."""

    def badness(place: int) -> tuple[int, float]:
        decision = decisions[place]
        defect = decision.probability if good_class is None else 1 - float(decision.scores[good_class])
        return _SEVERITY[decision.verdict], defect

    deciding = max(range(len(decisions)), key=badness)
    worst = decisions[deciding]
    labels = [*worst.labels]
    if worst.verdict == "defect":
        labels += [name for one in decisions if one.verdict == "defect" for name in one.labels]
    return PartVerdict(deciding, tuple(dict.fromkeys(labels)))
