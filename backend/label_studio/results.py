"""An explained verdict as the prediction Label Studio stores and draws, and the check of it before it is sent.

Label Studio stores whatever a backend answers without looking, and its page drops in silence what it does not
understand; so every answer is checked here first. Coordinates are percent of the image's width and height, as Label
Studio keeps them; pixels are continuous, the first pixel's centre at 0.5.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.label_studio.binding import Binding, RegionBinding
from backend.label_studio.labeling_config import Control, LabelingConfig
from inspection_models import brush_rle

Result = dict[str, Any]
"""One item of a prediction's or annotation's `result` list."""

_ROUNDING = 1e-9
_DRAWN = {"map": "cut from the map", "snapped": "fitted to the photograph", "learned": "drawn from learned masks"}


@dataclass(frozen=True)
class ExplainedRegion:
    """One region of the evidence, in pixels of the image as it is shown.

    `polygon`: outer outline [K, 2] as x, y, K >= 3; `box`: x, y, width, height in whole pixels; `mask`: bool
    [height, width] of the box; `score`: the probability of `label`, 0..1; `evidence`: the region's share of the map's
    evidence, 0..1; `drawn_by`: "map", "snapped" or "learned"; `has_evidence`: whether the map supports it.
    """

    polygon: NDArray[np.float64]
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]
    label: str
    score: float
    evidence: float
    drawn_by: str = "map"
    has_evidence: bool = True

    def __post_init__(self) -> None:
        if self.polygon.ndim != 2 or self.polygon.shape[1] != 2 or len(self.polygon) < 3:
            raise ValueError(f"a region's polygon has the shape [K, 2] with K >= 3, not {self.polygon.shape}")
        if self.mask.shape != (self.box[3], self.box[2]):
            raise ValueError(
                f"a region's mask has the box's height and width {(self.box[3], self.box[2])}, not {self.mask.shape}"
            )


@dataclass(frozen=True)
class ExplainedVerdict:
    """What is to be shown of one decision. `probability` is that of `label`, 0..1; `image_size` is (height, width).

    `also`: further decided classes with their probabilities, the most probable first; `doubt`: for a decision that is
    left to the inspector, the classes that compete with their probabilities, the most probable first; else empty;
    `is_unlike`: whether it is left to them as the image is unlike what the model was trained on; `ranking`: all classes
    with their probabilities, the most probable first.
    """

    label: str
    probability: float
    decision_id: str
    image_size: tuple[int, int]
    regions: tuple[ExplainedRegion, ...]
    model_version: str
    also: tuple[tuple[str, float], ...] = ()
    doubt: tuple[tuple[str, float], ...] = ()
    is_unlike: bool = False
    ranking: tuple[tuple[str, float], ...] = ()


def to_prediction(
    verdict: ExplainedVerdict, binding: Binding, images: Mapping[str, ExplainedVerdict] | None = None
) -> dict[str, Any]:
    """The prediction for one task: `result`, `score` and `model_version`.

    The decided classes are said by their choices, each region by the one control its class is bound to; what the
    binding has no words for is left out (`binding.unbound` says so), and where one choice can be ticked it is that of
    the most probable class. A decision that is left to the inspector ticks nothing, lest it be taken for an answer, and
    has the score 0, by which Label Studio's queue can bring it first. The same verdict gives the same ids, so repeating
    it changes nothing.

    Args:
        images: of a part with several images, the verdict on each by its name; then `verdict` is that on the part, and
            only its classes are said.
    """
    return {
        "result": to_result(verdict, binding, images),
        "score": 0.0 if verdict.doubt else float(verdict.probability),
        "model_version": verdict.model_version,
    }


def to_result(
    verdict: ExplainedVerdict, binding: Binding, images: Mapping[str, ExplainedVerdict] | None = None
) -> list[Result]:
    """The `result` list of the prediction: the choice first, then of each image the regions in the order given and the
    summary."""
    if binding.image is None:
        return []
    result: list[Result] = []
    ticked = _ticked(verdict, binding)
    if binding.choice_control is not None and ticked:
        result.append(
            {
                "id": choice_id(verdict.decision_id),
                "from_name": binding.choice_control,
                "to_name": binding.choice_image,
                "type": "choices",
                "score": float(verdict.probability),
                "value": {"choices": ticked},
            }
        )
    for image, seen in (images or {binding.image.name: verdict}).items():
        # The same photograph may stand at several places of a part.
        source = seen.decision_id if image == binding.image.name else f"{seen.decision_id} {image}"
        result += _of_image(image, seen, source, binding)
    return result


def _of_image(image: str, verdict: ExplainedVerdict, source: str, binding: Binding) -> list[Result]:
    """What is drawn and told on one image; `source` makes its ids."""
    result = []
    regions = binding.regions_on(image)
    for index, region in enumerate(verdict.regions):
        bound = regions.get(region.label)
        if bound is not None:
            told = _sentence(region, verdict)
            result.append(region_item(region_id(source, index), region, told, bound, image, verdict.image_size))
    if image in binding.summaries:
        result.append(text_item(f"{_digest(source)}-m", binding.summaries[image], image, summary(verdict)))
    return result


def _ticked(verdict: ExplainedVerdict, binding: Binding) -> list[str]:
    """The values of the choices to tick, each once."""
    if verdict.doubt:
        return []
    decided = [verdict.label, *(name for name, _ in verdict.also)] if binding.takes_several else [verdict.label]
    return list(dict.fromkeys(binding.choices[name] for name in decided if name in binding.choices))


def choice_id(decision_id: str) -> str:
    """The id of the choice in a decision's prediction."""
    return f"{_digest(decision_id)}-c"


def region_id(decision_id: str, index: int) -> str:
    """The id of a decision's region `index` (from 0) in its prediction: short, and the same every time."""
    return f"{_digest(decision_id)}-{index}"


def _digest(decision_id: str) -> str:
    return hashlib.sha256(decision_id.encode()).hexdigest()[:10]


def region_item(
    identity: str, region: ExplainedRegion, sentence: str, bound: RegionBinding, image: str, size: tuple[int, int]
) -> Result:
    """One region of a result on an image of (height, width), drawn as its class is bound; `sentence` stands in Info."""
    height, width = size
    value: dict[str, Any]
    if bound.kind == "polygonlabels":
        points = np.asarray(region.polygon, dtype=np.float64) / (width, height) * 100
        value = {"points": points.tolist(), "closed": True}
    elif bound.kind == "brushlabels":
        x, y, box_width, box_height = region.box
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[y : y + box_height, x : x + box_width] = region.mask
        value = {"format": "rle", "rle": brush_rle.encode(mask)}
    else:
        x, y, box_width, box_height = region.box
        value = {
            "x": x / width * 100,
            "y": y / height * 100,
            "width": box_width / width * 100,
            "height": box_height / height * 100,
            "rotation": 0,
        }
    return {
        "id": identity,
        "from_name": bound.control,
        "to_name": image,
        "type": bound.kind,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": float(region.score),
        "meta": {"text": [sentence]},
        "value": {**value, bound.kind: [bound.label]},
    }


def region_sentence(region: ExplainedRegion) -> str:
    """What is to be known of a region: its class, its share of the evidence, what drew it and the probability."""
    share = f"{region.evidence * 100:.0f} %" if region.evidence >= 0.01 else "under 1 %"
    warning = "" if region.has_evidence else "NO EVIDENCE UNDER IT: "
    return (
        f"{warning}{region.label}: {share} of the evidence, {_DRAWN[region.drawn_by]}, probability {region.score:.2f}"
    )


def _sentence(region: ExplainedRegion, verdict: ExplainedVerdict) -> str:
    told = [region_sentence(region)]
    if verdict.doubt:
        reason = "the image is unlike what the model was trained on" if verdict.is_unlike else "the model is not sure"
        told.append(f"left to you, as {reason}: {_figures(verdict.doubt)}")
    elif verdict.also:
        told.append(f"decided: {_figures(((verdict.label, verdict.probability), *verdict.also))}")
    return f"{'; '.join(told)}, decision {verdict.decision_id}"


def text_item(identity: str, control: str, image: str, text: str) -> Result:
    """What the desk says in a text area on an image."""
    return {"id": identity, "from_name": control, "to_name": image, "type": "textarea", "value": {"text": [text]}}


def summary(verdict: ExplainedVerdict) -> str:
    """What the model says of an image, in one line: its classes, the next probable one, and where the evidence lies."""
    decided = ((verdict.label, verdict.probability), *verdict.also)
    if verdict.doubt:
        reason = "unlike what the model was trained on" if verdict.is_unlike else "the model is not sure"
        decided = verdict.doubt
        told = f"Left to you, as {reason}: {_percentages(decided)}"
    else:
        told = _percentages(decided)
    named = {name for name, _ in decided}
    following = next((one for one in verdict.ranking if one[0] not in named), None)
    if following is not None:
        told += f", then {_percentages((following,))}"
    return f"{told}. {_evidence(verdict.regions)}"


def _evidence(regions: Sequence[ExplainedRegion]) -> str:
    if not regions:
        return "No region."
    labels = list(dict.fromkeys(region.label for region in regions))
    told = []
    for label in labels:
        drawn = [region for region in regions if region.label == label]
        share = _percent_of(min(1.0, sum(region.evidence for region in drawn)))
        whose = "the evidence" if len(labels) == 1 else f"the evidence for {label}"
        told.append(f"{len(drawn)} region{'s' * (len(drawn) != 1)} with {share} of {whose}")
    bare = sum(not region.has_evidence for region in regions)
    warning = f" NO EVIDENCE UNDER {bare} OF THEM." if bare else ""
    return f"{'; '.join(told)}.{warning}"


def _percentages(classes: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {_percent_of(probability)}" for name, probability in classes)


def _percent_of(share: float) -> str:
    """In whole per cent; what is not quite nothing or not quite all is not rounded to it."""
    if 0 < share < 0.005:
        return "under 1 %"
    return "over 99 %" if 0.995 <= share < 1 else f"{share * 100:.0f} %"


def _figures(classes: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{name} {probability:.2f}" for name, probability in classes)


def validate(prediction: Mapping[str, Any], config: LabelingConfig) -> tuple[str, ...]:
    """What is wrong with a prediction for this configuration, one sentence each; empty where it can be sent."""
    result = prediction.get("result")
    if not isinstance(result, list):
        return ("the prediction has no list under 'result'",)
    errors = [f"the prediction's {problem}" for problem in _score_problems(prediction)]
    if not isinstance(prediction.get("model_version"), str) or not prediction["model_version"]:
        errors.append("the prediction names no model_version")
    ids = [item.get("id") for item in result if isinstance(item, Mapping)]
    errors += [f"the id '{one}' is used twice" for one in dict.fromkeys(ids) if one is not None and ids.count(one) > 1]
    for index, item in enumerate(result):
        problems = _item_problems(item, config) if isinstance(item, Mapping) else ["is no object"]
        errors += [f"result {index} {problem}" for problem in problems]
    return tuple(errors)


def _item_problems(item: Mapping[str, Any], config: LabelingConfig) -> list[str]:
    if item.get("from_name") in config.summaries.values():
        return _summary_problems(item, config.summaries)
    control = config.control(str(item.get("from_name")))
    if control is None:
        names = ", ".join(one.name for one in config.controls)
        return [
            f"answers the control '{item.get('from_name')}', which the configuration does not have (it has: {names})"
        ]
    problems = _score_problems(item)
    if item.get("to_name") != control.image:
        problems.append(f"stands on '{item.get('to_name')}', control '{control.name}' on '{control.image}'")
    if item.get("type") != control.kind:
        problems.append(f"has the type '{item.get('type')}', control '{control.name}' the type '{control.kind}'")
        return problems
    value = item.get("value")
    if not isinstance(value, Mapping):
        return [*problems, "has no value"]
    problems += _label_problems(value, control)
    if control.kind == "choices":
        return problems
    if not isinstance(item.get("id"), str) or not item["id"]:
        problems.append("has no id")
    height, width = item.get("original_height"), item.get("original_width")
    if not (_whole(height) and _whole(width) and item.get("image_rotation") == 0):
        return [*problems, "must say original_width and original_height in whole pixels and image_rotation 0"]
    return problems + _geometry_problems(value, control.kind, int(str(height)), int(str(width)))


def _summary_problems(item: Mapping[str, Any], summaries: Mapping[str, str]) -> list[str]:
    value = item.get("value")
    text = value.get("text") if isinstance(value, Mapping) else None
    if not isinstance(text, list) or not text or not all(isinstance(line, str) for line in text):
        return ["says nothing under 'text'"]
    if item.get("type") != "textarea" or summaries.get(str(item.get("to_name"))) != item["from_name"]:
        return [f"is a '{item.get('type')}' on '{item.get('to_name')}', where there is no '{item['from_name']}'"]
    return []


def _label_problems(value: Mapping[str, Any], control: Control) -> list[str]:
    labels = value.get(control.kind)
    if not isinstance(labels, list) or not labels:
        return [f"names nothing under '{control.kind}'"]
    known = [label.stored for label in control.labels]
    problems = [
        f"says '{label}', which is no value of control '{control.name}' (values: {', '.join(known)})"
        for label in labels
        if label not in known
    ]
    if len(labels) > 1 and not control.multiple:
        problems.append(f"says {len(labels)} values, control '{control.name}' takes one")
    return problems


def _geometry_problems(value: Mapping[str, Any], kind: str, height: int, width: int) -> list[str]:
    if kind == "polygonlabels":
        points = value.get("points")
        if not isinstance(points, list) or len(points) < 3:
            return ["is a polygon of fewer than 3 points"]
        if not all(
            isinstance(point, list | tuple) and len(point) == 2 and all(map(_percent, point)) for point in points
        ):
            return ["has polygon points that are not pairs of percent in 0..100"]
        return []
    if kind == "rectanglelabels":
        sides = [value.get(key) for key in ("x", "y", "width", "height")]
        if not all(map(_percent, sides)) or value.get("rotation", 0) != 0:
            return ["is a rectangle whose x, y, width, height are not percent in 0..100, or that is turned"]
        x, y, box_width, box_height = (float(str(side)) for side in sides)
        inside = max(x + box_width, y + box_height) <= 100 + _ROUNDING and min(box_width, box_height) > 0
        return [] if inside else ["is a rectangle that is empty or reaches beyond the image"]
    if kind == "brushlabels":
        try:
            drawn = brush_rle.decode(value.get("rle") or (), height, width)
        except brush_rle.BrushCodeError as error:
            return [f"is a brush mask that cannot be read: {error}"]
        return (
            []
            if value.get("format") == "rle" and drawn.any()
            else ["is an empty brush mask or not of the format 'rle'"]
        )
    return [f"is of the type '{kind}', which the backend does not draw"]


def _score_problems(item: Mapping[str, Any]) -> list[str]:
    score = item.get("score")
    if score is None:
        return []
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
        return [f"score is {score!r}, not a number in 0..1"]
    return []


def _percent(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 100


def _whole(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int) and value > 0
