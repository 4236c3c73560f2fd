"""The decision pipeline: the one place where an image becomes an explained decision, for every way into the desk."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from inspection_models.attribution import Attribution, attribute, recorded_settings, settled_options
from inspection_models.images import DecodedImage, decode_image
from inspection_models.model_card import RegionThresholds
from inspection_models.preprocessing import resample
from inspection_models.region_drawing import draw_regions
from inspection_models.region_features import Evidence, PixelFeatures
from inspection_models.regions import Region
from inspection_models.stitching import enlarged
from inspection_models.tile_explanations import MOST_EXPLAINED, WORTH_EXPLAINING, explain_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from inspection_models.classifier import DefectClassifier, Prediction
    from inspection_models.tile_explanations import ExplainedTiles, TiledExplanation

# A defect class this probable is explained beside the predicted one, so that a doubtful part shows both reasons.
_WORTH_EXPLAINING = 0.10


class ClassChoiceError(ValueError):
    """The class asked for is not one of the model's."""


class PipelineBusyError(RuntimeError):
    """Other images are worked on for longer than the caller waits."""


@dataclass(frozen=True)
class ClassExplanation:
    """Why the image is (or might be) of one class.

    Attributes:
        label: the class explained.
        probability: its calibrated probability.
        attribution: the maps in the network's pixels: a batch of one, or of the explained tiles.
        attribution_map: float32 [H, W] in [0, 1], in the image's pixels; of an image above `stitching.MAP_PIXELS` that
            was looked at in tiles, in cells of several pixels.
        regions: drawn as the model's card says; empty for the good class.
        tiles: the tiles that the map was stitched from; None where the image was looked at whole.
    """

    label: str
    probability: float
    attribution: Attribution
    attribution_map: NDArray[np.float32]
    regions: tuple[Region, ...]
    tiles: ExplainedTiles | None = None

    @property
    def masks_scored(self) -> int:
        """Masks scored for this explanation, with those that it shares with others of a whole image."""
        return int(self.attribution.masks_scored.sum())


@dataclass(frozen=True)
class _Evidence:
    """What was found for one class, before regions are cut out; as in `ClassExplanation`."""

    attribution: Attribution
    map: NDArray[np.float32]
    tiles: ExplainedTiles | None = None

    @classmethod
    def of_tiles(cls, explanation: TiledExplanation) -> _Evidence:
        return cls(explanation.attribution, explanation.attribution_map, explanation.tiles)


@dataclass(frozen=True)
class ExplainedImage:
    """One image, judged and explained.

    Attributes:
        image: the decoded image.
        prediction: scores of all classes.
        explanations: the predicted class first, if it is worth explaining.
        timings_ms: milliseconds by step.
    """

    image: DecodedImage
    prediction: Prediction
    explanations: tuple[ClassExplanation, ...]
    timings_ms: Mapping[str, float]

    @property
    def masks_scored(self) -> int:
        """Masks scored for all explanations together; those that several of them use are counted once."""
        if self.explanations and self.explanations[0].tiles is None:
            return self.explanations[0].masks_scored
        return sum(one.masks_scored for one in self.explanations)


class DecisionPipeline:
    """Decode, classify, attribute and cut out regions, in this order.

    `explanation_options` are those of the model's own attribution method, with nothing left to a default;
    `explanation_record` is what a decision's record says of them, and of the tiles that large images are cut into;
    `engines` compute the forward passes, by name.

    One image is worked on at a time: two at once would only share the same cores, and the batch shape of every forward
    pass stays what the record says it was.
    """

    def __init__(self, classifier: DefectClassifier, *, max_pixels: int = 100_000_000) -> None:
        self.classifier = classifier
        self._max_pixels = max_pixels
        self._turn = threading.Lock()
        self._features = None if classifier.region_head is None else PixelFeatures(classifier)
        own = classifier.explanation
        self.explanation_options = settled_options(
            classifier.network, classifier.preprocessing.size, own.method, own.options
        )
        self.explanation_record = recorded_settings(own.method, self.explanation_options)
        self.engines = frozenset({str(self.explanation_options.get("engine", "torch"))})
        if classifier.card.tiling is not None:
            engine = classifier.tile_engine.name
            self.engines |= {engine}
            self.explanation_record["tiling"] = {
                **asdict(classifier.card.tiling),
                "engine": engine,
                "most_explained": MOST_EXPLAINED,
                "worth_explaining": WORTH_EXPLAINING,
            }

    def explain(
        self,
        data: bytes,
        *,
        classes: Sequence[str] | None = None,
        only_predicted: bool = False,
        method: str | None = None,
        patience: float | None = None,
    ) -> ExplainedImage:
        """Judge and explain an encoded image.

        Args:
            data: the image file's bytes.
            classes: classes to explain; by default the decided defects and every other defect class of probability
                0.10 or more, and where a person is to decide at least the likeliest one.
            only_predicted: explain the predicted class, good or not, and no other; for callers that name no classes.
            method: attribution method; by default the model's own.
            patience: seconds to wait for other images; None waits for as long as it takes.

        Raises:
            ImageError: the bytes are no image, or one beyond the bounds.
            ClassChoiceError: a class is not one of the model's.
            PipelineBusyError: the wait was in vain.
        """
        self._check(classes)
        timings: dict[str, float] = {}
        with self._own_turn(patience):
            with _timed(timings, "decode"):
                image = decode_image(data, max_pixels=self._max_pixels)
            with _timed(timings, "classify"):
                prediction = self.classifier.predict([image.pixels])[0]
            if only_predicted:
                classes = (prediction.label,)
            chosen = self._worth_explaining(prediction) if classes is None else tuple(classes)
            with _timed(timings, "attribute"):
                found = self._attribute(image.pixels, prediction, chosen, method)
            with _timed(timings, "regions"):
                explanations = tuple(
                    self._explanation(image, prediction, label, evidence)
                    for label, evidence in zip(chosen, found, strict=True)
                )
        return ExplainedImage(image, prediction, explanations, MappingProxyType(timings))

    @contextmanager
    def _own_turn(self, patience: float | None) -> Iterator[None]:
        if not self._turn.acquire(timeout=-1 if patience is None else patience):
            raise PipelineBusyError(f"other images take longer than {patience:.0f} s; ask again in a minute")
        try:
            yield
        finally:
            self._turn.release()

    def _check(self, classes: Sequence[str] | None) -> None:
        for label in classes or ():
            if label not in self.classifier.classes:
                raise ClassChoiceError(f"no class {label!r} in this model; it has {', '.join(self.classifier.classes)}")

    def _worth_explaining(self, prediction: Prediction) -> tuple[str, ...]:
        """The decided defects, and others that come near; of an image left to a person at least the likeliest one."""
        good = self.classifier.good_class
        ranked = sorted(
            (-float(p), label)
            for p, label in zip(prediction.probabilities, self.classifier.classes, strict=True)
            if label != good
        )
        decided = [label for label in prediction.labels if label != good]
        if prediction.verdict == "review" and not decided:
            decided = [ranked[0][1]]
        near = [label for p, label in ranked if label not in decided and -p >= _WORTH_EXPLAINING]
        return (*decided, *near)

    def _attribute(
        self, pixels: NDArray[np.uint8], prediction: Prediction, labels: Sequence[str], method: str | None
    ) -> list[_Evidence]:
        own = self.classifier.explanation
        # Another method than the model's own does not know the model's options.
        options = self.explanation_options if method in (None, own.method) else {}
        if not labels:
            return []
        if prediction.tile_logits is not None and len(prediction.tile_logits) > 1:
            return [
                _Evidence.of_tiles(
                    explain_tiles(self.classifier, pixels, prediction, label, method or own.method, options)
                )
                for label in labels
            ]
        tensor, placement = self.classifier.preprocessing.apply(pixels)  # (3, H, W)
        together = attribute(
            self.classifier.network,
            tensor.unsqueeze(0),
            torch.tensor([[self.classifier.classes.index(label) for label in labels]]),
            method=method or own.method,
            activation=self.classifier.card.activation,
            **options,
        )
        found = [together.of_target(place) for place in range(len(labels))]
        return [_Evidence(one, placement.map_to_image(np.asarray(one.map[0]))) for one in found]

    def _explanation(
        self, image: DecodedImage, prediction: Prediction, label: str, evidence: _Evidence
    ) -> ClassExplanation:
        size = (image.pixels.shape[0], image.pixels.shape[1])
        is_good = label == self.classifier.good_class
        own, used = self.classifier.explanation.method, evidence.attribution.settings["method"]
        # The model's threshold was chosen for the maps of its own method.
        threshold = self.classifier.thresholds.region
        if used != own:
            threshold = replace(threshold, relative=RegionThresholds.usual(used).relative)
        tiling = self.classifier.card.tiling
        if evidence.tiles is not None and tiling is not None:
            # What is a speck, is so in what the network saw at once.
            share = min(1.0, math.prod(tiling.size) / math.prod(size))
            threshold = replace(threshold, minimum_area=threshold.minimum_area * share)
        found: tuple[Region, ...] = ()
        if not is_good:
            shown = resample(image.pixels, (evidence.map.shape[0], evidence.map.shape[1]))
            drawing = self.classifier.card.regions
            head_map = None
            if drawing.drawn_by == "learned" and (used != own or evidence.tiles is not None):
                # The head learned from the maps of the model's own method, of whole images.
                drawing = replace(drawing, drawn_by="snapped")
            elif drawing.drawn_by == "learned" and self.classifier.region_head and self._features:
                head_map = self.classifier.region_head.draw(self._features, shown, Evidence(label, evidence.map))
            found = draw_regions(shown, evidence.map, threshold, drawing, head_map=head_map)
        probability = float(prediction.probabilities[self.classifier.classes.index(label)])
        if evidence.tiles is not None:
            found = tuple(enlarged(region, size) for region in found)
        return ClassExplanation(label, probability, evidence.attribution, evidence.map, found, evidence.tiles)


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[step] = round((time.perf_counter() - start) * 1000, 3)
