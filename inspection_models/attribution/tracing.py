"""Watches one forward pass and writes down the data flow: which tensor was made from which, where, and how large.

Works on what the network does, not on how its layers are named: functional calls, in-place operations, operations on
lists of tensors and modules used several times all appear.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from inspection_models.attribution.errors import NetworkError

_AXIS_MOVES = frozenset({"permute", "transpose", "transpose_", "swapaxes", "swapdims", "movedim", "moveaxis"})


@dataclass(frozen=True)
class CallSite:
    """Where in a forward pass a tensor is made: the number of the torch call, its name, and which of its outputs."""

    call: int
    operation: str
    output: int


@dataclass(frozen=True)
class Node:
    """One version of one tensor; an in-place operation makes a new node for the same tensor."""

    sources: tuple[int, ...]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    """Axis of the network's own layout (batch, channel, row, column) that stands at each position."""
    site: CallSite
    module: str
    """Path of the innermost module at work; empty in the network's own forward."""

    @property
    def is_feature_map(self) -> bool:
        """Whether this is a stack of maps, [N, C, h, w] in that order."""
        return len(self.shape) == 4 and self.axes == (0, 1, 2, 3)


@dataclass(frozen=True)
class ModuleCall:
    """One call of one module, with the nodes that went in as positional arguments and those that came out."""

    path: str
    repetition: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Trace:
    """The data flow of one forward pass. Node 0 is the input; sources come before what is made of them."""

    nodes: tuple[Node, ...]
    module_calls: tuple[ModuleCall, ...]
    output: int


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in a value: itself, or inside lists, tuples and mappings at any depth."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from tensors_in(item)


def operation_name(function: Callable[..., Any]) -> str:
    """The name torch gives the operation, such as ``conv2d``."""
    return getattr(function, "__name__", type(function).__name__)


def check_evaluation_mode(network: nn.Module) -> None:
    """Raise `NetworkError` where any part of the network is in training mode, or where it is compiled to a script."""
    if isinstance(network, torch.jit.ScriptModule):
        raise NetworkError("a scripted network hides its layers: give the original nn.Module")
    for path, module in network.named_modules():
        if module.training:
            raise NetworkError(f"{path or 'the network'} is in training mode: call network.eval() first")


def trace(network: nn.Module, example: Tensor) -> Trace:
    """Run `network` once, without gradients, on `example` [1, C, H, W] and return the data flow.

    Raises `NetworkError` where a part is in training mode, where the network refuses the input or answers with
    anything but one tensor [1, classes], and where its output cannot be traced back to its input.
    """
    check_evaluation_mode(network)
    recorder = _Recorder(network, example)
    try:
        with torch.inference_mode(), recorder.watching():
            output = network(example)
    except Exception as error:
        shape = " x ".join(map(str, example.shape))
        raise NetworkError(
            f"the network fails on an input of {shape} (too small, or of another kind?): {error}"
        ) from error
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[0] != 1:
        got = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise NetworkError(f"the network must answer one image with logits [1, classes], not {got}")
    node = recorder.node_of(output)
    if node is None:
        raise NetworkError("the output does not come from an operation that can be watched (a scripted part?)")
    return Trace(tuple(recorder.nodes), tuple(recorder.module_calls), node)


class _Recorder(TorchFunctionMode):
    """Notes every torch call of this thread and every module entered and left while `watching`."""

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.module_calls: list[ModuleCall] = []
        self._paths = {id(module): path for path, module in network.named_modules()}
        self._calls_of: dict[str, int] = {}
        self._open: list[tuple[str, tuple[int, ...]]] = []
        self._known: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._call = -1
        self._thread = threading.get_ident()
        self._add(example, (), (0, 1, 2, 3), CallSite(-1, "input", 0))

    def node_of(self, tensor: Tensor) -> int | None:
        """Number of the tensor's newest node; None for weights, constants and what was made unseen."""
        reference, node = self._known.get(id(tensor), (None, -1))
        return node if reference is not None and reference() is tensor else None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with self, contextlib.ExitStack() as stack:
            for handle in (
                register_module_forward_pre_hook(self._enter),
                register_module_forward_hook(self._leave),
            ):
                stack.callback(handle.remove)
            yield

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        sources = self._nodes_of((args, kwargs))
        result = func(*args, **kwargs)
        self._call += 1
        name = operation_name(func)
        made = [args[0]] if name == "__setitem__" else tensors_in(result)
        for position, tensor in enumerate(made):
            axes = self._axes_after(func, args, kwargs, tensor, sources)
            self._add(tensor, sources, axes, CallSite(self._call, name, position))
        return result

    def _add(self, tensor: Tensor, sources: tuple[int, ...], axes: tuple[int, ...], site: CallSite) -> None:
        module = self._open[-1][0] if self._open else ""
        self._known[id(tensor)] = (weakref.ref(tensor), len(self.nodes))
        self.nodes.append(Node(sources, tuple(tensor.shape), axes, site, module))

    def _nodes_of(self, value: Any) -> tuple[int, ...]:
        found = (self.node_of(tensor) for tensor in tensors_in(value))
        return tuple(sorted({node for node in found if node is not None}))

    def _axes_after(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensor: Tensor,
        sources: Iterable[int],
    ) -> tuple[int, ...]:
        """Layout of a result. Only operations that move axes change it; a result of another rank starts afresh."""
        before = next((self.nodes[s].axes for s in sources if len(self.nodes[s].shape) == tensor.ndim), None)
        if before is None:
            return tuple(range(tensor.ndim))
        if operation_name(func) not in _AXIS_MOVES:
            return before
        # The operation itself, done to a tensor whose sizes number its axes, says where it takes each axis.
        probe = torch.empty([axis + 2 for axis in range(tensor.ndim)], device="meta")
        where = {name: value for name, value in kwargs.items() if not isinstance(value, Tensor)}
        moved = cast("Tensor", func(probe, *args[1:], **where))
        return tuple(before[size - 2] for size in moved.shape)

    def _enter(self, module: nn.Module, args: Any) -> None:
        if threading.get_ident() == self._thread and id(module) in self._paths:
            self._open.append((self._paths[id(module)], self._nodes_of(args)))

    def _leave(self, module: nn.Module, _args: Any, output: Any) -> None:
        if threading.get_ident() == self._thread and id(module) in self._paths:
            path, inputs = self._open.pop()
            repetition = self._calls_of.get(path, 0)
            self._calls_of[path] = repetition + 1
            self.module_calls.append(ModuleCall(path, repetition, inputs, self._nodes_of(output)))
