"""Label Studio's tasks answered: fetch, decide, say it in the project's labels, check it, remember it."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backend import decision_regions
from backend.label_studio.binding import Binding, bind_known
from backend.label_studio.image_addresses import address_sha256
from backend.label_studio.image_source import ImageSourceError
from backend.label_studio.labeling_config import LabelingConfigError, parse
from backend.label_studio.results import ExplainedVerdict, to_prediction, validate
from backend.map_addresses import without_permission
from backend.model_loading import ModelUnavailableError
from backend.part_verdict import judge_part
from db import failures, labeling_configurations, predictions
from db.errors import DatabaseError
from db.records import NewFailure, NewPrediction, PredictedImage
from inspection_models.images import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backend.label_studio.binding import ClassMapping
    from backend.label_studio.image_source import ImageSource
    from backend.label_studio.labeling_config import ImageObject, LabelingConfig
    from backend.models_in_use import AnsweringModel, ModelIdentity, ModelsInUse
    from db.engine import Database
    from db.records import Decision

logger = logging.getLogger(__name__)

_PART_KEYS = {"part_serial": ("part", "part_serial", "serial"), "lot": ("lot",), "station": ("station",)}


@dataclass(frozen=True)
class _Judged:
    """One image of a task, by its name in the labeling configuration, and the decision on it."""

    image: str
    address: str
    decision: Decision


class AnswerError(ValueError):
    """A task cannot be answered; the message says why and what to do."""


class PredictionService:
    """Answers tasks for any project.

    Args:
        models: knows which model answers for which project.
        images: reads task images.
        database: remembers what was sent and what failed.
        instance: base URL of the Label Studio that asks.
        mapping: class to label, where names differ.
    """

    def __init__(
        self,
        models: ModelsInUse,
        images: ImageSource,
        database: Database,
        *,
        instance: str,
        mapping: ClassMapping,
    ) -> None:
        self._models = models
        self._images = images
        self._database = database
        self._instance = instance
        self._mapping = mapping

    def bind(self, config: LabelingConfig, model: ModelIdentity) -> Binding:
        """How a model's classes are said in a labeling configuration."""
        return bind_known(config, model.classes, model.good_class, self._mapping)

    def answer(
        self, tasks: Sequence[Mapping[str, Any]], label_config: str, project_id: int | None
    ) -> list[dict[str, Any]]:
        """One prediction a task, in order, all by the model that is in use for the project as the request comes in.

        Where the labeling configuration is blind, what the model says is recorded, and the prediction says nothing.

        A task that fails gets `{}`, which Label Studio stores nothing for; its reason is kept in SQL, and the other
        tasks are answered all the same.

        Raises:
            LabelingConfigError: the configuration cannot be read.
            ModelUnavailableError: no model can be loaded.
            DatabaseError: the database is away.
        """
        config = parse(label_config)
        try:
            model = self._models.answering(project_id)
        except ModelUnavailableError as error:
            self._keep_failure(error, None, project_id, None)
            raise
        binding = self.bind(config, model.identity)
        return [self._answer_one(task, model, config, binding, label_config, project_id) for task in tasks]

    def _answer_one(
        self,
        task: Mapping[str, Any],
        model: AnsweringModel,
        config: LabelingConfig,
        binding: Binding,
        label_config: str,
        project_id: int | None,
    ) -> dict[str, Any]:
        task_id: int | None = task.get("id")
        data = task.get("data") or {}
        address: str | None = None
        seen: list[_Judged] = []
        try:
            for image in _images(binding):
                address = image.address(data)
                fetched = self._images.fetch(address, task_id=task_id)
                seen.append(_Judged(image.name, address, model.decider.decide(fetched.data)))
            prediction = self._prediction(seen, model.identity.model_version, binding, config)
        except DatabaseError:
            raise
        except Exception as error:
            if not isinstance(error, AnswerError | ImageSourceError | ImageError | LabelingConfigError):
                logger.exception("task %s met what nobody foresaw", task_id)
            self._keep_failure(error, task_id, project_id, address)
            return {}
        if task_id is not None and project_id is not None:
            deciding = judge_part([one.decision for one in seen], binding.good_class).deciding
            self._remember(prediction, seen, deciding, data, task_id, project_id, label_config)
        # Label Studio shows a prediction to whoever opens its task from the list, whatever the project's settings.
        return {**prediction, "result": [], "score": 0.0} if config.is_blind else prediction

    def _prediction(
        self, seen: Sequence[_Judged], model_version: str, binding: Binding, config: LabelingConfig
    ) -> dict[str, Any]:
        part = judge_part([one.decision for one in seen], binding.good_class)
        decision = seen[part.deciding].decision
        by_image = {one.image: _verdict(one.decision, binding.good_class, model_version) for one in seen}
        verdict = replace(by_image[seen[part.deciding].image], also=_highest(seen, part.labels[1:]))
        prediction = to_prediction(verdict, binding, by_image)
        says_good_by_silence = binding.choice_control is None and decision.predicted_class == binding.good_class
        says_something = any(item["type"] != "textarea" for item in prediction["result"])
        if not says_something and not says_good_by_silence and decision.verdict != "review":
            raise AnswerError(
                f"class {decision.predicted_class!r} cannot be said in this labeling configuration: "
                + ("; ".join(binding.unbound) or "it has neither a choice nor a region label for it")
            )
        if problems := validate(prediction, config):
            raise AnswerError(f"the answer does not fit the labeling configuration: {'; '.join(problems)}")
        return prediction

    def _remember(
        self,
        prediction: Mapping[str, Any],
        seen: Sequence[_Judged],
        deciding: int,
        data: Mapping[str, Any],
        task_id: int,
        project_id: int,
        label_config: str,
    ) -> None:
        config_sha256 = configuration_sha256(label_config)
        images = tuple(
            PredictedImage(
                name=one.image,
                decision_id=one.decision.decision_id,
                image_uri=one.address,
                image_address_sha256=address_sha256(one.address),
            )
            for one in seen
        )
        shown = images[deciding]
        sent = NewPrediction(
            decision_id=shown.decision_id,
            instance=self._instance,
            project_id=project_id,
            task_id=task_id,
            label_config_sha256=config_sha256,
            model_version=prediction["model_version"],
            result=prediction["result"],
            image_uri=shown.image_uri,
            image_address_sha256=shown.image_address_sha256,
            images=images if len(images) > 1 else (),
            **{name: _first_text(data, keys) for name, keys in _PART_KEYS.items()},
        )
        with self._database.write() as session:
            labeling_configurations.register(session, config_sha256, without_permission(label_config))
            predictions.record(session, sent)

    def _keep_failure(self, error: Exception, task_id: int | None, project_id: int | None, address: str | None) -> None:
        logger.warning("task %s was not answered: %s", task_id, error)
        failure = NewFailure(
            kind="predict",
            reason=str(error),
            detail=type(error).__name__,
            instance=self._instance,
            project_id=project_id,
            task_id=task_id,
            image_uri=address,
        )
        with self._database.write() as session:
            failures.record(session, failure)


def configuration_sha256(label_config: str) -> str:
    """What a labeling configuration is known by in the record."""
    return hashlib.sha256(label_config.encode("utf-8")).hexdigest()


def _verdict(decision: Decision, good_class: str | None, model_version: str) -> ExplainedVerdict:
    """What is shown of a decision: the regions of all decided defects, or of the likeliest where none is decided."""
    shown = {name for name in decision.labels if name != good_class}
    doubt: tuple[tuple[str, float], ...] = ()
    if decision.verdict == "review":
        explained = tuple(one.class_name for one in decision.explanations)
        shown = shown or set(explained[:1])
        competing = dict.fromkeys([*decision.labels, *explained, *([good_class] if good_class is not None else [])])
        doubt = tuple(sorted(_with_probabilities(decision, competing), key=lambda one: -one[1]))
    return ExplainedVerdict(
        label=decision.predicted_class,
        probability=decision.probability,
        decision_id=str(decision.decision_id),
        image_size=(decision.image_height, decision.image_width),
        regions=tuple(decision_regions.from_record(record) for record in decision.regions if record["class"] in shown),
        model_version=model_version,
        also=_with_probabilities(decision, decision.labels[1:]),
        doubt=doubt,
        is_unlike=decision.is_unlike,
        ranking=tuple(sorted(_with_probabilities(decision, decision.scores), key=lambda one: -one[1])),
    )


def _with_probabilities(decision: Decision, names: Iterable[str]) -> tuple[tuple[str, float], ...]:
    return tuple((name, float(decision.scores[name])) for name in names)


def _highest(seen: Sequence[_Judged], names: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Classes with the highest probability that any image has for them."""
    return tuple((name, max(float(one.decision.scores[name]) for one in seen)) for name in names)


def _images(binding: Binding) -> tuple[ImageObject, ...]:
    if not binding.usable:
        raise AnswerError("; ".join(binding.unbound) or "nothing in the labeling configuration can be answered")
    return binding.images


def _first_text(data: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next((str(data[key]) for key in keys if data.get(key) not in (None, "")), None)
