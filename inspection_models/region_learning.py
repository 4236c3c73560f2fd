"""How a model's regions are to be drawn, learned from images whose defects are marked.

From the training part a head; from the validation part where the map is cut, from which probability the head's pixels
count, which of the three ways of drawing overlaps most with what is marked, and from which probability of its class a
map counts as lit. Everything is kept with what it was learned from.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inspection_models.attribution import attribute
from inspection_models.data.markings import is_marked, truth_of
from inspection_models.images import read_image
from inspection_models.metrics.bootstrap import Interval, mean_interval
from inspection_models.region_coverage import check_groups, strictest_level
from inspection_models.region_drawing import draw_regions, mask_of
from inspection_models.region_features import Evidence, PixelFeatures
from inspection_models.region_head import Photograph, RegionHead, RegionHeadError, fit_head
from inspection_models.region_settings import DrawnBy, RegionDrawing, RegionHeadSettings
from inspection_models.risk import RiskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from inspection_models.classifier import DefectClassifier
    from inspection_models.data import Sample
    from inspection_models.model_card import RegionThresholds

    Progress = Callable[[str, int, int], None]

FEWEST_TO_JUDGE = 8
"""Fewer marked images of the validation part than this do not choose between ways of drawing, nor a threshold."""
FEWEST_TO_LEARN = 20
"""Fewer marked images of the training part than this do not make a head."""
MOST_MARKED = 250
"""A head learns from at most so many marked images, drawn at random: minutes of explaining, hardly better with more."""
LIT_GOOD_SHARE = 0.01
"""The share of good images whose map may light up on the absolute scale."""

_LEVELS = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
_PROBABILITIES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_COVERING = (0.01, 0.02, 0.05, *_PROBABILITIES)
_MOST_GOOD = 50
_MEMORY_BYTES = 2 * 2**30
WAYS: tuple[DrawnBy, ...] = ("map", "snapped", "learned")


@dataclass(frozen=True, eq=False)
class MarkedImage:
    """One defective image with all that drawing and judging a region of it needs.

    Attributes:
        group: of alike images.
        label: its class.
        pixels: uint8 [h, w, 3].
        attribution_map: float32 [h, w], of its class.
        truth: bool [h, w].
        right: whether the model decides it rightly.
    """

    group: str
    label: str
    pixels: NDArray[np.uint8]
    attribution_map: NDArray[np.float32]
    truth: NDArray[np.bool_]
    right: bool


@dataclass(frozen=True)
class LearnedRegions:
    """What was learned.

    Attributes:
        classifier: with thresholds, drawing and head set.
        overlaps: mean intersection over union on the validation part by way of drawing, where it was measured.
    """

    classifier: DefectClassifier
    overlaps: dict[DrawnBy, Interval]


def learn_regions(
    classifier: DefectClassifier,
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    data_sha256: str,
    seed: int = 0,
    coverage: float | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> LearnedRegions:
    """Learn how `classifier` is to draw regions.

    Args:
        classifier: whose thresholds, drawing and head are set anew.
        train: to learn a head from; images without marks are left out, of good ones some are taken.
        validation: to choose thresholds and the way of drawing.
        data_sha256: of the data set, for the record.
        seed: of drawing images and windows, and of the head's first weights.
        coverage: the share of a defect, above 0 and below 1, that its regions are to hold on average; thresholds are as
            high as that allows, see `region_coverage`. None: where regions overlap best with what is marked.
        progress: told what is done, and how many of how many images.

    Raises:
        RiskError: the validation part cannot show the stated coverage.
        ImageError: a file is damaged.
        DatasetError: a mask is missing or damaged.
    """
    if coverage is not None:
        _check_coverage(classifier, validation, coverage)
    drawing = RegionDrawing(drawn_by="snapped", lit_from=_lit_from(classifier, validation, progress))
    thresholds, head = classifier.thresholds.region, None
    # A model that looks at tiles draws on maps stitched of many, which one look at the whole does not resemble.
    whole = classifier.card.tiling is None
    seen = marked_images(classifier, validation, progress=progress) if whole else []
    learned_from, good = _to_learn_from(classifier, train, seed) if whole else ([], [])
    if len(learned_from) >= FEWEST_TO_LEARN:
        with suppress(RegionHeadError):  # every mark is empty, or fills its image
            head = learn_head(classifier, learned_from, good, seed=seed, progress=progress)
            drawing = replace(drawing, head=RegionHeadSettings(head.weights_sha256))
    overlaps: dict[DrawnBy, Interval] = {}
    if coverage is not None or len(seen) >= FEWEST_TO_JUDGE:
        drawn = [] if head is None else [_head_map(head, PixelFeatures(classifier), one) for one in seen]
        if coverage is None:
            thresholds, drawing, ways = _at_best_overlap(seen, drawn, thresholds, drawing)
        else:
            thresholds, drawing, ways = _at_coverage(seen, drawn, thresholds, drawing, coverage)
        overlaps = {
            way: _interval(seen, overlaps_of(seen, thresholds, replace(drawing, drawn_by=way), drawn)) for way in ways
        }
        drawing = replace(drawing, drawn_by=max(ways, key=lambda way: overlaps[way].value))
    origin: dict[str, Any] = {
        "data_sha256": data_sha256,
        "seed": seed,
        "marked_images": {"train": len(learned_from), "validation": len(seen)},
        "good_images": sum(sample.label == classifier.good_class for sample in validation),
        "coverage": coverage,
        "validation_mean_iou": {way: asdict(interval) for way, interval in overlaps.items()},
    }
    card = classifier.card.with_settings(
        thresholds=replace(classifier.thresholds, region=thresholds), regions=replace(drawing, origin=origin)
    )
    return LearnedRegions(classifier.with_head(card, head), overlaps)


def _check_coverage(classifier: DefectClassifier, validation: Sequence[Sample], coverage: float) -> None:
    """Refuse before the work a coverage that cannot be shown.

    Raises:
        RiskError: it cannot.
    """
    if classifier.card.tiling is not None:
        raise RiskError("a model that looks at tiles snaps its regions, which have no threshold to set for a coverage")
    marked = [one for one in validation if one.label != classifier.good_class and is_marked(one)]
    check_groups(coverage, len({one.group for one in marked}))
    if len(marked) < FEWEST_TO_JUDGE:
        raise RiskError(
            f"{len(marked)} images of the validation part are marked; a threshold needs {FEWEST_TO_JUDGE}: add masks, "
            "boxes or outlines"
        )


def _at_best_overlap(
    seen: Sequence[MarkedImage],
    drawn: Sequence[NDArray[np.float32]],
    thresholds: RegionThresholds,
    drawing: RegionDrawing,
) -> tuple[RegionThresholds, RegionDrawing, tuple[DrawnBy, ...]]:
    """Thresholds at which regions overlap best with what is marked, and the ways to choose among."""
    thresholds = replace(thresholds, relative=_best_level(seen))
    if drawing.head is None:
        return thresholds, drawing, WAYS[:2]
    return thresholds, _with_probability(drawing, _best_probability(seen, drawn)), WAYS


def _at_coverage(
    seen: Sequence[MarkedImage],
    drawn: Sequence[NDArray[np.float32]],
    thresholds: RegionThresholds,
    drawing: RegionDrawing,
    coverage: float,
) -> tuple[RegionThresholds, RegionDrawing, tuple[DrawnBy, ...]]:
    """The strictest threshold that keeps to the coverage, of the head if there is one, of the map otherwise.

    Which of them draws is not chosen by the images that the threshold comes from, or the promise would be lost.

    Raises:
        RiskError: none does.
    """
    ways: list[tuple[RegionThresholds, RegionDrawing]]
    if drawing.head is None:
        by_map = replace(drawing, drawn_by="map")
        ways = [(replace(thresholds, relative=level), by_map) for level in _LEVELS]
    else:
        by_head = replace(drawing, drawn_by="learned")
        ways = [(thresholds, _with_probability(by_head, level)) for level in _COVERING]
    left_out = np.array([_left_out(seen, *way, drawn) for way in ways]).reshape(len(ways), len(seen))
    thresholds, drawing = ways[strictest_level(left_out, [one.group for one in seen], coverage)]
    return thresholds, drawing, (drawing.drawn_by,)


def _with_probability(drawing: RegionDrawing, threshold: float) -> RegionDrawing:
    return drawing if drawing.head is None else replace(drawing, head=replace(drawing.head, threshold=threshold))


def learn_head(
    classifier: DefectClassifier,
    marked: Sequence[Sample],
    good: Sequence[Sample],
    *,
    seed: int = 0,
    progress: Progress = lambda _what, _done, _total: None,
) -> RegionHead:
    """A head from defective images with marks and from good ones, which have no defect at any place.

    Raises:
        RegionHeadError: nothing is marked.
    """
    features = PixelFeatures(classifier)
    photographs = [
        Photograph.of(features, one.pixels, Evidence(one.label, one.attribution_map), one.truth)
        for one in marked_images(classifier, marked, progress=progress)
    ]
    for number, sample in enumerate(good, start=1):
        pixels = read_image(sample.path).pixels
        label = _likeliest_defect(classifier, pixels)
        evidence = Evidence(label, explained_map(classifier, pixels, label))
        nowhere = np.zeros((pixels.shape[0], pixels.shape[1]), np.bool_)
        photographs.append(Photograph.of(features, pixels, evidence, nowhere))
        progress("explaining good images", number, len(good))
    return fit_head(
        photographs, seed=seed, progress=lambda done, total: progress("learning to draw regions", done, total)
    )


def _to_learn_from(
    classifier: DefectClassifier, train: Sequence[Sample], seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Marked images and good ones, as many as are wanted and as memory holds what is known of them."""
    marked = [one for one in train if one.label != classifier.good_class and is_marked(one)]
    good = [one for one in train if one.label == classifier.good_class]
    if not marked:
        return [], []
    pixels = read_image(marked[0].path).pixels
    nothing = Evidence(marked[0].label, np.zeros((pixels.shape[0], pixels.shape[1]), np.float32))
    room = _MEMORY_BYTES / PixelFeatures(classifier).of(pixels, nothing).shortened().nbytes
    most_marked, most_good = min(MOST_MARKED, len(marked)), min(_MOST_GOOD, len(good))
    share = min(1.0, room / (most_marked + most_good))
    return (
        _drawn(marked, max(FEWEST_TO_LEARN, int(share * most_marked)), seed),
        _drawn(good, int(share * most_good), seed),
    )


def _drawn(samples: Sequence[Sample], most: int, seed: int) -> list[Sample]:
    order = np.random.default_rng(seed).permutation(len(samples))[:most]
    return [samples[place] for place in sorted(order)]


def marked_images(
    classifier: DefectClassifier,
    samples: Sequence[Sample],
    *,
    progress: Progress = lambda _what, _done, _total: None,
) -> list[MarkedImage]:
    """The defective images of `samples` whose defect is marked, each with the map of its class."""
    chosen = [one for one in samples if one.label != classifier.good_class and is_marked(one)]
    found = []
    for number, sample in enumerate(chosen, start=1):
        pixels = read_image(sample.path).pixels
        truth = truth_of(sample, (pixels.shape[0], pixels.shape[1]), sample.label)
        progress("explaining marked images", number, len(chosen))
        if not truth.any():
            continue
        found.append(
            MarkedImage(
                group=sample.group,
                label=sample.label,
                pixels=pixels,
                attribution_map=explained_map(classifier, pixels, sample.label),
                truth=truth,
                right=classifier.predict([pixels])[0].label == sample.label,
            )
        )
    return found


def explained_map(classifier: DefectClassifier, pixels: NDArray[np.uint8], label: str) -> NDArray[np.float32]:
    """The attribution map of a class by the classifier's own method, float32 [h, w] in the image's pixels."""
    inputs, placement = classifier.preprocessing.apply(pixels)
    options: dict[str, Any] = dict(classifier.explanation.options)
    found = attribute(
        classifier.network,
        inputs.unsqueeze(0),
        torch.tensor([classifier.classes.index(label)]),
        method=classifier.explanation.method,
        activation=classifier.card.activation,
        **options,
    )
    return placement.map_to_image(np.asarray(found.map[0]))


def overlaps_of(
    images: Sequence[MarkedImage],
    thresholds: RegionThresholds,
    drawing: RegionDrawing,
    head_maps: Sequence[NDArray[np.float32]] = (),
) -> list[float]:
    """Intersection over union of all regions of each image with what is marked in it, 0 to 1."""
    return [
        _overlap(mask, one.truth)
        for one, mask in zip(images, _drawn_masks(images, thresholds, drawing, head_maps), strict=True)
    ]


def _left_out(
    images: Sequence[MarkedImage],
    thresholds: RegionThresholds,
    drawing: RegionDrawing,
    head_maps: Sequence[NDArray[np.float32]],
) -> list[float]:
    """The share of each image's marked pixels that its regions leave out."""
    return [
        float((one.truth & ~mask).sum() / one.truth.sum())
        for one, mask in zip(images, _drawn_masks(images, thresholds, drawing, head_maps), strict=True)
    ]


def _drawn_masks(
    images: Sequence[MarkedImage],
    thresholds: RegionThresholds,
    drawing: RegionDrawing,
    head_maps: Sequence[NDArray[np.float32]],
) -> Iterator[NDArray[np.bool_]]:
    """The pixels of all regions of each image."""
    for place, one in enumerate(images):
        drawn = draw_regions(
            one.pixels,
            one.attribution_map,
            thresholds,
            drawing,
            head_map=head_maps[place] if drawing.drawn_by == "learned" else None,
        )
        yield mask_of(drawn, (one.truth.shape[0], one.truth.shape[1]))


def head_maps_of(classifier: DefectClassifier, images: Sequence[MarkedImage]) -> list[NDArray[np.float32]]:
    """What the classifier's head says of each image; empty where it has none."""
    head, features = classifier.region_head, PixelFeatures(classifier)
    return [] if head is None else [_head_map(head, features, one) for one in images]


def _head_map(head: RegionHead, features: PixelFeatures, image: MarkedImage) -> NDArray[np.float32]:
    return head.draw(features, image.pixels, Evidence(image.label, image.attribution_map))


def _best_level(images: Sequence[MarkedImage]) -> float:
    means = [
        _over_classes(
            images,
            [_overlap(one.attribution_map >= level * one.attribution_map.max(), one.truth) for one in images],
        )
        for level in _LEVELS
    ]
    return _LEVELS[int(np.argmax(means))]


def _best_probability(images: Sequence[MarkedImage], drawn: Sequence[NDArray[np.float32]]) -> float:
    means = [
        _over_classes(images, [_overlap(values >= level, one.truth) for one, values in zip(images, drawn, strict=True)])
        for level in _PROBABILITIES
    ]
    return _PROBABILITIES[int(np.argmax(means))]


def _over_classes(images: Sequence[MarkedImage], values: Sequence[float]) -> float:
    """The mean of the classes' means, so that a class of large defects weighs as much as one of many small ones."""
    labels = np.array([one.label for one in images])
    return float(np.mean([np.asarray(values)[labels == label].mean() for label in sorted(set(labels))]))


def _overlap(drawn: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((drawn & truth).sum() / (drawn | truth).sum())


def _interval(images: Sequence[MarkedImage], values: Sequence[float]) -> Interval:
    return mean_interval(values, groups=[one.group for one in images])


def _lit_from(classifier: DefectClassifier, samples: Sequence[Sample], progress: Progress) -> float | None:
    """The least probability that at most one in a hundred good images give any defect class; None without good ones."""
    good = [sample for sample in samples if sample.label == classifier.good_class]
    if not good:
        return None
    strongest = []
    for number, sample in enumerate(good, start=1):
        prediction = classifier.predict([read_image(sample.path).pixels])[0]
        strongest.append(
            max(
                float(p)
                for label, p in zip(classifier.classes, prediction.probabilities, strict=True)
                if label != classifier.good_class
            )
        )
        progress("looking at good images", number, len(good))
    ranked = sorted(strongest, reverse=True)
    return min(1.0, float(np.nextafter(ranked[int(LIT_GOOD_SHARE * len(ranked))], np.inf)))


def _likeliest_defect(classifier: DefectClassifier, pixels: NDArray[np.uint8]) -> str:
    prediction = classifier.predict([pixels])[0]
    return max(
        (float(p), label)
        for label, p in zip(classifier.classes, prediction.probabilities, strict=True)
        if label != classifier.good_class
    )[1]
