"""Watches one forward pass and writes down the data flow: which tensor was made from which, where, and how large.

Works on what the network does, not on how its layers are named: functional calls, in-place operations, operations on
lists of tensors and modules used several times all appear.
"""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from inspection_models.attribution.errors import NetworkError
from inspection_models.attribution.layout import (
    Layout,
    after_operation,
    after_rank_change,
    after_reshape,
    is_stack_of_maps,
    layout_of_maps,
)

_AXIS_MOVES = frozenset({"permute", "transpose", "transpose_", "swapaxes", "swapdims", "movedim", "moveaxis"})
_RESHAPES = frozenset({"reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"})
_PRODUCTS = frozenset({"matmul", "__matmul__", "bmm"})
CONVOLUTIONS = frozenset({"conv2d", "conv_transpose2d", "convolution"})
_AMPLE = 320
"""An input side, in pixels, that no convolutional network is known to find too small."""


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
    layout: Layout
    site: CallSite
    module: str
    """Path of the innermost module at work; empty in the network's own forward."""

    @property
    def is_feature_map(self) -> bool:
        """Whether this is a stack of maps, [1, C, h, w] in that order."""
        return is_stack_of_maps(self.layout, self.shape)


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
    for path, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise NetworkError(f"{path or 'the network'} is scripted, which hides its layers: give the original module")
        if module.training:
            raise NetworkError(f"{path or 'the network'} is in training mode: call network.eval() first")


def blank_input(network: nn.Module, input_size: tuple[int, int], channels: int) -> Tensor:
    """Zeros [1, channels, H, W] for `input_size` (H, W), on the network's device and in its precision.

    Raises `NetworkError` where there is no such input.
    """
    height, width = input_size
    if height < 1 or width < 1:
        raise NetworkError(f"input_size must be (height, width) in pixels, not {input_size}")
    if channels < 1:
        raise NetworkError(f"an input has at least 1 channel, not {channels}")
    weight = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros((1, channels, height, width), dtype=weight.dtype, device=weight.device)


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
        raise NetworkError(_refusal(network, example, recorder.at_work, error)) from error
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[0] != 1:
        got = f"a tensor {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise NetworkError(
            f"the network must answer one image with logits [1, classes], but it answers with {got}; wrap it in a "
            "module whose forward returns the logits to be explained, and nothing else"
        )
    node = recorder.node_of(output)
    if node is None or not recorder.is_made_of_input(node):
        hidden = ", ".join(recorder.out_of_sight) or "a custom autograd function or a scripted part"
        raise NetworkError(
            f"the output cannot be traced back to the input: some layer computes out of sight ({hidden}); write it "
            "with torch operations on tensors"
        )
    return Trace(tuple(recorder.nodes), tuple(recorder.module_calls), node)


def _refusal(network: nn.Module, example: Tensor, module: str, error: Exception) -> str:
    """Why the network failed on `example`, in words."""
    _, channels, *size = example.shape
    ample = [max(side, _AMPLE) for side in size]
    if ample != size and _takes(network, example.new_zeros((1, channels, *ample))):
        cause = f"the input is too small: give a larger input_size, {ample[0]} x {ample[1]} works"
    else:
        cause = f"check the size and the number of channels, here {channels}, that it is made for"
    where = f", in {module}" if module else ""
    shape = " x ".join(map(str, example.shape))
    return f"the network fails on an input of {shape}{where}; {cause} ({error})"


def _takes(network: nn.Module, example: Tensor) -> bool:
    # Whatever it fails with, the answer is no.
    with contextlib.suppress(Exception), torch.inference_mode():
        network(example)
        return True
    return False


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
        self.out_of_sight: list[str] = []
        self._add(example, (), layout_of_maps(example.shape), CallSite(-1, "input", 0))

    @property
    def at_work(self) -> str:
        """Path of the innermost module entered and not left."""
        return self._open[-1][0] if self._open else ""

    def is_made_of_input(self, node: int) -> bool:
        """Whether some way leads from the input to a node."""
        reached = {0}
        for number, candidate in enumerate(self.nodes):
            if not reached.isdisjoint(candidate.sources):
                reached.add(number)
        return node in reached

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
            layout = self._layout_after(func, args, kwargs, tensor)
            self._add(tensor, sources, layout, CallSite(self._call, name, position))
        return result

    def _add(self, tensor: Tensor, sources: tuple[int, ...], layout: Layout, site: CallSite) -> None:
        self._known[id(tensor)] = (weakref.ref(tensor), len(self.nodes))
        self.nodes.append(Node(sources, tuple(tensor.shape), layout, site, self.at_work))

    def _nodes_of(self, value: Any) -> tuple[int, ...]:
        found = (self.node_of(tensor) for tensor in tensors_in(value))
        return tuple(sorted({node for node in found if node is not None}))

    def _layout_after(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensor: Tensor,
    ) -> Layout:
        name, shape = operation_name(func), tuple(tensor.shape)
        given = [self.node_of(tensor) for tensor in tensors_in((args, kwargs))]
        made_of = [(self.nodes[source].layout, self.nodes[source].shape) for source in given if source is not None]
        alike = [(layout, taken) for layout, taken in made_of if len(taken) == len(shape)]
        if not made_of:
            return tuple(None if size > 1 else () for size in shape)
        if name in _AXIS_MOVES and alike:
            return _moved(alike[0][0], func, args, kwargs)
        if name in _PRODUCTS and len(alike) == 2:
            return (*alike[0][0][:-1], alike[1][0][-1])
        if name in _RESHAPES and math.prod(made_of[0][1]) == math.prod(shape):
            return after_reshape(*made_of[0], shape)
        layout = after_operation(alike, shape) if alike else after_rank_change(*made_of[0], shape)
        # Where the way is not known, the convolution that reads a tensor says what it takes it for.
        return layout_of_maps(shape) if name in CONVOLUTIONS and len(shape) == 4 and None in layout else layout

    def _enter(self, module: nn.Module, args: Any) -> None:
        if threading.get_ident() == self._thread and id(module) in self._paths:
            self._open.append((self._paths[id(module)], self._nodes_of(args)))

    def _leave(self, module: nn.Module, _args: Any, output: Any) -> None:
        if threading.get_ident() == self._thread and id(module) in self._paths:
            path, inputs = self._open.pop()
            repetition = self._calls_of.get(path, 0)
            self._calls_of[path] = repetition + 1
            self.module_calls.append(ModuleCall(path, repetition, inputs, self._nodes_of(output)))
            if inputs and any(self.node_of(tensor) is None for tensor in tensors_in(output)):
                self.out_of_sight.append(path)


def _moved(layout: Layout, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Layout:
    """Layout after an operation that moves axes: done to a tensor whose sizes number its axes, it says where to."""
    probe = torch.empty([axis + 2 for axis in range(len(layout))], device="meta")
    where = {name: value for name, value in kwargs.items() if not isinstance(value, Tensor)}
    moved = cast("Tensor", func(probe, *args[1:], **where))
    return tuple(layout[size - 2] for size in moved.shape)
