"""Which images a model has seen: a list beside its card, so that nobody judges it by those later."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal

from inspection_models.model_card import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from inspection_models.data import Sample, Split
    from inspection_models.model_card import ModelCard

IMAGES_FILE = "training_images.csv"
HASH_KEY = "images_sha256"
"""Under which `ModelCard.training` keeps the hash of the list."""
_HEADER = "sha256,part"
_LINE = re.compile("([0-9a-f]{64}),(train|validation|test|scores|lines)")
# What a model is fitted to, what stops and calibrates it, and what calibrates it anew; and what lines are drawn from.
_SCORED_BY = ("train", "validation", "scores")
_TUNED_ON = (*_SCORED_BY, "lines")


def images_csv(split: Split) -> bytes:
    """The list of a split's images: a line with the file's sha256 and its part, sorted."""
    parts = ("train", "validation", "test", "lines")
    return _listed({f"{sample.sha256},{part}" for part in parts for sample in getattr(split, part)})


def with_images(listed: bytes, samples: Iterable[Sample], part: Literal["scores", "lines"]) -> bytes:
    """A list with the images that a model was calibrated on later: its scores, or its lines alone."""
    return _listed({*listed.decode().splitlines()[1:], *(f"{sample.sha256},{part}" for sample in samples)})


def images_sha256(listed: bytes) -> str:
    """What the card says of a list."""
    return hashlib.sha256(listed).hexdigest()


def seen_images(directory: Path, card: ModelCard, *, lines: bool = True) -> frozenset[str] | None:
    """The sha256 of every image file that a model was fitted to or tuned on; None where its card names no list.

    Args:
        directory: of the model.
        card: of the model.
        lines: count images, too, that only its lines were drawn from, on which its scores do not depend.

    Raises:
        ModelError: the list is gone or was changed, or cannot be read.
    """
    listed = read_list(directory, card)
    if listed is None:
        return None
    return frozenset(
        _seen(listed.decode().splitlines()[1:], directory / IMAGES_FILE, _TUNED_ON if lines else _SCORED_BY)
    )


def images_tested_on(directory: Path, card: ModelCard) -> frozenset[str] | None:
    """The sha256 of every image file that a model was tested on and nothing else; None where its card names no list.

    Raises:
        ModelError: the list is gone or was changed, or cannot be read.
    """
    listed = read_list(directory, card)
    if listed is None:
        return None
    lines = listed.decode().splitlines()[1:]
    path = directory / IMAGES_FILE
    return frozenset(_seen(lines, path, ("test",))) - frozenset(_seen(lines, path, _TUNED_ON))


def read_list(directory: Path, card: ModelCard) -> bytes | None:
    """The list of a model's images; None where its card names none.

    Raises:
        ModelError: the list is gone or was changed, or cannot be read.
    """
    path = directory / IMAGES_FILE
    try:
        listed = path.read_bytes()
    except FileNotFoundError as error:
        if HASH_KEY not in card.training:
            return None
        raise ModelError(
            f"{path}: is missing, so it is not known which images the model was trained on; copy it from where the "
            "model was written"
        ) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); copy the directory again") from error
    if images_sha256(listed) != card.training.get(HASH_KEY):
        raise ModelError(f"{path}: is not the list that the model's card names; copy the model directory again")
    return listed


def _listed(rows: set[str]) -> bytes:
    return ("\n".join([_HEADER, *sorted(rows)]) + "\n").encode()


def _seen(lines: Iterable[str], path: Path, parts: tuple[str, ...]) -> Iterable[str]:
    for line in lines:
        fields = _LINE.fullmatch(line)
        if fields is None:
            raise ModelError(f"{path}: holds a line that is no image: {line[:80]!r}; copy the model directory again")
        if fields[2] in parts:
            yield fields[1]
