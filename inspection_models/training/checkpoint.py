"""What a training needs to go on after a kill, kept beside its output and written whole or not at all.

In the folder `.<output>.training`: `identity.json` says which training it is, `<epoch>-<sha256>.safetensors` is the
state after an epoch, tensors and, in the file's own header, everything else as JSON. No pickle is read or written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch

from inspection_models.training.request import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

IDENTITY_FILE = "identity.json"
_LOCK_FILE = "lock"
_HEADER = "state"


class CheckpointError(TrainingError):
    """What is kept is damaged or another training's; `TrainingRequest.restart` throws it away."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after an epoch.

    Attributes:
        epoch: how many passes are done; 0: the new head is.
        tensors: by name.
        state: all that is no tensor, as JSON gives it back.
    """

    epoch: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


class Workplace:
    """The folder of one training's checkpoints, held by one process at a time; see `workplace`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def is_begun(self) -> bool:
        """Whether there is a checkpoint."""
        return bool(self._checkpoints())

    def latest(self) -> Checkpoint | None:
        """The last checkpoint, if there is one.

        Raises:
            CheckpointError: it is damaged.
        """
        found = self._checkpoints()
        if not found:
            return None
        path = found[-1]
        number, _, digest = path.stem.partition("-")
        try:
            content = path.read_bytes()
            _check_digest(content, digest)
            with safetensors.safe_open(path, "pt") as file:
                state: dict[str, Any] = json.loads(file.metadata()[_HEADER])
            return Checkpoint(int(number), safetensors.torch.load(content), state)
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error}); start anew without it: --restart, or remove {self._folder}"
            ) from error

    def write(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint in the place of the former one, which stays until the new one is safe.

        Raises:
            TrainingError: it cannot be written; the former one is still there.
        """
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        content: bytes = safetensors.torch.save(tensors, {_HEADER: json.dumps(checkpoint.state)})
        former = self._checkpoints()
        name = f"{checkpoint.epoch:04d}-{hashlib.sha256(content).hexdigest()}.safetensors"
        try:
            _write_whole(self._folder / name, content)
        except OSError as error:
            done = f"the state after epoch {int(former[-1].stem.partition('-')[0])}" if former else "nothing yet"
            raise TrainingError(
                f"the checkpoint of epoch {checkpoint.epoch} cannot be written to {self._folder} "
                f"({error.strerror or error}); {done} is kept there: make room and start the same training again"
            ) from error
        for path in former:
            if path.name != name:
                path.unlink()

    def show(self, name: str, content: bytes) -> None:
        """Leave a file for people to look at while the training goes on.

        Raises:
            TrainingError: it cannot be written.
        """
        try:
            _write_whole(self._folder / name, content)
        except OSError as error:
            raise TrainingError(
                f"{self._folder / name} cannot be written ({error.strerror or error}); make room and start the same "
                "training again"
            ) from error

    def remove(self) -> None:
        """Clear the folder away: the training is done."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*-*.safetensors"))


@contextmanager
def workplace(output: Path, identity: Mapping[str, Any], *, restart: bool) -> Iterator[Workplace]:
    """The place for the checkpoints of a training that writes `output`.

    Args:
        output: the model directory to be.
        identity: what makes it this training and no other: nested mappings of JSON values.
        restart: throw away the checkpoints that are there.

    Raises:
        CheckpointError: what the folder holds is damaged or another training's.
        TrainingError: the folder cannot be written, or is being used.
    """
    folder = output.with_name(f".{output.name}.training")
    wanted = json.loads(json.dumps(identity))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK_FILE).open("a", encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be written ({error.strerror or error}); a training keeps its checkpoints beside its "
            "output: choose an output in a folder of yours"
        ) from error
    with lock:
        _hold(lock.fileno(), folder)
        if restart:
            _clear(folder)
        place, known = Workplace(folder), folder / IDENTITY_FILE
        if place.is_begun:
            _compare(known, wanted, folder)
        else:
            _clear(folder)
            try:
                _write_whole(known, (json.dumps(wanted, indent=2) + "\n").encode())
            except OSError as error:
                raise TrainingError(
                    f"{folder} cannot be written ({error.strerror or error}); make room and start again"
                ) from error
        try:
            yield place
        finally:
            if not place.is_begun:
                place.remove()


def _check_digest(content: bytes, digest: str) -> None:
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("its bytes are not those that were written")


def _hold(descriptor: int, folder: Path) -> None:
    try:
        import fcntl  # noqa: PLC0415 - where there is none, the folder is not guarded
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TrainingError(f"another training is writing to {folder}; wait for it or choose another output") from error


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != _LOCK_FILE:
            path.unlink()


def _compare(known: Path, wanted: Mapping[str, Any], folder: Path) -> None:
    try:
        found = json.loads(known.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{known} is damaged ({error}); start anew: --restart, or remove {folder}") from error
    differences = [f"{name} was {old!r} and is {new!r}" for name, old, new in _differences(found, wanted)]
    if differences:
        more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise CheckpointError(
            f"{folder} holds the checkpoint of another training: {'; '.join(differences[:3])}{more}. Ask for the same "
            "one to go on with it, or throw it away with --restart"
        )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole after a crash, or not at all."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
