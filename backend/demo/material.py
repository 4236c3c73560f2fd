"""What the demo inspects and with what: the user's own, or synthetic steel strip made and learned here."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inspection_models.model_card import CARD_FILE, ModelError, read_card

if TYPE_CHECKING:
    from collections.abc import Collection

    from backend.demo.progress import DemoProgress

SYNTHETIC_TITLE = "Synthetic steel strip (demo data)"
SYNTHETIC_SOURCE = "synthetic"
# Characters that Label Studio allows a project's title.
TITLE_LENGTH = 50
_HEADING = "Which defect, and where?"
_TRAINING_PER_CLASS = 110
_INBOX_PER_CLASS = 3
_IMAGE_SIDE = 256
_NETWORK_SIDE = 160
# The inbox comes from another seed than the training set, so no image is in both.
_TRAINING_SEED, _INBOX_SEED = 20_101, 707
_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


class MaterialError(ValueError):
    """The demo has nothing to inspect, or nothing to inspect it with."""


@dataclass(frozen=True)
class DemoMaterial:
    """What the demo runs on.

    Attributes:
        images: files to upload.
        model: a model directory.
        source: where the images come from: an absolute folder, or "synthetic".
        title: of the Label Studio project.
        heading: over each task.
        truth: class by file name where it is known; empty for the user's own photographs.
    """

    images: tuple[Path, ...]
    model: Path
    source: str
    title: str
    heading: str
    truth: dict[str, str]


def prepare_material(
    directory: Path, *, images: Path | None, model: Path | None, progress: DemoProgress
) -> DemoMaterial:
    """Collect or make images and model; what was made before is used again.

    Args:
        directory: where made things are kept.
        images: a folder of the user's photographs; needs a model too.
        model: a model directory of the user's; alone it judges the synthetic images.

    Raises:
        MaterialError: the folder has no images, or photographs were given without a model.
        OSError: the disk is full or cannot be written.
    """
    if images is not None:
        if model is None:
            raise MaterialError(
                "--images needs --model: the demo's own model knows only synthetic steel strip; "
                "train one with `inspection train --data DIR --out MODEL`"
            )
        folder = images.resolve()
        return DemoMaterial(_photographs(images), model, str(folder), _title(folder), _HEADING, {})
    inbox, truth = _synthetic_inbox(directory / "inbox")
    if model is None:
        model = _trained_model(directory, progress)
    heading = f"{SYNTHETIC_TITLE}: which defect, and where?"
    return DemoMaterial(inbox, model, SYNTHETIC_SOURCE, SYNTHETIC_TITLE, heading, truth)


def distinct_title(title: str, taken: Collection[str]) -> str:
    """A title that no project in `taken` has, numbered where need be, as long as Label Studio allows."""
    candidate, number = title[:TITLE_LENGTH], 1
    while candidate in taken:
        number += 1
        suffix = f" ({number})"
        candidate = title[: TITLE_LENGTH - len(suffix)] + suffix
    return candidate


def _title(folder: Path) -> str:
    """Many folders are called inbox: the folder above is named too where there is room."""
    long = f"Inspection of {folder.parent.name}/{folder.name}"
    return long if len(long) <= TITLE_LENGTH else f"Inspection of {folder.name}"[:TITLE_LENGTH]


def _photographs(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise MaterialError(f"{folder} is no folder; give --images a folder of photographs")
    found = tuple(sorted(p for p in folder.rglob("*") if p.suffix.lower() in _IMAGE_SUFFIXES and p.is_file()))
    if not found:
        raise MaterialError(f"{folder} has no images ({', '.join(sorted(_IMAGE_SUFFIXES))})")
    names = [path.name for path in found]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise MaterialError(f"{folder} has several files named {twins[0]}; Label Studio could not tell them apart")
    return found


def _synthetic_inbox(folder: Path) -> tuple[tuple[Path, ...], dict[str, str]]:
    """Images under names that do not tell their class, in an order that does not either."""
    if not (folder / "truth.json").is_file():
        _make_inbox(folder)
    truth: dict[str, str] = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return tuple(folder / name for name in sorted(truth)), truth


def _make_inbox(folder: Path) -> None:
    from inspection_models.data import write_synthetic_steel  # noqa: PLC0415

    making = folder.with_name("inbox.making")
    shutil.rmtree(making, ignore_errors=True)
    made = list(write_synthetic_steel(making / "set", per_class=_INBOX_PER_CLASS, size=_IMAGE_SIDE, seed=_INBOX_SEED))
    random.Random(_INBOX_SEED).shuffle(made)  # noqa: S311 - an order, not a secret
    truth = {}
    for number, path in enumerate(made, start=1):
        name = f"synthetic_strip_{number:03d}.png"
        truth[name] = path.parent.name
        path.rename(making / name)
    shutil.rmtree(making / "set")
    (making / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    making.rename(folder)


def _readable(card: Path, progress: DemoProgress) -> bool:
    """Whether this release reads a model that the demo made; it made it itself and can make it again."""
    try:
        read_card(card)
    except ModelError as error:
        progress.say(f"  the model of a former demo cannot be used ({error}); training it anew")
        return False
    return True


def _trained_model(directory: Path, progress: DemoProgress) -> Path:
    from backend.training_progress import counted  # noqa: PLC0415
    from inspection_models.data import write_synthetic_steel  # noqa: PLC0415
    from inspection_models.training import TrainingRequest, train  # noqa: PLC0415

    model = directory / "model"
    if (model / CARD_FILE).is_file() and _readable(model / CARD_FILE, progress):
        return model
    data = directory / "training-set"
    shutil.rmtree(data, ignore_errors=True)
    write_synthetic_steel(data, per_class=_TRAINING_PER_CLASS, size=_IMAGE_SIDE, seed=_TRAINING_SEED)
    request = TrainingRequest(
        data=data,
        output=model,
        name="synthetic-steel-strip",
        size=(_NETWORK_SIDE, _NETWORK_SIDE),
        epochs=3,
        overwrite=True,
    )
    report = train(request, progress=counted(progress.count))
    progress.say(
        f"  trained on {sum(report.counts['train'].values())} synthetic images in {report.seconds:.0f} s; "
        f"balanced accuracy on {sum(report.counts['test'].values())} held out: {report.test.balanced_accuracy:.1%}"
    )
    return model
