"""Which images of a data set a model is judged by: the parts of the split that it was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from inspection_models.data import DatasetError, split_dataset
from inspection_models.data.dataset import check_good
from inspection_models.metrics.cases import check_classes

if TYPE_CHECKING:
    from inspection_models.data import Dataset, Sample
    from inspection_models.model_card import ModelCard

Part = Literal["test", "validation", "train", "all"]


@dataclass(frozen=True)
class ChosenPart:
    """The samples of a part, and `notes` on what a reader of the figures must know about them."""

    samples: tuple[Sample, ...]
    notes: tuple[str, ...]


def choose_part(card: ModelCard, dataset: Dataset, part: Part) -> ChosenPart:
    """The part of a data set as the model's training split it, by the seed and shares on its card.

    Where the card records no split, or that of other data, the split of seed 0 is taken, or the recorded one, and a
    note says that images of the part may have been trained on.

    Raises:
        MetricError: the data set has a class that the model does not know.
        DatasetError: it cannot be split, or an image shows the model's good class and a defect at once.
    """
    check_classes(card.classes, dataset.samples)
    check_good(dataset, card.good_class)
    recorded = card.training
    notes = []
    if recorded.get("data_sha256") not in (None, dataset.sha256):
        notes.append(
            "this is not the data set of the model's card (other files, labels, marks or groups), so its parts are not "
            "those of the training; an image that both hold may have been trained on"
        )
    if part == "all":
        notes.append("all images are taken, also those that the model may have been trained on")
        return ChosenPart(dataset.samples, tuple(notes))
    split = _recorded_split(recorded)
    if not split:
        notes.append(
            "the model's card records no split of its training; split with seed 0, images of this part may have been "
            "trained on"
        )
    try:
        parts = split_dataset(dataset, **split)
    except DatasetError as error:
        raise DatasetError(f"{error}; or take all images instead of a part") from error
    if part == "test" and recorded.get("lines_from") == "half of the test part":
        notes.append(
            "the model's lines were drawn from half of this part, for which their figures are a little too good"
        )
    samples: tuple[Sample, ...] = getattr(parts, part)
    return ChosenPart(samples, tuple(notes))


def _recorded_split(training: dict[str, Any]) -> dict[str, Any]:
    settings = training.get("settings")
    settings = settings or {}
    seed = settings.get("split_seed")
    recorded = {
        "seed": training.get("seed") if seed is None else seed,
        **{key: settings.get(key) for key in ("validation", "test")},
    }
    return recorded if all(isinstance(value, int | float) for value in recorded.values()) else {}
