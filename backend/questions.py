"""What the inspector asks about a place, answered with what the model's evidence says of it.

An answer is no prediction: nothing of it is recorded, and no review is compared with it. What was recorded of the image
is read; only a class that was not explained then is explained now.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backend import decision_regions
from backend.label_studio.asking import Question, QuestionError, read_question
from backend.label_studio.binding import bind_known
from backend.label_studio.image_source import ImageSourceError
from backend.label_studio.labeling_config import ANSWER_NAME, LabelingConfigError, parse
from backend.label_studio.results import ExplainedRegion, region_item, region_sentence, text_item, validate
from backend.pipeline import PipelineBusyError
from backend.recorded_maps import RecordedMapError, recorded_map, recorded_probability
from inspection_models.asking import regions_in_place, share_in_place
from inspection_models.images import ImageError
from inspection_models.preprocessing import resample
from inspection_models.stitching import enlarged, map_size, map_step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from backend.label_studio.binding import Binding, ClassMapping
    from backend.label_studio.image_source import ImageSource
    from backend.label_studio.labeling_config import LabelingConfig
    from backend.models_in_use import AnsweringModel, ModelsInUse
    from db.records import Decision
    from inspection_models.region_settings import DrawnBy
    from inspection_models.regions import Region

# Somebody waits at the screen.
_PATIENCE_SECONDS = 10.0
_KEPT = 4


@dataclass(frozen=True, eq=False)
class _Evidence:
    """What is known of one class of one image of `size` (height, width).

    `map`: [h, w] of `map_size`; `drawn`: the masks of the decision's regions on its grid, by what drew them.
    """

    size: tuple[int, int]
    probability: float
    map: NDArray[np.float32]
    drawn: Mapping[DrawnBy, NDArray[np.bool_]]


class QuestionService:
    """Answers the smart tool.

    Args:
        models: knows which model answers for which project.
        images: reads task images.
        mapping: class to label, where names differ.
    """

    def __init__(self, models: ModelsInUse, images: ImageSource, *, mapping: ClassMapping) -> None:
        self._models = models
        self._images = images
        self._mapping = mapping
        self._lock = threading.Lock()
        self._explained: OrderedDict[tuple[str, str, str], _Evidence] = OrderedDict()

    def answer(
        self,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any],
        label_config: str,
        project_id: int | None,
    ) -> dict[str, Any]:
        """The regions of the class asked for within the place asked about, by the model that is in use.

        Returns:
            `result`, `score` (the probability of the class) and `model_version`, as of a prediction, and the `message`
            that tells what was found.

        What cannot be answered is told in the page as well, where its configuration has a text area for answers.

        Raises:
            QuestionError: this is no question that can be answered, or its image cannot be had, and there is no such
                text area.
            LabelingConfigError: the configuration cannot be read.
            ModelUnavailableError: no model can be loaded.
            DatabaseError: the database is away.
        """
        if len(tasks) != 1:
            raise QuestionError(f"a question is about one task, not {len(tasks)}")
        config = parse(label_config)
        model = self._models.answering(project_id)
        try:
            answer = self._answered(tasks[0], context, config, model)
        except QuestionError as error:
            if config.answers_on is None:
                raise
            answer = _answer([], 0.0, model, str(error))
        if config.answers_on is not None:
            # The page shows no other word of an answer; each takes the place of the one before.
            answer["result"].append(text_item(ANSWER_NAME, ANSWER_NAME, config.answers_on, answer["message"]))
        return answer

    def _answered(
        self, task: Mapping[str, Any], context: Mapping[str, Any], config: LabelingConfig, model: AnsweringModel
    ) -> dict[str, Any]:
        binding = bind_known(config, model.identity.classes, model.identity.good_class, self._mapping)
        question = read_question(context, binding)
        evidence = self._evidence(task, question, model)
        if evidence.size != question.size:
            raise QuestionError(
                f"the rectangle was drawn on an image of {question.size[1]} x {question.size[0]} pixels, this one has "
                f"{evidence.size[1]} x {evidence.size[0]}; reload the page"
            )
        answer = self._said(question, evidence, binding, model)
        if problems := validate(answer, config):
            raise QuestionError(f"the answer does not fit the labeling configuration: {'; '.join(problems)}")
        return answer

    def _evidence(self, task: Mapping[str, Any], question: Question, model: AnsweringModel) -> _Evidence:
        try:
            fetched = self._images.fetch(question.image.address(task.get("data") or {}), task_id=task.get("id"))
            decision = model.decider.recall(fetched.data)
            recorded = None if decision is None else _recorded(decision, question.label, model)
            if recorded is not None:
                return recorded
            return self._explain(fetched.data, fetched.sha256, question.label, model)
        except (ImageSourceError, ImageError, LabelingConfigError, RecordedMapError, PipelineBusyError) as error:
            raise QuestionError(str(error)) from error

    def _explain(self, data: bytes, image_sha256: str, label: str, model: AnsweringModel) -> _Evidence:
        """What speaks for a class that was not explained when the image was judged; the last few are kept."""
        key = (image_sha256, model.identity.fingerprint, label)
        with self._lock:
            if key in self._explained:
                self._explained.move_to_end(key)
                return self._explained[key]
        explained = model.decider.explain_class(data, label, patience=_PATIENCE_SECONDS)
        one = explained.explanations[0]
        height, width = explained.image.pixels.shape[:2]
        drawn = _masks(((region.drawn_by, region.box, region.mask) for region in one.regions), (height, width))
        found = _Evidence((height, width), one.probability, one.attribution_map, drawn)
        with self._lock:
            self._explained[key] = found
            while len(self._explained) > _KEPT:
                self._explained.popitem(last=False)
        return found

    def _said(self, question: Question, evidence: _Evidence, binding: Binding, model: AnsweringModel) -> dict[str, Any]:
        card = model.decider.card
        place = _on_grid(question.place(), evidence.size)
        found = regions_in_place(
            evidence.map,
            place,
            evidence.drawn,
            card.thresholds.region.relative,
            least_evidence=card.regions.least_evidence,
        )
        bound = binding.regions_on(question.image.name).get(question.label)
        if bound is None:
            raise QuestionError(
                f"'{question.label}' has no label to draw its regions with: {'; '.join(binding.unbound)}"
            )
        shown = [_shown(enlarged(one, evidence.size), question.label, evidence.probability) for one in found]
        name = hashlib.sha256(
            json.dumps(
                [model.identity.fingerprint, question.label, [one["value"] for one in question.rectangles]]
            ).encode()
        ).hexdigest()[:10]
        items = [
            region_item(
                f"{name}-a{index}", one, f"asked: {region_sentence(one)}", bound, question.image.name, evidence.size
            )
            for index, one in enumerate(shown)
        ]
        message = _message(question.label, evidence.probability, share_in_place(evidence.map, place), len(shown))
        return _answer(items, evidence.probability, model, message)


def _answer(items: list[dict[str, Any]], score: float, model: AnsweringModel, message: str) -> dict[str, Any]:
    return {"result": items, "score": score, "model_version": model.identity.model_version, "message": message}


def _message(label: str, probability: float, share: float, count: int) -> str:
    told = f"{label}, probability {probability:.2f}: {share * 100:.0f} % of the evidence for it lies in this place"
    return f"{told}, in {count} region{'s' * (count != 1)}" if count else f"{told}, and nothing stands out"


def _recorded(decision: Decision, label: str, model: AnsweringModel) -> _Evidence | None:
    """From the record, where the class was explained when the image was judged."""
    explanation = next((one for one in decision.explanations if one.class_name == label), None)
    if explanation is None:
        return None
    size = (decision.image_height, decision.image_width)
    regions = [decision_regions.from_record(one) for one in decision.regions if one["class"] == label]
    rendered = recorded_map(decision, explanation, model.decider.card)
    return _Evidence(
        size,
        recorded_probability(decision, explanation),
        resample(rendered, map_size(size)),
        _masks(((one.drawn_by, one.box, one.mask) for one in regions), size),
    )


def _masks(
    regions: Iterable[tuple[str, tuple[int, int, int, int], NDArray[np.bool_]]], size: tuple[int, int]
) -> dict[DrawnBy, NDArray[np.bool_]]:
    """The regions of an image of (height, width) as masks on its map's grid, by what drew them."""
    whole: dict[Any, NDArray[np.bool_]] = {}
    for drawn_by, (x, y, width, height), mask in regions:
        canvas = whole.setdefault(drawn_by, np.zeros(size, np.bool_))
        canvas[y : y + height, x : x + width] |= mask
    return {drawn_by: _on_grid(mask, size) for drawn_by, mask in whole.items()}


def _on_grid(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask [height, width] of an image at the centres of its map's cells."""
    step = map_step(size)
    if step == 1:
        return mask
    rows, columns = (
        np.minimum(np.arange(cells) * step + step // 2, side - 1)
        for cells, side in zip(map_size(size), size, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def _shown(region: Region, label: str, probability: float) -> ExplainedRegion:
    return ExplainedRegion(
        polygon=region.polygon,
        box=region.box,
        mask=region.mask,
        label=label,
        score=probability,
        evidence=region.evidence,
        drawn_by=region.drawn_by,
        has_evidence=region.has_evidence,
    )
