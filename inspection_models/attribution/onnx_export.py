"""A network exported to ONNX and run by ONNX Runtime on a processor, kept on disk by what it was made of."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import platformdirs
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspection_models.attribution.errors import AttributionError
from inspection_models.attribution.tracing import Trace

_LOGGER = logging.getLogger(__name__)
_OPSET = 17
_INPUT, _OUTPUT = "inputs", "logits"
_MOST_KEPT = 32


class ExportError(AttributionError):
    """A network cannot be exported, or its export does not run as the network does; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"engine {OnnxEngine.name!r} cannot run this network: {self.reason}; use engine='torch'"


class OnnxEngine:
    """An ONNX Runtime session on a processor for float32 inputs of one shape, several of them side by side.

    Each thread computes another input of a batch: that waits less than threads that share the work of every layer, and
    an input's logits do not depend, to the bit, on what else is in its batch.
    """

    name = "onnxruntime"

    def __init__(self, model: bytes, workers: int, threads: int) -> None:
        """`workers`: inputs side by side. `threads`: for each layer, beyond one if there are more than workers."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads if threads > workers else 1
        options.inter_op_num_threads = 1
        # Threads that wait by spinning take the processor from torch's, which run in turn with them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="onnxruntime")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime raises many types of its own
            raise ExportError(f"ONNX Runtime refuses its export ({_first_line(error)})") from error

    def new_batch(self, shape: tuple[int, int, int, int]) -> Tensor:
        """An input batch of zeros, channels first."""
        return torch.zeros(shape)

    def logits(self, batch: Tensor) -> Tensor:
        """Logits [B, classes] of a batch [B, C, H, W] of any size. Raises `ExportError` where the runtime fails."""
        numbers = batch.numpy()
        inputs = [numbers[place : place + 1] for place in range(len(numbers))]
        rows = self._side_by_side(inputs) if min(self._workers, len(inputs)) > 1 else map(self._run, inputs)
        return torch.from_numpy(np.concatenate(list(rows)))

    def _side_by_side(self, inputs: list[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        try:
            return self._pool.map(self._run, inputs)
        except RuntimeError:
            # No error of the runtime's, for results are only asked for later: Python starts no work in other threads
            # once the main thread has ended, which the calling thread may outlive.
            return map(self._run, inputs)

    def _run(self, one: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            [result] = self._session.run([_OUTPUT], {_INPUT: one})
        except Exception as error:  # the runtime raises many types of its own
            raise ExportError(f"its export does not run ({_first_line(error)})") from error
        return np.asarray(result)


def open_exported(
    network: nn.Module, key: str, shape: tuple[int, ...], workers: int, threads: int, *, rebuild: bool = False
) -> OnnxEngine:
    """The engine of `network` for inputs of `shape` [1, C, H, W], from disk where it is, else exported and put there.

    `key` is the network's `engine_key`, `workers` and `threads` are the engine's. `rebuild` replaces what is on disk. A
    folder that cannot be written costs the next process a new export, no more. Raises `ExportError` where the network
    cannot be exported.
    """
    path = cache_directory() / f"{key}.onnx"
    if not rebuild:
        with contextlib.suppress(OSError, ExportError):
            return OnnxEngine(path.read_bytes(), workers, threads)
    model = _exported(network, shape)
    engine = OnnxEngine(model, workers, threads)
    _keep(path, model)
    return engine


def engine_key(network: nn.Module, traced: Trace, shape: tuple[int, ...]) -> str:
    """Hex digest over what an export depends on and can be seen: weights, buffers, structure, data flow, releases."""
    # Over every byte at every call: no digest is remembered, for nothing tells of all changes. A tensor's `_version`
    # misses those through `.data` and through numpy, and the comparison with the network's logits on noise would let a
    # change pass that noise hardly shows. SHA-256 is also the fastest of hashlib where processors compute it.
    digest = hashlib.sha256()
    versions = (torch.__version__, onnxruntime.__version__, _OPSET)
    digest.update(repr((versions, shape, type(network).__module__, network, traced.nodes)).encode())
    for name, tensor in sorted({**dict(network.named_buffers()), **network.state_dict()}.items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def cache_directory() -> Path:
    """Where exported networks are kept: INSPECTION_ENGINE_CACHE, or a folder in the user's cache."""
    stated = os.environ.get("INSPECTION_ENGINE_CACHE")
    return Path(stated) if stated else platformdirs.user_cache_path("inspection") / "engines"


def _bytes_of(tensor: Tensor) -> memoryview:
    """The tensor's elements in order, without a copy where they lie so on the processor."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _exported(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    try:
        with tempfile.TemporaryDirectory(prefix="inspection-export-") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder) / "network.onnx"
            torch.onnx.export(
                network,
                (torch.zeros(shape),),
                str(path),
                dynamo=False,
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                opset_version=_OPSET,
            )
            return path.read_bytes()
    except Exception as error:  # exporters raise many types of their own
        raise ExportError(f"it cannot be exported to ONNX ({_first_line(error)})") from error


def _keep(path: Path, model: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}.", delete=False) as file:
            fresh = Path(file.name)
            try:
                file.write(model)
            except OSError:
                fresh.unlink()
                raise
        fresh.replace(path)
        by_age = sorted(path.parent.glob("*.onnx"), key=lambda kept: kept.stat().st_mtime)
        for oldest in by_age[:-_MOST_KEPT]:
            oldest.unlink(missing_ok=True)
    except OSError as error:
        _LOGGER.info("the exported network is not kept in %s: %s", path.parent, error)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
