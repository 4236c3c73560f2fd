"""The picture that a labeling page shows beside a photograph: what the record has to say on why."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import ValidationError

from backend.label_studio.image_addresses import address_sha256, as_in_task
from backend.label_studio.image_source import ImageSourceError
from backend.recorded_maps import RecordedMapError, as_recorded, recorded_map, recorded_probability, registered_card
from db import decisions, model_versions, predictions
from inspection_models.evidence_sheet import ClassEvidence, EvidenceSheet, draw_notice, draw_sheet
from inspection_models.images import ImageError, decode_image

if TYPE_CHECKING:
    from uuid import UUID

    from backend.label_studio.image_source import ImageSource
    from backend.models_in_use import ModelsInUse
    from db.engine import Database
    from db.records import Decision, Prediction
    from inspection_models.model_card import ModelCard

logger = logging.getLogger(__name__)

_SHOWN = 2
# One sentence for all of it: who has an address must not learn of files that are none of the project's.
_NOTHING = (
    "No map: this photograph was not judged in this project yet, was replaced since, or cannot be read.",
    "When it has been judged, reload the page.",
)


class MapPictures:
    """Draws what was recorded of photographs.

    Args:
        images: reads photographs, within its bounds. It is asked only for what was judged.
        database: has the decisions.
        models: knows which model answers for which project.
        instance: base URL of the Label Studio that shows the pictures.
        max_pixels: bound on a photograph.
    """

    def __init__(
        self, images: ImageSource, database: Database, models: ModelsInUse, *, instance: str, max_pixels: int
    ) -> None:
        self._images = images
        self._database = database
        self._models = models
        self._instance = instance
        self._max_pixels = max_pixels

    def picture(self, project_id: int, address: str) -> bytes:
        """A JPEG for the photograph at a task's address: the maps of the decision that was told to the project last.

        What the model version in use has told comes before that; where it has told nothing, the sheet says so.

        What cannot be shown is said in the picture. A file is read only where a prediction for this project was made of
        the image at its address, so that the reader's address opens no other door with the desk's key. The photograph's
        bytes then find the decision, so that one which was replaced under the same address is not shown with its
        predecessor's map, and none that belongs to another project is shown at all.

        Raises:
            DatabaseError: the database is away.
        """
        with self._database.read() as session:
            told = predictions.latest_for_address(
                session,
                instance=self._instance,
                project_id=project_id,
                image_address_sha256=address_sha256(address),
            )
        if told is None:
            return draw_notice(_NOTHING)
        try:
            # In a bucket, by the task that it was judged for: the page's link could name any task.
            photograph = self._images.fetch(as_in_task(address), task_id=told.task_id)
        except ImageSourceError as error:
            logger.warning("project %s: no map is shown: %s", project_id, error)
            return draw_notice(_NOTHING)
        model = self._models.in_use(project_id)
        in_use = None if model is None else model.model_version
        found = self._sent(project_id, photograph.sha256, in_use)
        if found is None:
            return draw_notice(_NOTHING)
        sent, decision_id = found
        try:
            return self._sheet(sent, decision_id, photograph.data, in_use)
        except (RecordedMapError, ImageError, ValidationError) as error:
            logger.warning("project %s, decision %s: no map is shown: %s", project_id, decision_id, error)
            return draw_notice((f"No map: that of decision {decision_id} cannot be drawn by this release.",))

    def _sent(self, project_id: int, image_sha256: str, in_use: str | None) -> tuple[Prediction, UUID] | None:
        """What was told to the project last of these very bytes, by the version in use before any other, and the
        decision on them."""
        with self._database.read() as session:
            return predictions.latest_for_image(
                session, instance=self._instance, project_id=project_id, image_sha256=image_sha256, model_version=in_use
            )

    def _sheet(self, sent: Prediction, decision_id: UUID, data: bytes, in_use: str | None) -> bytes:
        with as_recorded(decision_id), self._database.read() as session:
            decision = decisions.find(session, decision_id)
            model = model_versions.find(session, decision.model_version_id) if decision is not None else None
        if decision is None or model is None:
            raise RecordedMapError(f"decision {decision_id} or its model version is not in the record")
        card = registered_card(dict(model.card or {}))
        pixels = decode_image(data, max_pixels=self._max_pixels).pixels
        evidence = []
        for one in decision.explanations[:_SHOWN]:
            probability = recorded_probability(decision, one)
            strength = _strength(card, one.class_name, probability)
            evidence.append(ClassEvidence(one.class_name, probability, recorded_map(decision, one, card), strength))
        footnote = f"{decision.settings.method} · {sent.model_version} · decision {decision.decision_id}"
        return draw_sheet(
            EvidenceSheet(pixels, tuple(evidence), (*_by_another(sent, in_use), *_remarks(decision)), footnote)
        )


def _by_another(sent: Prediction, in_use: str | None) -> tuple[str, ...]:
    if in_use in (None, sent.model_version):
        return ()
    return (f"By {sent.model_version}. The version in use now, {in_use}, has not judged this photograph here.",)


def _strength(card: ModelCard, label: str, probability: float) -> float | None:
    """On the absolute scale, which is learned of maps that speak for a defect."""
    return None if label == card.good_class else card.regions.strength(probability)


def _small(probability: float) -> str:
    return f"{probability:.3f}" if probability >= 0.0005 else "below 0.001"


def _remarks(decision: Decision) -> tuple[str, ...]:
    """What is not shown, and why: sentences for the inspector."""
    explained = [one.class_name for one in decision.explanations]
    told = []
    if not explained:
        told.append(f"{decision.predicted_class}  {decision.probability:.2f}")
        told.append("No map was made: no defect is probable enough to be explained.")
    ranked = sorted(decision.scores, key=lambda name: -float(decision.scores[name]))
    following = [name for name in ranked if name not in explained and name != decision.predicted_class]
    if len(explained) < _SHOWN and following:
        told.append(f"Next: {following[0]}  {_small(float(decision.scores[following[0]]))}; no map.")
    if len(explained) > _SHOWN:
        told.append(f"Also explained, not shown: {', '.join(explained[_SHOWN:])}.")
    return tuple(told)
