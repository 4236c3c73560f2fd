"""Drawing a model's lines from what it says of images that it was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from inspection_models.decision_lines import LineOrigin, ReviewLines
from inspection_models.risk import Line, Risk, RiskError, highest_line, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection_models.deciding import Prediction
    from inspection_models.model_card import ModelCard

# Where no risk is stated, parts decided wrongly alone, on average over draws of data by which nothing was tuned.
DEFAULT_RATE = 0.02
# No image passes as good that is likelier defective, or the other way, however good the data make the model look.
_EVEN = 0.5
# An image on a line is called defective, or its class stands, while `highest_line` counts what lies beyond its limit.
# So the limits lie one step before even odds and before none.
_BELOW_EVEN = float(np.nextafter(np.float32(_EVEN), np.float32(0)))
_BELOW_NONE = float(np.nextafter(np.float32(0), np.float32(-1)))


@dataclass(frozen=True)
class StatedRisks:
    """What may happen at most among parts that the model decides alone; None leaves a line to the default.

    Attributes:
        escapes: share of the defective parts of which any defective image is passed as good.
        overkill: share of the good parts of which any good image is called defective.
        errors: share of all parts of which any image gets a wrong class, where no class is good.
        confidence: with which each stated share is to be shown.
    """

    escapes: float | None = None
    overkill: float | None = None
    errors: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in ("escapes", "overkill", "errors"):
            if getattr(self, name) is not None:
                self.risk(name)

    @property
    def any_stated(self) -> bool:
        """Whether there is a promise to keep."""
        return any(rate is not None for rate in (self.escapes, self.overkill, self.errors))

    def check_for(self, good_class: str | None) -> None:
        """Make sure that a model with this good class, or none, can run the risks.

        Raises:
            RiskError: it cannot.
        """
        if good_class is not None and self.errors is not None:
            raise RiskError("errors are for models without a good class; state escapes and overkill")
        if good_class is None and (self.escapes is not None or self.overkill is not None):
            raise RiskError(
                "escapes and overkill need a good class, and every class of this model is a defect; state errors"
            )

    def risk(self, name: str) -> Risk:
        """The stated risk of that name, or the default.

        Raises:
            RiskError: it is out of range.
        """
        rate = getattr(self, name)
        return Risk(DEFAULT_RATE, None) if rate is None else Risk(rate, self.confidence)


def draw_lines(
    card: ModelCard,
    predictions: Sequence[Prediction],
    targets: NDArray[np.bool_],
    groups: Sequence[str],
    stated: StatedRisks,
    data_sha256: str,
) -> ModelCard:
    """The card with decision threshold and review lines drawn from images that the model was not fitted to.

    A stated promise holds for parts that are drawn as these were, and only if the model's scores depend on these images
    in nothing: whoever states a risk has to see to that. Without one, lines may be drawn from images that stopped or
    calibrated the training, too; the default rate is a little favourable then. A part is wrong if any of its images is:
    images of one part are not independent, so parts are counted, not images.

    Args:
        card: of the model.
        predictions: its decisions on N images.
        targets: bool [N, C], which classes each is of.
        groups: [N], key of the part that each shows.
        stated: the risks.
        data_sha256: hash of the data set, for the record.

    Raises:
        RiskError: the data cannot show a stated risk to be kept, or a risk is stated that the model cannot run.
    """
    stated.check_for(card.good_class)
    drawing = _Drawing(groups, stated, data_sha256)
    if card.good_class is None:
        sure = np.array([prediction.probability for prediction in predictions], np.float32)
        named = np.array([[label in prediction.labels for label in card.classes] for prediction in predictions])
        lines = ReviewLines(sure_from=drawing.sure_from(sure, (named != targets).any(axis=1)))
        decision = None
    else:
        defect = np.array([prediction.defect_probability for prediction in predictions], np.float32)
        defective = ~targets[:, card.classes.index(card.good_class)]
        lines = ReviewLines(drawing.good_below(defect, defective), drawing.defect_from(defect, ~defective))
        # What a stated risk of escapes is about is all that is called good, so a doubtful image is called defective.
        decision = _EVEN if stated.escapes is None else lines.good_below
    thresholds = replace(card.thresholds, decision=decision, review=lines)
    return card.with_settings(thresholds=thresholds, origins=tuple(drawing.origins))


class _Drawing:
    """Draws one line after another and keeps where they come from."""

    def __init__(self, groups: Sequence[str], stated: StatedRisks, data_sha256: str) -> None:
        self._groups, self._stated, self._sha256 = np.asarray(groups), stated, data_sha256
        self.origins: list[LineOrigin] = []

    def good_below(self, defect: NDArray[np.float32], defective: NDArray[np.bool_]) -> float:
        """The probability of any defect below which images pass as good."""
        line = self._line("escapes", "defective", defect[defective], self._groups[defective], _EVEN)
        if line.value <= 0 and self._stated.escapes is not None:
            self._refuse("escapes", line, "good")
        return self._keep("escapes", line, line.value, defective, defect < line.value)

    def defect_from(self, defect: NDArray[np.float32], fine: NDArray[np.bool_]) -> float:
        """The probability of any defect from which images are called defective."""
        line = self._line("overkill", "good", -defect[fine], self._groups[fine], -_BELOW_EVEN)
        value = _above(-line.value)
        if value > 1 and self._stated.overkill is not None:
            self._refuse("overkill", line, "defective")
        value = min(value, 1.0)
        return self._keep("overkill", line, value, fine, defect >= value)

    def sure_from(self, sure: NDArray[np.float32], wrong: NDArray[np.bool_]) -> float:
        """The probability of the decided class from which it stands."""
        # What is right fails at no line.
        line = self._line("errors", "", np.where(wrong, -sure, np.float32(1)), self._groups, -_BELOW_NONE)
        value = max(0.0, _above(-line.value))
        if value > 1 and self._stated.errors is not None:
            self._refuse("errors", line, "of a wrong class")
        value = min(value, 1.0)
        return self._keep("errors", line, value, np.ones_like(wrong), wrong & (sure >= value))

    def _line(
        self,
        name: Literal["escapes", "overkill", "errors"],
        kind: str,
        scores: NDArray[np.float32],
        groups: NDArray[np.str_],
        limit: float,
    ) -> Line:
        """The line over parts, each at the score of its first image to fail: the lowest."""
        keys, part = np.unique(groups, return_inverse=True)
        worst = np.full(len(keys), np.inf, np.float32)
        np.minimum.at(worst, part, scores)
        return highest_line(worst, self._stated.risk(name), limit, name, kind)

    def _refuse(self, name: str, line: Line, what: str) -> None:
        raise RiskError(
            f"no line keeps {name} to {percent(line.rate)}: too many of the {line.parts} parts are surely {what} to "
            "the model and are not; state a higher rate, look at these images' labels, or train the model further"
        )

    def _keep(
        self,
        name: Literal["escapes", "overkill", "errors"],
        line: Line,
        value: float,
        counted: NDArray[np.bool_],
        failing: NDArray[np.bool_],
    ) -> float:
        """Keep where a line comes from; `failing` are those, if counted, that are decided wrongly alone."""
        failures = len(np.unique(self._groups[counted & failing]))
        # No line lies above certainty, so more may fail there than a default rate allows: then it is a higher one.
        rate = max(line.rate, (failures + 1) / (line.parts + 1)) if failures > line.failures else line.rate
        self.origins.append(
            LineOrigin(
                line=name,
                rate=rate,
                confidence=self._stated.risk(name).confidence,
                value=value,
                failures=failures,
                parts=line.parts,
                images=int(counted.sum()),
                bound=line.bound,
                data_sha256=self._sha256,
            )
        )
        return value


def _above(value: float) -> float:
    """The next probability that a decision can have."""
    return float(np.nextafter(np.float32(value), np.float32(2)))
