"""All methods side by side: explain the same images with each and measure every map with every figure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inspection_models.attribution import METHODS, AttributionError, attribute, settled_options
from inspection_models.metrics import localisation
from inspection_models.metrics.cases import Case, prepare_case, select_samples
from inspection_models.metrics.controls import CONTROLS, control_map
from inspection_models.metrics.errors import MetricError
from inspection_models.metrics.faithfulness import KEPT_SHARE, class_confidence, insertion_deletion, keep_highest
from inspection_models.metrics.fills import BLUR_SHARE, FILLS
from inspection_models.metrics.report import SMALL_DEFECT, ExplanationReport, ImageFigures, MapFigures, method_rows

if TYPE_CHECKING:
    from inspection_models.classifier import DefectClassifier
    from inspection_models.data import Sample

BASELINE = "sise"
"""The paper's method: what the others are compared with."""

# As many pixels at once as the processor's caches like; a graphics card wants to be filled.
_BATCH_PIXELS = {"cpu": 4 * 224 * 224}
_BATCH_PIXELS_ACCELERATED = 64 * 224 * 224


@dataclass(frozen=True)
class EvaluationSettings:
    """How explanations are measured.

    Attributes:
        methods: names of attribution methods and controls, in the report's order; None takes all that there are.
        limit: see `select_samples`.
        seed: of drawing images, of the order of tied pixels and of the bootstrap.
        steps: of insertion and deletion.
        tolerance: of the pointing game, in network pixels.
    """

    methods: tuple[str, ...] | None = None
    limit: int | None = None
    seed: int = 0
    steps: int = 20
    tolerance: int = 0

    def __post_init__(self) -> None:
        if unknown := [name for name in self.names if name not in method_names()]:
            raise MetricError(f"there is no method {unknown[0]!r}; there are {', '.join(method_names())}")
        if not self.names or len(set(self.names)) != len(self.names):
            raise MetricError("name each method once, and at least one")

    @property
    def names(self) -> tuple[str, ...]:
        """The methods to measure."""
        return method_names() if self.methods is None else self.methods


@dataclass(frozen=True)
class _Explained:
    values: Tensor
    seconds: float
    masks_scored: int


def method_names() -> tuple[str, ...]:
    """Everything that can be measured: the attribution methods and the controls."""
    return (*METHODS, *CONTROLS)


def evaluate_explanations(
    classifier: DefectClassifier,
    samples: Sequence[Sample],
    settings: EvaluationSettings | None = None,
    *,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> ExplanationReport:
    """Explain the true class of every rightly decided image with a marked defect, and measure the maps.

    Maps are measured on the network's grid, where they are made; truth is brought there as the image is. Of images that
    are looked at in tiles one tile each is measured, see `prepare_case`. Methods run
    with their default options; controls see the picture without its padding, which they leave at zero.

    Args:
        classifier: the model, on the device to compute on.
        samples: of any classes; see `select_samples` for those that are taken.
        settings: what to measure; None takes the defaults.
        progress: told what is done, how far, and of how much.

    Raises:
        MetricError: no image can be measured.
        ImageError: a file is damaged.
        AttributionError: a method cannot explain this network; the message names it.
    """
    settings = settings or EvaluationSettings()
    selection = select_samples(
        classifier,
        samples,
        limit=settings.limit,
        seed=settings.seed,
        progress=lambda done, total: progress("choosing images", done, total),
    )
    options = {name: _settled(classifier, name) for name in settings.names if name in METHODS}
    images: list[ImageFigures] = []
    total = len(selection.samples) * len(settings.names)
    for sample in selection.samples:
        case = prepare_case(classifier, sample)
        explained = {}
        for name in settings.names:
            explained[name] = _explain(classifier, case, name, options.get(name))
            progress("explaining", len(images) * len(settings.names) + len(explained), total)
        images.append(_measure(classifier, case, explained, settings))
    baseline = BASELINE if BASELINE in settings.names else None
    small = [image for image in images if image.defect_share < SMALL_DEFECT]
    return ExplanationReport(
        model=asdict(classifier.version),
        settings=_stated(classifier, settings, options),
        left_out=selection.left_out,
        images=tuple(images),
        rows=method_rows(images, baseline, settings.seed),
        small=method_rows(small, baseline, settings.seed),
        baseline=baseline,
    )


@contextmanager
def _naming(method: str) -> Iterator[None]:
    """Put the method's name before what it complains of, in an error of the same type."""
    try:
        yield
    except AttributionError as error:
        raise type(error)(f"{method}: {error}") from error


def _settled(classifier: DefectClassifier, method: str) -> dict[str, Any]:
    with _naming(method):
        return settled_options(classifier.network, classifier.preprocessing.size, method, {})


def _explain(classifier: DefectClassifier, case: Case, method: str, options: Mapping[str, Any] | None) -> _Explained:
    started = time.perf_counter()
    if options is None:
        return _Explained(_control(case, method), time.perf_counter() - started, 0)
    with _naming(method):
        found = attribute(
            classifier.network,
            case.inputs[None],
            torch.tensor([case.target]),
            method=method,
            activation=classifier.card.activation,
            **options,
        )
    return _Explained(found.map[0], time.perf_counter() - started, int(found.masks_scored[0]))


def _control(case: Case, name: str) -> Tensor:
    values = torch.zeros_like(case.inputs[0])
    (top, left), (height, width) = case.placement.offset, case.placement.content_size
    rows, columns = slice(top, top + height), slice(left, left + width)
    values[rows, columns] = control_map(name, case.inputs[:, rows, columns])
    return values


def _measure(
    classifier: DefectClassifier, case: Case, explained: Mapping[str, _Explained], settings: EvaluationSettings
) -> ImageFigures:
    device = next(classifier.network.parameters()).device
    maps = torch.stack([one.values for one in explained.values()]).to(device)
    truth = case.truth.to(device).expand_as(maps)
    columns = {
        "ap": localisation.pixel_average_precision(maps, truth),
        "ebpg": localisation.energy_based_pointing_game(maps, truth),
        "ebpg_ranked": localisation.ranked_pointing_game(maps, truth),
        "miou": localisation.top_iou(maps, truth),
        "bbox": localisation.bbox(maps, truth),
        "pointing": localisation.pointing_game(maps, truth, settings.tolerance),
    }
    confidence = class_confidence(
        # The layout that convolutions compute in; handing it over saves turning each layer's maps.
        lambda inputs: classifier.network(inputs.contiguous(memory_format=torch.channels_last)),
        case.target,
        classifier.card.activation,
    )
    inputs, batch_size, seed = case.inputs.to(device), _batch_size(case.inputs, device), _seed(case, settings)
    original = 0.0
    for fill in FILLS:
        kept = keep_highest(confidence, inputs, maps, fill=fill, batch_size=batch_size, seed=seed)
        curves = insertion_deletion(
            confidence, inputs, maps, fill=fill, steps=settings.steps, batch_size=batch_size, seed=seed
        )
        original = kept.original
        columns |= {
            f"drop_{fill}": kept.drop,
            f"increase_{fill}": kept.increase,
            f"insertion_{fill}": curves.insertion_auc,
            f"deletion_{fill}": curves.deletion_auc,
        }
    values = {key: column.tolist() for key, column in columns.items()}
    return ImageFigures(
        file=case.sample.path.name,
        sha256=case.sample.sha256,
        group=case.sample.group,
        label=case.sample.label,
        defect_share=case.defect_share,
        confidence=original,
        maps=tuple(
            MapFigures(
                method=name,
                values={**{key: column[place] for key, column in values.items()}, "seconds": one.seconds},
                masks_scored=one.masks_scored,
            )
            for place, (name, one) in enumerate(explained.items())
        ),
    )


def _seed(case: Case, settings: EvaluationSettings) -> int:
    """Of the order of tied pixels: another for each image, lest the luck of one order go through all of them."""
    return int(case.sample.sha256[:12], 16) + settings.seed


def _batch_size(inputs: Tensor, device: torch.device) -> int:
    pixels = _BATCH_PIXELS.get(device.type, _BATCH_PIXELS_ACCELERATED)
    return max(1, pixels // inputs[0].numel())


def _stated(
    classifier: DefectClassifier, settings: EvaluationSettings, options: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        **asdict(settings),
        "methods": list(settings.names),
        "options": options,
        "activation": classifier.card.activation,
        "input_size": classifier.preprocessing.size,
        "tiling": None if classifier.card.tiling is None else asdict(classifier.card.tiling),
        "target": "true class",
        "iou_share": localisation.TOP_SHARE,
        "kept_share": KEPT_SHARE,
        "fills": FILLS,
        "blur_share": BLUR_SHARE,
        "small_defect": SMALL_DEFECT,
        "ties": "expected value or one draw under a random order; average precision: found together",
    }
