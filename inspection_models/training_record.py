"""Which images a model has seen: a list beside its card, so that nobody judges it by those later."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from inspection_models.model_card import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from inspection_models.data import Split
    from inspection_models.model_card import ModelCard

IMAGES_FILE = "training_images.csv"
HASH_KEY = "images_sha256"
"""Under which `ModelCard.training` keeps the hash of the list."""
_HEADER = "sha256,part"
_LINE = re.compile("([0-9a-f]{64}),(train|validation|test)")
# A model is fitted to the one and stopped, calibrated and given its thresholds by the other.
_TUNED_ON = ("train", "validation")


def images_csv(split: Split) -> bytes:
    """The list of a split's images: a line with the file's sha256 and its part, sorted."""
    rows = {f"{sample.sha256},{part}" for part in ("train", "validation", "test") for sample in getattr(split, part)}
    return ("\n".join([_HEADER, *sorted(rows)]) + "\n").encode()


def images_sha256(listed: bytes) -> str:
    """What the card says of a list."""
    return hashlib.sha256(listed).hexdigest()


def seen_images(directory: Path, card: ModelCard) -> frozenset[str] | None:
    """The sha256 of every image file that a model was fitted to or tuned on; None where its directory has no list.

    Raises:
        ModelError: the list was changed, or cannot be read.
    """
    path = directory / IMAGES_FILE
    try:
        listed = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); copy the directory again") from error
    if images_sha256(listed) != card.training.get(HASH_KEY):
        raise ModelError(f"{path}: is not the list that the model's card names; copy the model directory again")
    return frozenset(_seen(listed.decode().splitlines()[1:], path))


def _seen(lines: Iterable[str], path: Path) -> Iterable[str]:
    for line in lines:
        fields = _LINE.fullmatch(line)
        if fields is None:
            raise ModelError(f"{path}: holds a line that is no image: {line[:80]!r}; copy the model directory again")
        if fields[2] in _TUNED_ON:
            yield fields[1]
