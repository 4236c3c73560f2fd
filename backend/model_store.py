"""Model directories kept where they cannot vanish under the desk: one folder a version, named by its fingerprint."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from inspection_models.model_card import CARD_FILE, WEIGHTS_FILE, ModelError, read_card

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection_models.model_card import ModelCard

_LEFT_OVER_SECONDS = 24 * 3600.0


class ModelStore:
    """The folder that activated models are copied to.

    Args:
        folder: made when the first model is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def directory(self, fingerprint: str) -> Path:
        """Where the version of this fingerprint is kept, if it is."""
        return self.folder / fingerprint

    def keep(self, source: Path) -> Path:
        """Copy a model directory, whole or not at all; where it is kept already, file for file, nothing is done.

        Raises:
            ModelError: the directory is no model, or a file beside its card is not what the card says.
            OSError: it cannot be read or copied.
        """
        card = read_card(source / CARD_FILE)
        target = self.directory(card.fingerprint)
        if damage(target, card.fingerprint) is None and _holds(target, source):
            return target
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_left_overs()
        fresh = self.folder / f".{uuid.uuid4().hex}"
        try:
            _copy(source, fresh)
            if problem := damage(fresh, card.fingerprint):
                raise ModelError(f"{source} is no whole model: {problem}")
            self._swap_in(fresh, target, card)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return target

    def locate(self, fingerprint: str, recorded: Sequence[str]) -> Path:
        """A directory that holds the version unharmed: the kept copy, else one of those it was read from.

        Raises:
            ModelError: there is none; the message says what is wrong with each.
        """
        problems = []
        for directory in dict.fromkeys((self.directory(fingerprint).absolute(), *map(Path, recorded))):
            problem = damage(directory, fingerprint)
            if problem is None:
                return directory
            problems.append(problem)
        raise ModelError(f"{'; '.join(problems)}; activate the version again from a directory that holds it")

    def _swap_in(self, fresh: Path, target: Path, card: ModelCard) -> None:
        try:
            fresh.rename(target)
        except OSError:
            # A folder that holds files is not replaced. Either another process kept the same version meanwhile, or
            # this is a damaged copy, or one with other papers, that is to be put right.
            if damage(target, card.fingerprint) is not None or not _holds(target, fresh):
                target.rename(self.folder / f".{uuid.uuid4().hex}")
                fresh.rename(target)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _remove_left_overs(self) -> None:
        """What a process that was killed left half copied, and damaged copies that were replaced."""
        for folder in self.folder.glob(".*"):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _LEFT_OVER_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def damage(directory: Path, fingerprint: str) -> str | None:
    """What keeps a directory from being the version of this fingerprint; None where card and all it names are right."""
    try:
        card = read_card(directory / CARD_FILE)
        if card.fingerprint != fingerprint:
            return f"{directory} holds another model by now, {card.name} {card.version}"
    except ModelError as error:
        return str(error)
    return next(filter(None, (_harm(directory / name, digest) for name, digest in _hashes(card).items())), None)


def _hashes(card: ModelCard) -> dict[str, str]:
    """The sha256 that a card states of each file beside it."""
    stated = {WEIGHTS_FILE: card.weights_sha256}
    if card.regions.head is not None:
        from inspection_models.region_head import HEAD_FILE  # noqa: PLC0415 - brings torch in

        stated[HEAD_FILE] = card.regions.head.weights_sha256
    if card.familiarity is not None:
        from inspection_models.familiarity import FAMILIAR_FILE  # noqa: PLC0415 - brings torch in

        stated[FAMILIAR_FILE] = card.familiarity.sha256
    return stated


def _harm(file: Path, stated: str) -> str | None:
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        return f"{file}: cannot be read ({error.strerror or error})"
    return None if digest == stated else f"{file}: was changed or damaged"


def _holds(directory: Path, source: Path) -> bool:
    """Whether a directory has all files of another, byte for byte."""
    return all(
        (directory / file.name).is_file() and (directory / file.name).read_bytes() == file.read_bytes()
        for file in source.iterdir()
        if file.is_file()
    )


def _copy(source: Path, target: Path) -> None:
    """The files of a model directory, down to the disk."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.is_file():
            with (target / file.name).open("xb") as copy:
                copy.write(file.read_bytes())
                copy.flush()
                os.fsync(copy.fileno())
