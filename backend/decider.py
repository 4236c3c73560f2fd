"""From an image's bytes to a recorded decision: computed once for one image, model, settings and kind of machine."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from backend import decision_regions
from backend.model_registration import registration
from db import decisions, model_versions
from db.records import DecisionSettings, Explanation, NewDecision, VisualizationMap
from inspection_models.environment import environment
from inspection_models.model_card import ModelCard
from inspection_models.tile_decisions import TILE_BATCH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backend.pipeline import ClassExplanation, DecisionPipeline, ExplainedImage
    from db.engine import Database
    from db.records import Decision

_CARD = TypeAdapter(ModelCard)


class Decider:
    """Decides images with one model and keeps every decision.

    Args:
        pipeline: computes.
        database: remembers; the model version is registered in it at once.

    Raises:
        DatabaseError: the database cannot be written.
    """

    def __init__(self, pipeline: DecisionPipeline, database: Database) -> None:
        self._pipeline = pipeline
        self._database = database
        self._environment = environment(str(next(pipeline.classifier.network.parameters()).device))
        self._settings = _settings(pipeline, self._environment)
        with database.write() as session:
            model_versions.register(session, registration(pipeline.classifier.card))

    def decide(self, data: bytes) -> Decision:
        """The decision on an image: the recorded one where there is one, else a new one, recorded.

        Raises:
            ImageError: the bytes are no image, or one beyond the bounds.
            DatabaseError: the database cannot be read or written; nothing is kept then.
        """
        known = self.recall(data)
        if known is not None:
            return known
        started = datetime.now(timezone.utc)
        explained = self._pipeline.explain(data)
        decision = self._new_decision(explained, started, datetime.now(timezone.utc))
        with self._database.write() as session:
            decisions.record(session, decision)
        kept = self.recall(data)
        if kept is None:
            raise RuntimeError(f"decision {decision.key} was recorded and is not there; run `inspection db check`")
        return kept

    def recall(self, data: bytes) -> Decision | None:
        """The recorded decision on an image; None where there is none. Nothing is computed.

        Raises:
            DatabaseError: the database cannot be read.
        """
        key = self._settings.decision_key(
            image_sha256=hashlib.sha256(data).hexdigest(),
            model_fingerprint=self._pipeline.classifier.version.fingerprint,
        )
        with self._database.read() as session:
            return decisions.find_by_key(session, key)

    def explain_class(self, data: bytes, label: str, *, patience: float) -> ExplainedImage:
        """Why an image would be of a class, computed and not recorded; starts within `patience` seconds or not at all.

        Raises:
            ImageError: the bytes are no image, or one beyond the bounds.
            ClassChoiceError: the class is not one of the model's.
            PipelineBusyError: other images take longer.
        """
        return self._pipeline.explain(data, classes=(label,), patience=patience)

    @property
    def card(self) -> ModelCard:
        """The card of the model that decides."""
        return self._pipeline.classifier.card

    def _new_decision(self, explained: ExplainedImage, started: datetime, finished: datetime) -> NewDecision:
        image, prediction = explained.image, explained.prediction
        familiarity = self._pipeline.classifier.card.familiarity
        height, width = image.pixels.shape[:2]
        return NewDecision(
            image_sha256=image.sha256,
            pixel_sha256=image.pixel_sha256,
            image_width=width,
            image_height=height,
            image_media_type=image.media_type,
            exif_orientation=image.exif_orientation,
            model_fingerprint=self._pipeline.classifier.version.fingerprint,
            settings=self._settings,
            environment=self._environment,
            predicted_class=prediction.label,
            probability=prediction.probability,
            logits=_little_endian(prediction.logits),
            scores={
                name: float(p)
                for name, p in zip(self._pipeline.classifier.classes, prediction.probabilities, strict=True)
            },
            is_defect=prediction.is_defect,
            verdict=prediction.verdict,
            labels=prediction.labels,
            distance=prediction.distance,
            unlike_from=None if familiarity is None else familiarity.line,
            masks_scored=explained.masks_scored,
            regions=[
                decision_regions.to_record(region, one.label, one.probability)
                for one in explained.explanations
                for region in one.regions
            ],
            timings_ms=dict(explained.timings_ms),
            started_at=started,
            finished_at=finished,
            explanations=tuple(_explanation(rank, one) for rank, one in enumerate(explained.explanations, start=1)),
        )


def _settings(pipeline: DecisionPipeline, surroundings: dict[str, Any]) -> DecisionSettings:
    card = pipeline.classifier.card
    content = _CARD.dump_python(card, mode="json")
    return DecisionSettings(
        method=card.explanation.method,
        explanation=pipeline.explanation_record,
        thresholds=content["thresholds"],
        batch_shape=(1 if card.tiling is None else TILE_BATCH, 3, *card.preprocessing.size),
        environment_class=_environment_class(surroundings, pipeline.engines),
    )


def _environment_class(surroundings: dict[str, Any], engines: frozenset[str]) -> str:
    """Machines on which the same bits are expected: the same runtimes, one kind of processor, as many threads."""
    flags = "+".join(surroundings["cpu"]["flags"])
    runtime = f"onnxruntime {surroundings['packages']['onnxruntime']}/" if "onnxruntime" in engines else ""
    return (
        f"{surroundings['machine']}({flags})/{surroundings['device']}/torch {surroundings['torch_build']}/{runtime}"
        f"{surroundings['torch_threads']} threads"
    )


def _explanation(rank: int, explained: ClassExplanation) -> Explanation:
    attribution, tiles = explained.attribution, explained.tiles
    # The map on the grid where it was made; of tiles that is the stitched one.
    rendered = np.asarray(attribution.map[0]) if tiles is None else explained.attribution_map
    return Explanation(
        class_name=explained.label,
        rank=rank,
        height=rendered.shape[0],
        width=rendered.shape[1],
        masks_scored=explained.masks_scored,
        map_sha256=hashlib.sha256(_little_endian(rendered)).hexdigest(),
        visualization_maps=tuple(
            VisualizationMap(
                block_index=index,
                block_name=block.name,
                channels=block.channels,
                height=grids.shape[0] * grids.shape[1],
                width=grids.shape[2],
                grid=_little_endian(np.asarray(grids)),
            )
            for index, (block, grids) in enumerate(zip(attribution.blocks, attribution.block_grids, strict=True))
        ),
        tiles=None if tiles is None else tiles.to_dict(),
    )


def _little_endian(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()
