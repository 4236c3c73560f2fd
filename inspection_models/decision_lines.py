"""The lines between deciding alone and asking a person, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ReviewLines:
    """Where the model should not decide alone; a line that is None sends nothing to review.

    Attributes:
        good_below: probability of any defect below which an image is passed as good without a person.
        defect_from: probability of any defect from which an image is called defective without a person.
        sure_from: probability of the decided class from which it stands without a person, where no class is good.
    """

    good_below: float | None = None
    defect_from: float | None = None
    sure_from: float | None = None

    def __post_init__(self) -> None:
        for name in ("good_below", "defect_from", "sure_from"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"the review line {name} is {value}; it must lie from 0 to 1")


@dataclass(frozen=True)
class LineOrigin:
    """What a line was drawn from, so that its promise can be checked.

    Attributes:
        line: ``escapes`` is the one below which images pass as good, ``overkill`` the one from which they are
            defective, ``errors`` that of the decided class's probability where no class is good.
        rate: at most so large a share of parts is to be decided wrongly alone, 0 to 1.
        confidence: with which that was shown, 0 to 1; None where no risk was stated. Then the rate holds on average
            over draws of data by which nothing was tuned; it is a little favourable where the same data stopped or
            calibrated the training. `ModelCard.training` says under `lines_from` what they were.
        value: the line.
        failures: independent parts of the data that were decided wrongly alone at this line.
        parts: independent parts that it was counted on.
        images: their images.
        bound: upper end of the share of wrongly decided parts, at `confidence`; None where that is None.
        data_sha256: hash of the data set that the parts come from.
    """

    line: Literal["escapes", "overkill", "errors"]
    rate: float
    confidence: float | None
    value: float
    failures: int
    parts: int
    images: int
    bound: float | None
    data_sha256: str


@dataclass(frozen=True)
class FamiliaritySettings:
    """When an image is unlike all that the model was trained on.

    Attributes:
        sha256: hex digest of the file with the remembered features.
        line: distance, 0 to 2, above which an image goes to review.
        parts: independent held-out parts that the line was drawn from.
    """

    sha256: str
    line: float
    parts: int

    def __post_init__(self) -> None:
        if not 0 <= self.line <= 2:
            raise ValueError(f"the line of familiarity is {self.line}; it must lie from 0 to 2")
