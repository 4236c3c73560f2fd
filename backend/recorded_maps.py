"""Attribution maps as they stand in the record: rendered again from the visualization maps, nothing computed anew."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
from pydantic import TypeAdapter

from inspection_models.attribution.fusion import render_map
from inspection_models.model_card import ModelCard
from inspection_models.stitching import ExplainedTile, stitch
from inspection_models.tiling import Tile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from numpy.typing import NDArray

    from db.records import Decision, Explanation
    from inspection_models.attribution.fusion import Gate

_CARD = TypeAdapter(ModelCard)


class RecordedMapError(RuntimeError):
    """The record does not give the map that it has the hash of."""


def registered_card(content: Mapping[str, object]) -> ModelCard:
    """A model card from its content in SQL.

    Raises:
        pydantic.ValidationError: another release wrote it.
    """
    return _CARD.validate_json(json.dumps(content))


def recorded_map(decision: Decision, explanation: Explanation, card: ModelCard) -> NDArray[np.float32]:
    """The map for one explained class of a decision.

    Returns:
        Float32 [h, w] in [0, 1] that covers the photograph from edge to edge: the network's cells under it, or of an
        image that was looked at in tiles the stitched map.

    Raises:
        RecordedMapError: nothing was recorded, or what was gives no map or another one.
    """
    with as_recorded(decision.decision_id):
        return _rendered(decision, explanation, card)


def recorded_probability(decision: Decision, explanation: Explanation) -> float:
    """The probability, 0 to 1, of an explained class.

    Raises:
        RecordedMapError: the decision has none.
    """
    with as_recorded(decision.decision_id):
        return float(decision.scores[explanation.class_name])


@contextmanager
def as_recorded(decision_id: UUID) -> Iterator[None]:
    """Whatever a row that was changed, or is another release's, makes go wrong is the record's fault.

    Raises:
        RecordedMapError: instead of what went wrong.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise RecordedMapError(
            f"what was recorded of decision {decision_id} gives no map ({type(error).__name__}: {error}): its "
            "rows were changed, or another release made it"
        ) from error


def _rendered(decision: Decision, explanation: Explanation, card: ModelCard) -> NDArray[np.float32]:
    if not explanation.visualization_maps:
        raise RecordedMapError(f"decision {decision.decision_id} has no visualization maps")
    network = card.preprocessing.size
    count = 1 if explanation.tiles is None else len(explanation.tiles["shown"])
    grids = [
        np.frombuffer(block.grid, "<f4").reshape(count, block.height // count, block.width)
        for block in explanation.visualization_maps
    ]
    maps, _ = render_map(grids, network, cast("Gate", decision.settings.explanation["gate"]))
    size = (decision.image_height, decision.image_width)
    if explanation.tiles is None:
        _check(maps[0], explanation, decision)
        return card.preprocessing.placement(size).content_of(maps[0])
    if card.tiling is None:
        raise RecordedMapError(f"decision {decision.decision_id} has tiles and its model cuts none")
    shown = [
        ExplainedTile(Tile(one["top"], one["left"], one["height"], one["width"]), one["probability"])
        for one in explanation.tiles["shown"]
    ]
    stitched = stitch(maps, shown, card.tiling, card.preprocessing, size)
    _check(stitched, explanation, decision)
    return stitched


def _check(rendered: NDArray[np.float32], explanation: Explanation, decision: Decision) -> None:
    found = hashlib.sha256(np.ascontiguousarray(rendered, dtype="<f4").tobytes()).hexdigest()
    if found != explanation.map_sha256:
        raise RecordedMapError(
            f"the map for {explanation.class_name!r} of decision {decision.decision_id} does not come out as recorded: "
            "its rows were changed, or another release made it"
        )
