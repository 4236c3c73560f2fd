"""How a model's regions are drawn, as it stands on its card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

DrawnBy = Literal["map", "snapped", "learned"]
"""What drew a region: the attribution map cut at a threshold, the same fitted to the photograph's edges, or a head that
learned from masks."""

LEAST_EVIDENCE = 0.02


@dataclass(frozen=True)
class RegionHeadSettings:
    """The head that draws regions, kept in a weights file of its own beside the network's.

    Attributes:
        weights_sha256: hex digest of that file.
        threshold: probability from which a pixel belongs to a region, between 0 and 1.
    """

    weights_sha256: str
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"the region head's threshold is {self.threshold}; it must lie between 0 and 1")


@dataclass(frozen=True)
class RegionDrawing:
    """How regions are drawn.

    Attributes:
        drawn_by: see `DrawnBy`; ``learned`` needs a head.
        head: the learned one, if there is one.
        least_evidence: share of the attribution map, 0 to 1, below which a region is marked as one without evidence.
        lit_from: probability of the explained class from which its map counts as lit on the absolute scale; None where
            there were no good images to learn it from.
        origin: what the settings were learned from, with counts and figures; informative.
    """

    drawn_by: DrawnBy = "map"
    head: RegionHeadSettings | None = None
    least_evidence: float = LEAST_EVIDENCE
    lit_from: float | None = None
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.drawn_by == "learned" and self.head is None:
            raise ValueError("regions cannot be drawn by a head that is not there; draw them snapped or by the map")
        if not 0 <= self.least_evidence <= 1:
            raise ValueError(f"the least evidence of a region is {self.least_evidence}; it must lie from 0 to 1")
        if self.lit_from is not None and not 0 <= self.lit_from <= 1:
            raise ValueError(f"the absolute scale's level is {self.lit_from}; it must lie from 0 to 1")

    def strength(self, probability: float) -> float | None:
        """What a map in [0, 1] is multiplied by to be on the absolute scale; None where there is none.

        0 up to the level that good images reach, and rising to 1 where the class is certain: a map is dark where the
        class is no more probable than good parts make it, however bright it is within itself.
        """
        if self.lit_from is None:
            return None
        if self.lit_from >= 1:
            return 0.0
        return max(0.0, (probability - self.lit_from) / (1 - self.lit_from))
