"""From a network's outputs to a decision: probabilities, the called classes, and whether the model decides alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import expit, softmax  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection_models.model_card import ModelCard

Verdict = Literal["good", "defect", "review"]


@dataclass(frozen=True)
class Prediction:
    """The decision on one image.

    Attributes:
        index: of the decided class; of the most probable defect class where there are several.
        label: its name.
        probability: its calibrated probability, 0 to 1.
        probabilities: float32 [C], calibrated, in the order of the classes; under softmax they sum to 1.
        logits: float32 [C], the network's output.
        is_defect: whether the decided class is another than the good one; said of images for review, too.
        verdict: ``good`` or ``defect`` where the model decides alone, ``review`` where a person should.
        labels: all decided classes, the most probable first: one under softmax, one or more under sigmoid.
        defect_probability: of any defect, 0 to 1; 1 where there is no good class.
        distance: from what the model was trained on, 0 to 2, see `Familiarity`; None where the model does not know it.
        tile_logits: float32 [T, C], the network's output on each of the image's `Tiling.views`, of which `logits` are
            merged; None where the model has no tiling.
    """

    index: int
    label: str
    probability: float
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    is_defect: bool
    verdict: Verdict
    labels: tuple[str, ...]
    defect_probability: float
    tile_logits: NDArray[np.float32] | None = None
    distance: float | None = None


def probabilities_of(card: ModelCard, logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Calibrated probabilities float64 [..., C] of logits [..., C].

    Softmax of the logits over the temperature, or the sigmoid of each logit over the temperature of its class.
    """
    scaled = logits.astype(np.float64) / card.calibration.divisors
    found: NDArray[np.float64] = softmax(scaled, axis=-1) if card.activation == "softmax" else expit(scaled)
    return found


def decide(card: ModelCard, logits: NDArray[np.float32], distance: float | None = None) -> Prediction:
    """The decision on logits [C] of an image at a distance from what the model was trained on, where that is known.

    Raises:
        RuntimeError: a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise RuntimeError(f"model {card.model_version} gave logits that are not finite; its weights are unusable")
    probabilities = probabilities_of(card, logits)
    # What is compared with a line is what is kept, so that a record's figures agree with its verdict to the last bit.
    rounded = probabilities.astype(np.float32)
    defect = 1.0 if card.good_class is None else float(np.float32(1.0 - probabilities[_good(card)]))
    called = _called(card, rounded, defect)
    labels = tuple(card.classes[index] for index in called)
    is_defect = labels[0] != card.good_class
    verdict = _verdict(card, float(rounded[called[0]]), defect, is_defect=is_defect)
    if distance is not None and card.familiarity is not None and distance > card.familiarity.line:
        verdict = "review"
    return Prediction(
        index=called[0],
        label=labels[0],
        probability=float(rounded[called[0]]),
        probabilities=rounded,
        logits=logits,
        is_defect=is_defect,
        verdict=verdict,
        labels=labels,
        defect_probability=defect,
        distance=distance,
    )


def _good(card: ModelCard) -> int:
    return card.classes.index(str(card.good_class))


def _called(card: ModelCard, probabilities: NDArray[np.float32], defect: float) -> tuple[int, ...]:
    """Indices of the decided classes, the most probable first."""
    order = [int(index) for index in np.argsort(-probabilities, kind="stable")]
    if card.good_class is not None:
        line = card.thresholds.decision
        if line is None and card.activation == "softmax":
            return (order[0],)
        good = _good(card)
        if defect < (0.5 if line is None else line):
            return (good,)
        order.remove(good)
    if card.activation == "softmax":
        return (order[0],)
    lines = card.thresholds.classes
    return (order[0], *(i for i in order[1:] if probabilities[i] >= lines.get(card.classes[i], 0.5)))


def _verdict(card: ModelCard, confidence: float, defect: float, *, is_defect: bool) -> Verdict:
    lines = card.thresholds.review
    if card.good_class is None:
        return "review" if lines.sure_from is not None and confidence < lines.sure_from else "defect"
    if (lines.good_below is not None and lines.good_below <= defect and not is_defect) or (
        lines.defect_from is not None and defect < lines.defect_from and is_defect
    ):
        return "review"
    return "defect" if is_defect else "good"
