"""What computes the scoring passes: torch itself, or the network exported to ONNX Runtime on a processor."""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from inspection_models.attribution.folding import fold_batch_norms
from inspection_models.attribution.onnx_export import ExportError, OnnxEngine, engine_key, open_exported
from inspection_models.attribution.tracing import Trace

EngineName = Literal["torch", "onnxruntime"]
ENGINES: tuple[str, ...] = get_args(EngineName)

_LOGGER = logging.getLogger(__name__)
# Below this many numbers written by convolutions in a pass, an export costs more than it ever saves.
_WORTH_EXPORTING = 250_000
# Pixels of an input above which memory is spared: a runtime of its own and folded weights would take hundreds of MB.
_LARGE_INPUT = 640 * 640
_MOST_OPEN = 4
_AGREEMENT = 1e-4

_open: OrderedDict[str, OnnxEngine] = OrderedDict()
_lock = threading.Lock()
# The exporter keeps its state in the process; who needs no export does not wait for one.
_exporting = threading.Lock()


class Engine(Protocol):
    """Runs a network on batches."""

    @property
    def name(self) -> str:
        """As the option `engine` names it."""

    def new_batch(self, shape: tuple[int, int, int, int]) -> Tensor:
        """An input batch [B, C, H, W] of zeros, laid out as the engine reads it fastest."""

    def logits(self, batch: Tensor) -> Tensor:
        """Logits [B, classes] of the batch; called under `torch.inference_mode`."""


class TorchEngine:
    """The network in torch, batch normalisation folded, in the memory layout its convolutions compute in."""

    name = "torch"

    def __init__(self, network: nn.Module, traced: Trace, like: Tensor) -> None:
        self._network = network if _is_large(like) else fold_batch_norms(network, traced, like)
        self._like = like

    def new_batch(self, shape: tuple[int, int, int, int]) -> Tensor:
        """An input batch of zeros, channels last."""
        zeros = torch.zeros(shape, dtype=self._like.dtype, device=self._like.device)
        return zeros.contiguous(memory_format=torch.channels_last)

    def logits(self, batch: Tensor) -> Tensor:
        """One pass of the network."""
        result: Tensor = self._network(batch)
        return result


def open_engine(name: EngineName | None, network: nn.Module, traced: Trace, example: Tensor, batch_size: int) -> Engine:
    """The engine called `name`, or where that is None the faster one that gives the same numbers.

    `traced` is the network's data flow on `example` [1, C, H, W], an input on the network's device. An exported engine
    is kept in the process and on disk by what it was made of (weights, structure, shape, releases). When first opened
    it must agree with the network on noise: to 1e-4 in every logit, relative to the largest.

    Raises `ExportError`, an `AttributionError`, where an engine asked for by name cannot be had.
    """
    if name == "torch" or (name is None and not _worth_exporting(traced, example)):
        return TorchEngine(network, traced, example)
    try:
        return _exported(network, traced, example, batch_size)
    except ExportError as error:
        if name is not None:
            raise
        _LOGGER.warning("masks are scored with torch: %s", error.reason)
        return TorchEngine(network, traced, example)


def _worth_exporting(traced: Trace, example: Tensor) -> bool:
    if _is_large(example):
        return False
    written = sum(math.prod(node.shape[1:]) for node in traced.nodes if node.site.operation == "conv2d")
    return example.device.type == "cpu" and example.dtype == torch.float32 and written >= _WORTH_EXPORTING


def _is_large(example: Tensor) -> bool:
    return example.shape[2] * example.shape[3] > _LARGE_INPUT


def _exported(network: nn.Module, traced: Trace, example: Tensor, batch_size: int) -> OnnxEngine:
    if example.device.type != "cpu" or example.dtype != torch.float32:
        raise ExportError(f"it computes float32 on a processor, not {example.dtype} on {example.device}")
    shape = (1, *example.shape[1:])
    threads = torch.get_num_threads()
    workers = min(threads, batch_size)
    digest = engine_key(network, traced, shape)
    key = f"{digest}-{workers}-{threads}"
    engine = _opened(key, network, shape)
    if engine is None:
        with _exporting:
            # Another thread may have opened it while this one waited.
            engine = _opened(key, network, shape) or _checked(network, digest, shape, workers, threads)
            _keep_open(key, engine)
    return engine


def _opened(key: str, network: nn.Module, shape: tuple[int, ...]) -> OnnxEngine | None:
    """The engine that is open under the key, if it agrees with the network."""
    with _lock:
        engine = _open.get(key)
        if engine is None:
            return None
        _open.move_to_end(key)
    # At every call, one pass beside hundreds: what a network keeps in plain attributes is not in its digest.
    return engine if _disagreement(engine, network, shape) is None else None


def _keep_open(key: str, engine: OnnxEngine) -> None:
    with _lock:
        _open[key] = engine
        _open.move_to_end(key)
        while len(_open) > _MOST_OPEN:
            _open.popitem(last=False)


def _checked(network: nn.Module, key: str, shape: tuple[int, ...], workers: int, threads: int) -> OnnxEngine:
    """The engine, from disk if it is there and agrees, else exported anew; one that never agrees is an error."""
    engine = open_exported(network, key, shape, workers, threads)
    if _disagreement(engine, network, shape) is None:
        return engine
    engine = open_exported(network, key, shape, workers, threads, rebuild=True)
    if disagreement := _disagreement(engine, network, shape):
        raise disagreement
    return engine


def _disagreement(engine: OnnxEngine, network: nn.Module, shape: tuple[int, ...]) -> ExportError | None:
    """What tells that the engine is not this network's: its answer to noise, or that it has none."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        # A copy, for a network may work in place on its input.
        expected = network(noise.clone()).double()
        try:
            found = engine.logits(noise).double()
        except ExportError as error:
            return error
    if found.shape != expected.shape:
        return ExportError(f"its export answers with numbers {list(found.shape)}, not {list(expected.shape)}")
    if not bool(torch.isfinite(found).all()):
        return ExportError("its export answers noise with numbers that are not finite")
    difference = float((found - expected).abs().max()) / max(float(expected.abs().max()), 1.0)
    if difference <= _AGREEMENT:
        return None
    told = f"its numbers differ from torch's by {difference:.1e} of the largest, more than {_AGREEMENT:.0e}"
    return ExportError(told)
