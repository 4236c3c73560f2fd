"""Why a large image is of a class: the tiles that matter, explained one by one and stitched into one map."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inspection_models.attribution import Attribution, attribute
from inspection_models.deciding import probabilities_of
from inspection_models.stitching import ExplainedTile, stitch
from inspection_models.tile_decisions import handicapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from inspection_models.classifier import DefectClassifier
    from inspection_models.deciding import Prediction
    from inspection_models.tiling import Tile

MOST_EXPLAINED = 12
"""Tiles explained for a class at most: four show a defect in the corner of all of them, so this is enough for three."""

WORTH_EXPLAINING = 0.10
"""Probability of the class, under which a tile stays dark."""


@dataclass(frozen=True)
class ExplainedTiles:
    """Which of an image's tiles its map was stitched from.

    Attributes:
        shown: those explained, in the order of the attribution's batch, the most probable first.
        worthy: how many were probable enough; more than are shown where it is above `MOST_EXPLAINED`.
        looked_at: how many the image has, its overview among them.
    """

    shown: tuple[ExplainedTile, ...]
    worthy: int
    looked_at: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON: `shown`, each with top, left, height, width and probability, and the two counts."""
        return {
            "shown": [{**asdict(one.tile), "probability": one.probability} for one in self.shown],
            "worthy": self.worthy,
            "looked_at": self.looked_at,
        }


@dataclass(frozen=True)
class TiledExplanation:
    """Why a large image is, or might be, of one class.

    Attributes:
        attribution: of the K explained tiles, in the network's pixels, [K, ...].
        tiles: where they lie.
        attribution_map: float32 [h, w] in [0, 1], of `stitching.map_size`.
    """

    attribution: Attribution
    tiles: ExplainedTiles
    attribution_map: NDArray[np.float32]


def explain_tiles(
    classifier: DefectClassifier,
    pixels: NDArray[np.uint8],
    prediction: Prediction,
    label: str,
    method: str,
    options: Mapping[str, Any],
) -> TiledExplanation:
    """Explain class `label` of an image uint8 [H, W, 3] of more than one tile, that `prediction` was made on.

    Raises:
        AttributionError: as `attribute`.
        ValueError: the classifier has no tiling, or the prediction is not of such an image.
    """
    tiling, logits = classifier.card.tiling, prediction.tile_logits
    if tiling is None or logits is None:
        raise ValueError("only images that were judged in tiles are explained in tiles")
    size = (pixels.shape[0], pixels.shape[1])
    views = tiling.views(size)
    index = classifier.classes.index(label)
    probabilities = tile_probabilities(classifier, logits)[:, index]
    worthy = max(1, int((probabilities >= WORTH_EXPLAINING).sum()))
    chosen = choose_tiles(views, probabilities, min(worthy, MOST_EXPLAINED))
    inputs = torch.stack([classifier.preprocessing.apply(views[place].cut(pixels))[0] for place in chosen])
    attribution = attribute(
        classifier.network,
        inputs,
        torch.full((len(chosen),), index),
        method=method,
        activation=classifier.card.activation,
        **options,
    )
    explained = tuple(ExplainedTile(views[place], float(probabilities[place])) for place in chosen)
    stitched = stitch(np.asarray(attribution.map), explained, tiling, classifier.preprocessing, size)
    return TiledExplanation(attribution, ExplainedTiles(explained, worthy, len(views)), stitched)


def tile_probabilities(classifier: DefectClassifier, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Calibrated probabilities [T, C] of an image's T tiles, on the image's scale: its own are those of the worst."""
    card = classifier.card
    if card.tiling is None or card.good_class is None or len(logits) == 1:
        return probabilities_of(card, logits)
    good = card.classes.index(card.good_class)
    return probabilities_of(card, handicapped(logits, good, card.activation, card.tiling.growth))


def choose_tiles(views: Sequence[Tile], probabilities: NDArray[np.float64], count: int) -> tuple[int, ...]:
    """Places of `count` views, the most probable first, but the neighbours of one chosen only after all others.

    So that of several defects each is explained before any is explained again.
    """
    order = [int(place) for place in np.argsort(-probabilities, kind="stable")]
    worthy = [place for place in order if probabilities[place] >= WORTH_EXPLAINING] or order[:1]
    apart: list[int] = []
    for place in worthy:
        # The overview meets all tiles and is a neighbour of none.
        if not any(views[place].meets(views[other]) and _alike(views[place], views[other]) for other in apart):
            apart.append(place)
    rest = [place for place in worthy if place not in set(apart)]
    chosen = (apart + rest)[:count]
    return tuple(sorted(chosen, key=order.index))


def _alike(one: Tile, other: Tile) -> bool:
    return (one.height, one.width) == (other.height, other.width)
