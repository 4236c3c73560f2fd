"""The figures of several explanations side by side: of every image, and over the images with their intervals."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from inspection_models.metrics.bootstrap import Interval, mean_interval, paired_difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SMALL_DEFECT = 0.01
"""Share of the picture below which a defect is small."""


@dataclass(frozen=True)
class Metric:
    """A figure: its key in reports, its title in tables, and which way is better. All but seconds lie in [0, 1]."""

    key: str
    title: str
    better: Literal["higher", "lower"]


LOCALISATION = (
    Metric("ap", "AP", "higher"),
    Metric("ebpg", "EBPG", "higher"),
    Metric("ebpg_ranked", "EBPG, ranks", "higher"),
    Metric("miou", "mIoU", "higher"),
    Metric("bbox", "Bbox", "higher"),
    Metric("pointing", "pointing", "higher"),
)
FAITHFULNESS = {
    fill: (
        Metric(f"drop_{fill}", "Drop", "lower"),
        Metric(f"increase_{fill}", "Increase", "higher"),
        Metric(f"insertion_{fill}", "insertion", "higher"),
        Metric(f"deletion_{fill}", "deletion", "lower"),
    )
    for fill in ("mean", "blur")
}
METRICS = (*LOCALISATION, *FAITHFULNESS["mean"], *FAITHFULNESS["blur"], Metric("seconds", "seconds", "lower"))


@dataclass(frozen=True)
class MapFigures:
    """One method's map of one image.

    Attributes:
        method: its name.
        values: by the keys of `METRICS`.
        masks_scored: forward passes of masked inputs that it took.
    """

    method: str
    values: Mapping[str, float]
    masks_scored: int


@dataclass(frozen=True)
class ImageFigures:
    """One image.

    Attributes:
        file: its name, without folders.
        sha256: hex digest of the file.
        group: the part or photograph series that it belongs to; images of one group are resampled together.
        label: its class, which was explained.
        defect_share: share of the picture that is defective.
        confidence: the network's in that class, at temperature 1.
        maps: one a method, in the report's order.
    """

    file: str
    sha256: str
    group: str
    label: str
    defect_share: float
    confidence: float
    maps: tuple[MapFigures, ...]


@dataclass(frozen=True)
class MethodRow:
    """One method over a set of images.

    Attributes:
        method: its name.
        figures: mean and 95 % interval by the keys of `METRICS`.
        differences: of the same, less those of the baseline on the same images; None for the baseline itself, and
            where it is not among the methods.
        masks_scored: mean over the images.
    """

    method: str
    figures: Mapping[str, Interval]
    differences: Mapping[str, Interval] | None
    masks_scored: float


@dataclass(frozen=True)
class ExplanationReport:
    """Everything that was measured.

    Attributes:
        model: the model version's name, version and hashes.
        settings: all that the figures depend on, ready for JSON.
        left_out: numbers of images by the reason why they were not measured.
        images: what was measured, image by image.
        rows: a row a method over all images.
        small: the same over images whose defect fills less than 1 % of the picture; empty where there is none.
        baseline: the method that the differences refer to, if it is among them.
    """

    model: Mapping[str, str]
    settings: Mapping[str, Any]
    left_out: Mapping[str, int]
    images: tuple[ImageFigures, ...]
    rows: tuple[MethodRow, ...]
    small: tuple[MethodRow, ...]
    baseline: str | None

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON gives them back: with lists for tuples."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return fields


def method_rows(images: Sequence[ImageFigures], baseline: str | None, seed: int) -> tuple[MethodRow, ...]:
    """A row a method over these images, with resamples drawn alike for all methods; none where there are no images.

    Groups of images are resampled whole.
    `baseline` is the method to take differences from; where it is not among the images' methods there are none.
    """
    if not images:
        return ()
    methods = [one.method for one in images[0].maps]
    groups = [image.group for image in images]
    table = {
        method: {metric.key: np.array([image.maps[place].values[metric.key] for image in images]) for metric in METRICS}
        for place, method in enumerate(methods)
    }
    rows = []
    for place, method in enumerate(methods):
        differences = None
        if baseline in table and method != baseline:
            differences = {
                metric.key: paired_difference(
                    table[method][metric.key], table[baseline][metric.key], groups=groups, seed=seed
                )
                for metric in METRICS
            }
        rows.append(
            MethodRow(
                method=method,
                figures={
                    metric.key: mean_interval(table[method][metric.key], groups=groups, seed=seed) for metric in METRICS
                },
                differences=differences,
                masks_scored=float(np.mean([image.maps[place].masks_scored for image in images])),
            )
        )
    return tuple(rows)
