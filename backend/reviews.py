"""What inspectors did, as reviews: each annotation event compared with the prediction that it judges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError

from backend.label_studio.binding import Binding, bind_known
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.labeling_config import ANSWER_NAME, LabelingConfigError, is_summary, parse
from backend.label_studio.payloads import Annotation, WebhookRequest
from backend.label_studio.payloads import Prediction as StoredPrediction
from backend.part_verdict import judge_part
from backend.predictions import configuration_sha256
from backend.region_changes import value_of
from backend.review_comparison import Comparison, compare
from backend.worker import JobRefusedError
from db import actors, decisions, labeling_configurations, model_versions, predictions, reviews
from db.keys import canonical_sha256
from db.records import NewReview

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from backend.label_studio.labeling_config import LabelingConfig
    from backend.settings import Settings
    from backend.worker import Effect
    from db.engine import Database
    from db.records import Action, Decision, FoundBy, Job, Prediction

WEBHOOK_JOB = "webhook"
_ACTIONS: Mapping[str, Action] = {
    "ANNOTATION_CREATED": "created",
    "ANNOTATIONS_CREATED": "created",
    "ANNOTATION_UPDATED": "updated",
    "ANNOTATIONS_DELETED": "deleted",
}


StoredPredictions: TypeAlias = "Callable[[int], Mapping[str, Any] | None]"
"""Gives a prediction that Label Studio has by its number there; None where it has none."""

# A deletion may overtake the event that tells of what was deleted; after these attempts it is kept without.
_PATIENCE_ATTEMPTS = 4


class OvertakenError(RuntimeError):
    """An event came before the one it builds upon; to be tried again later."""


@dataclass(frozen=True)
class Source:
    """Where an event was learned of.

    Attributes:
        found_by: as the review says it.
        payload_sha256: of the message, or of what stands in its stead.
        is_patient: whether a deletion of what is not known yet is put off.
    """

    found_by: FoundBy
    payload_sha256: str
    is_patient: bool


class ReviewService:
    """Turns annotation events into reviews.

    Args:
        database: has the predictions that are judged, and takes the reviews.
        settings: which Label Studio the events come from, and how classes are named there.
        stored: asks Label Studio for the prediction that an annotation was made from, where an event brings another;
            that other is taken if None.
    """

    def __init__(self, database: Database, settings: Settings, stored: StoredPredictions | None = None) -> None:
        self._database = database
        self._stored = stored
        self._instance = settings.label_studio_url
        self._mapping = settings.label_mapping

    def handle(self, job: Job) -> Effect:
        """The reviews that a webhook's event stands for, as the effect that records them.

        Raises:
            JobRefusedError: the payload is no annotation event, or its labeling configuration cannot be read.
            OvertakenError: it tells of the deletion of what is not known yet, and may be so in a while.
            LabelStudioError: Label Studio, which has the prediction that was judged, is away or refuses.
            DatabaseError: the database is away.
        """
        return self.judge(job.payload, Source("webhook", job.payload_sha256, job.attempts < _PATIENCE_ATTEMPTS))

    def judge(self, event: Any, source: Source) -> Effect:
        """The reviews that an event stands for, in the words of a webhook, as the effect that records them.

        Raises:
            JobRefusedError: it is no annotation event, or its labeling configuration cannot be read.
            OvertakenError: it tells of the deletion of what is not known yet, from a patient source.
            LabelStudioError: Label Studio, which has the prediction that was judged, is away or refuses.
            DatabaseError: the database is away.
        """
        try:
            request = WebhookRequest.model_validate(event)
            action = _ACTIONS[request.action]
        except (ValidationError, KeyError) as error:
            raise JobRefusedError(f"this is no annotation event: {error}") from error
        if not request.annotations:
            raise JobRefusedError(f"the event {request.action} names no annotation")
        judged = [self._review(request, annotation, action, source) for annotation in request.annotations]

        def effect(session: Session) -> None:
            for review, user in judged:
                actor = (
                    actors.pseudonym(session, instance=self._instance, ls_user_id=user) if user is not None else None
                )
                reviews.record(session, replace(review, actor_id=actor))

        return effect

    def _review(
        self, request: WebhookRequest, annotation: Annotation, action: Action, source: Source
    ) -> tuple[NewReview, int | None]:
        if action == "deleted":
            return self._deletion(request, annotation, source), annotation.updated_by or annotation.completed_by
        task_id = annotation.task if annotation.task is not None else next((task.id for task in request.tasks), None)
        final = annotation.result or []
        review = NewReview(
            instance=self._instance,
            project_id=request.project_id or annotation.project_id or 0,
            task_id=task_id,
            annotation_id=annotation.id,
            action=action,
            regions_final=[item for item in final if item.get("type") != "choices" and not _is_told(item)],
            result_sha256=canonical_sha256(final),
            lead_time_s=annotation.lead_time if (annotation.lead_time or 0) >= 0 else None,
            ground_truth=annotation.ground_truth,
            was_cancelled=annotation.was_cancelled,
            parent_prediction=annotation.parent_prediction,
            parent_annotation=annotation.parent_annotation,
            annotation_created_at=annotation.created_at,
            annotation_updated_at=annotation.updated_at,
            payload_sha256=source.payload_sha256,
            found_by=source.found_by,
        )
        # What was found afterwards is the state of the last edit, also where nothing is known of the creation.
        is_edit = action == "updated" or source.found_by == "reconciling"
        user = annotation.updated_by if is_edit else annotation.completed_by
        return self._compared(review, request, annotation), user if user is not None else annotation.completed_by

    def _compared(self, review: NewReview, request: WebhookRequest, annotation: Annotation) -> NewReview:
        annotation = self._with_its_prediction(annotation)
        with self._database.read() as session:
            sent = _judged_prediction(session, self._instance, review.task_id, annotation)
            decision = decisions.find(session, sent.decision_id) if sent is not None else None
            if sent is None or decision is None:
                return review
            config = _config(request, decision)
            binding = self._binding(session, config, decision)
            decided = _decided(session, sent, decision, binding)
            made_for = self._former_binding(session, request, sent, binding)
            was_shown = self._was_shown(session, request, annotation, config.is_blind)
        comparison = compare(
            list(sent.result),
            annotation.result or [],
            binding=binding,
            predicted_in=made_for,
            decided=decided,
            is_for_review=decision.verdict == "review",
            was_cancelled=annotation.was_cancelled,
        )
        return replace(
            review,
            regions_final=[
                item for item in review.regions_final or () if item.get("from_name") not in binding.questions
            ],
            reasons=_reasons(annotation.result or [], binding),
            decision_id=decision.decision_id,
            prediction_id=sent.prediction_id,
            outcome=comparison.outcome,
            label_predicted=comparison.label_predicted,
            label_final=comparison.label_final,
            labels_final=comparison.labels_final,
            region_changes=_changes(comparison),
            mean_iou=comparison.mean_iou,
            model_output_shown=was_shown,
        )

    def _was_shown(
        self, session: Session, request: WebhookRequest, annotation: Annotation, is_blind: bool
    ) -> bool | None:
        """Whether the inspector saw the model's answer: not in a project that hides it; None where nobody knows.

        What hides predictions now may have shown them when the annotation was begun, and the other way round; so a
        project that hides them says nothing of an annotation that was recorded otherwise before.
        """
        begun_with = annotation.prediction
        says_nothing = is_blind and begun_with is not None and not begun_with.result
        if annotation.parent_prediction is not None and not says_nothing:
            return True
        hides = request.project is not None and request.project.show_collab_predictions is False
        if not (hides or is_blind):
            return None
        last = reviews.latest_for_annotation(session, instance=self._instance, annotation_id=annotation.id)
        return False if last is None else last.model_output_shown

    def _with_its_prediction(self, annotation: Annotation) -> Annotation:
        """With the prediction that it was made from: a webhook brings the first of the project's version instead."""
        parent, brought = annotation.parent_prediction, annotation.prediction
        if parent is None or self._stored is None or (brought is not None and brought.id == parent):
            return annotation
        found = self._stored(parent)
        named = StoredPrediction.model_validate(found) if found is not None else None
        return annotation.model_copy(update={"prediction": named})

    def _binding(self, session: Session, config: LabelingConfig, decision: Decision) -> Binding:
        model = model_versions.find_by_fingerprint(session, decision.model_fingerprint)
        if model is None:
            raise JobRefusedError(f"the model of decision {decision.decision_id} is not registered")
        return bind_known(config, model.classes, model.good_class, self._mapping)

    def _former_binding(
        self, session: Session, request: WebhookRequest, sent: Prediction, binding: Binding
    ) -> Binding | None:
        """How the labeling configuration that was predicted for is read, where it is another one and was kept."""
        if request.project is None or sent.label_config_sha256 == configuration_sha256(request.project.label_config):
            return None
        kept = labeling_configurations.find(session, sent.label_config_sha256)
        return None if kept is None else bind_known(parse(kept), binding.classes, binding.good_class, self._mapping)

    def _deletion(self, request: WebhookRequest, annotation: Annotation, source: Source) -> NewReview:
        """Label Studio names a deleted annotation by its number alone; what it judged is known from its last review."""
        with self._database.read() as session:
            last = reviews.latest_for_annotation(session, instance=self._instance, annotation_id=annotation.id)
        if last is None and source.is_patient:
            raise OvertakenError(f"annotation {annotation.id} was deleted, and nothing is known of it yet")
        return NewReview(
            instance=self._instance,
            project_id=request.project_id or (last.project_id if last else 0),
            annotation_id=annotation.id,
            action="deleted",
            payload_sha256=source.payload_sha256,
            found_by=source.found_by,
            task_id=last.task_id if last else None,
            decision_id=last.decision_id if last else None,
            prediction_id=last.prediction_id if last else None,
            label_predicted=last.label_predicted if last else None,
        )


def _config(request: WebhookRequest, decision: Decision) -> LabelingConfig:
    if request.project is None:
        raise JobRefusedError(f"the event of decision {decision.decision_id} names no project")
    try:
        return parse(request.project.label_config)
    except LabelingConfigError as error:
        raise JobRefusedError(f"the project's labeling configuration cannot be read: {error}") from error


def _judged_prediction(
    session: Session, instance: str, task_id: int | None, annotation: Annotation
) -> Prediction | None:
    """What the inspector had before them: the prediction that the event brings, by its content and version, else by one
    of them, else the task's last one before the annotation was made."""
    if task_id is None:
        return None
    if annotation.prediction is not None:
        content, version = canonical_sha256(annotation.prediction.result), annotation.prediction.model_version or None
        # What claims nothing has the same content for any version.
        alone = content if annotation.prediction.result else None
        for result_sha256, model_version in ((content, version), (alone, None), (None, version)):
            if result_sha256 is None and model_version is None:
                continue
            shown = predictions.latest_for_task(
                session, instance=instance, task_id=task_id, result_sha256=result_sha256, model_version=model_version
            )
            if shown is not None:
                return shown
    return predictions.latest_for_task(session, instance=instance, task_id=task_id, before=annotation.created_at)


def _is_told(item: Mapping[str, Any]) -> bool:
    """Whether an item of a result is what the desk had said in the page."""
    name = str(item.get("from_name"))
    return item.get("type") == "textarea" and (name == ANSWER_NAME or is_summary(name))


def _decided(session: Session, sent: Prediction, decision: Decision, binding: Binding) -> tuple[str, ...]:
    """All classes that a prediction said: of a part with several images, what was decided on any of them."""
    found = [decisions.find(session, image.decision_id) for image in sent.images]
    return judge_part([one for one in found if one is not None] or [decision], binding.good_class).labels


def _reasons(result: Sequence[Mapping[str, Any]], binding: Binding) -> tuple[str, ...] | None:
    """Why the inspector corrected, as far as they said."""
    ticked = [item for item in result if item.get("from_name") == binding.reasons and item.get("type") == "choices"]
    return tuple(str(one) for item in ticked for one in value_of(item).get("choices") or ()) or None


def _changes(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "change": change.kind,
            "region_predicted": change.region_id_predicted,
            "region_final": change.region_id_final,
            **({} if change.image is None else {"image": change.image}),
            "label_before": change.label_before,
            "label_after": change.label_after,
            "iou": change.iou,
            "control_before": change.control_before,
            "control_after": change.control_after,
        }
        for change in comparison.regions
    ]


def stored_predictions(settings: Settings) -> StoredPredictions | None:
    """Label Studio's, where there is a key to ask with."""
    key = settings.label_studio_api_key
    if key is None:
        return None
    return LabelStudioClient(settings.label_studio_url, key.get_secret_value()).find_prediction
