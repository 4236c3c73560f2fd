"""Decisions with their evidence: recorded once by key, read back bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import insert, select

from db import environments
from db.errors import UnknownModelVersionError
from db.inserting import insert_once
from db.keys import canonical_sha256, sha256_hex
from db.records import Decision, DecisionSettings, Explanation, NewDecision, Recorded, VisualizationMap
from db.schema import AttributionMapRow, DecisionRow, EnvironmentRow, ModelVersionRow, VisualizationMapRow
from db.types import new_id, utc_now

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from db.records import Verdict


def record(session: Session, new: NewDecision) -> Recorded:
    """Keep a decision with its maps, unless its key was recorded before; then the first recording stands.

    Safe to call from any number of processes at once.

    Raises:
        UnknownModelVersionError: no model version of this fingerprint is registered.
        ValueError: a hash is malformed, or a JSON field has no canonical form.
    """
    key = new.key
    known = find_id(session, key)
    if known is not None:
        return Recorded(known, is_new=False)
    decision_id = new_id()
    if not insert_once(session, DecisionRow, _columns(session, decision_id, key, new)):
        first = session.scalars(select(DecisionRow.decision_id).where(DecisionRow.decision_key == key)).one()
        return Recorded(first, is_new=False)
    _insert_maps(session, decision_id, new)
    return Recorded(decision_id, is_new=True)


def find_id(session: Session, decision_key: str) -> UUID | None:
    """The id under which a key was recorded."""
    return session.scalar(select(DecisionRow.decision_id).where(DecisionRow.decision_key == decision_key))


def find(session: Session, decision_id: UUID) -> Decision | None:
    """A decision with all its maps."""
    return _first(_select(session, DecisionRow.decision_id == decision_id))


def find_by_key(session: Session, decision_key: str) -> Decision | None:
    """A decision with all its maps, by its key."""
    return _first(_select(session, DecisionRow.decision_key == decision_key))


def find_by_image(session: Session, image_sha256: str) -> tuple[Decision, ...]:
    """All decisions on one image file, the oldest first."""
    return _select(session, DecisionRow.image_sha256 == image_sha256)


def _columns(session: Session, decision_id: UUID, key: str, new: NewDecision) -> dict[str, Any]:
    model_version_id = session.scalar(
        select(ModelVersionRow.model_version_id).where(ModelVersionRow.fingerprint == new.model_fingerprint)
    )
    if model_version_id is None:
        raise UnknownModelVersionError(
            f"no model version with fingerprint {new.model_fingerprint} is registered; register the model first"
        )
    return {
        "decision_id": decision_id,
        "decision_key": key,
        "image_sha256": new.image_sha256,
        "pixel_sha256": new.pixel_sha256,
        "image_width": new.image_width,
        "image_height": new.image_height,
        "image_media_type": new.image_media_type,
        "exif_orientation": new.exif_orientation,
        "model_version_id": model_version_id,
        "environment_sha256": environments.register(session, new.environment),
        "predicted_class": new.predicted_class,
        "probability": new.probability,
        "logits": new.logits,
        "scores": new.scores,
        "is_defect": new.is_defect,
        "verdict": new.verdict,
        "labels": new.labels,
        "distance": new.distance,
        "unlike_from": new.unlike_from,
        "settings": new.settings.content,
        "settings_sha256": new.settings.sha256,
        "environment_class": new.settings.environment_class,
        "explanation_method": new.settings.method,
        "masks_scored": new.masks_scored,
        "regions": new.regions,
        "regions_sha256": canonical_sha256(new.regions),
        "timings_ms": new.timings_ms,
        "started_at": new.started_at,
        "finished_at": new.finished_at,
        "recorded_at": utc_now(),
    }


def _insert_maps(session: Session, decision_id: UUID, new: NewDecision) -> None:
    fusions = [
        {
            "decision_id": decision_id,
            "class_name": explanation.class_name,
            "rank": explanation.rank,
            "height": explanation.height,
            "width": explanation.width,
            "masks_scored": explanation.masks_scored,
            "sha256": explanation.map_sha256,
            "tiles": explanation.tiles,
        }
        for explanation in new.explanations
    ]
    blocks = [
        {
            "decision_id": decision_id,
            "class_name": explanation.class_name,
            "block_index": block.block_index,
            "block_name": block.block_name,
            "channels": block.channels,
            "height": block.height,
            "width": block.width,
            "grid": block.grid,
            "sha256": sha256_hex(block.grid),
        }
        for explanation in new.explanations
        for block in explanation.visualization_maps
    ]
    if fusions:
        session.execute(insert(AttributionMapRow), fusions)
    if blocks:
        session.execute(insert(VisualizationMapRow), blocks)


def _first(found: tuple[Decision, ...]) -> Decision | None:
    return found[0] if found else None


def _select(session: Session, condition: ColumnElement[bool]) -> tuple[Decision, ...]:
    rows = session.execute(
        select(DecisionRow, ModelVersionRow.fingerprint, EnvironmentRow.content)
        .join(ModelVersionRow, ModelVersionRow.model_version_id == DecisionRow.model_version_id)
        .join(EnvironmentRow, EnvironmentRow.sha256 == DecisionRow.environment_sha256)
        .where(condition)
        .order_by(DecisionRow.decision_id)
    )
    return tuple(_record(session, row, fingerprint, content) for row, fingerprint, content in rows.all())


def _record(session: Session, row: DecisionRow, fingerprint: str, environment: Any) -> Decision:
    return Decision(
        decision_id=row.decision_id,
        decision_key=row.decision_key,
        image_sha256=row.image_sha256,
        pixel_sha256=row.pixel_sha256,
        image_width=row.image_width,
        image_height=row.image_height,
        image_media_type=row.image_media_type,
        exif_orientation=row.exif_orientation,
        model_fingerprint=fingerprint,
        model_version_id=row.model_version_id,
        settings=DecisionSettings(
            method=row.settings["method"],
            explanation=row.settings["explanation"],
            thresholds=row.settings["thresholds"],
            batch_shape=tuple(row.settings["batch_shape"]),
            seed=row.settings["seed"],
            environment_class=row.environment_class,
        ),
        settings_sha256=row.settings_sha256,
        environment=environment,
        environment_sha256=row.environment_sha256,
        predicted_class=row.predicted_class,
        probability=row.probability,
        logits=row.logits,
        scores=row.scores,
        is_defect=row.is_defect,
        verdict=cast("Verdict", row.verdict),
        labels=tuple(row.labels),
        distance=row.distance,
        unlike_from=row.unlike_from,
        masks_scored=row.masks_scored,
        regions=row.regions,
        regions_sha256=row.regions_sha256,
        timings_ms=row.timings_ms,
        started_at=row.started_at,
        finished_at=row.finished_at,
        recorded_at=row.recorded_at,
        explanations=_explanations(session, row.decision_id),
    )


def _explanations(session: Session, decision_id: UUID) -> tuple[Explanation, ...]:
    maps: dict[str, list[VisualizationMap]] = {}
    for block in session.scalars(
        select(VisualizationMapRow)
        .where(VisualizationMapRow.decision_id == decision_id)
        .order_by(VisualizationMapRow.class_name, VisualizationMapRow.block_index)
    ):
        maps.setdefault(block.class_name, []).append(
            VisualizationMap(
                block_index=block.block_index,
                block_name=block.block_name,
                channels=block.channels,
                height=block.height,
                width=block.width,
                grid=block.grid,
            )
        )
    fusions = session.scalars(
        select(AttributionMapRow).where(AttributionMapRow.decision_id == decision_id).order_by(AttributionMapRow.rank)
    )
    return tuple(
        Explanation(
            class_name=fusion.class_name,
            rank=fusion.rank,
            height=fusion.height,
            width=fusion.width,
            masks_scored=fusion.masks_scored,
            map_sha256=fusion.sha256,
            tiles=fusion.tiles,
            visualization_maps=tuple(maps.get(fusion.class_name, ())),
        )
        for fusion in fusions
    )
