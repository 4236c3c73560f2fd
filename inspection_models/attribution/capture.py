"""A forward pass that keeps the blocks' tensors, connected to the output, so that gradients can be taken at them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from inspection_models.attribution.blocks import ConvolutionalBlock
from inspection_models.attribution.errors import AttributionError, NetworkError
from inspection_models.attribution.tracing import operation_name, tensors_in


@dataclass(frozen=True)
class Capture:
    """One forward pass: `inputs` [N, C, H, W], the blocks' `feature_maps` [N, C, h, w], `logits` [N, classes].

    All still in one graph.
    """

    blocks: tuple[ConvolutionalBlock, ...]
    inputs: Tensor
    feature_maps: tuple[Tensor, ...]
    logits: Tensor

    def gradients(self, of: Tensor, *, keep_graph: bool = False) -> tuple[Tensor, ...]:
        """Gradient of the scalar `of` at each block's feature maps; frees the graph unless it is to be kept.

        Raises `AttributionError` where a gradient is not finite or a block has no part in `of`.
        """
        return self._gradients(of, self.feature_maps, self._block_names, keep_graph)

    def gradients_from_input(self, of: Tensor, *, keep_graph: bool = False) -> tuple[Tensor, ...]:
        """The same with the gradient at the inputs before those at the blocks."""
        return self._gradients(of, (self.inputs, *self.feature_maps), ("input", *self._block_names), keep_graph)

    @property
    def _block_names(self) -> tuple[str, ...]:
        return tuple(block.name for block in self.blocks)

    @staticmethod
    def _gradients(
        of: Tensor, places: tuple[Tensor, ...], names: tuple[str, ...], keep_graph: bool
    ) -> tuple[Tensor, ...]:
        gradients = torch.autograd.grad(of, places, allow_unused=True, retain_graph=keep_graph)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is None:
                raise AttributionError(f"block {name}: no gradient reaches it; the network cuts the graph behind it")
            if not _is_finite(gradient):
                raise AttributionError(f"block {name}: the gradient is not finite; check the input and the weights")
        return gradients


def capture(network: nn.Module, inputs: Tensor, blocks: Sequence[ConvolutionalBlock]) -> Capture:
    """Run `network` on `inputs` [N, C, H, W] with gradients and keep the tensors of `blocks`.

    No parameter needs to require gradients, and none gets one. Works under `torch.no_grad` and `torch.inference_mode`
    of the caller. Raises `NetworkError` where the pass does not run as it did when the blocks were found, and
    `AttributionError` where logits or feature maps are not finite.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf = inputs.detach().clone().requires_grad_()
        # Not the leaf itself, so that a network may work on its input in place.
        start = leaf.clone()
        keeper = _Keeper(blocks)
        with keeper:
            logits = network(start)
    feature_maps = keeper.kept()
    if not _is_finite(logits):
        raise AttributionError("the network's output is not finite for this input; check the input and the weights")
    for block, maps in zip(blocks, feature_maps, strict=True):
        if not _is_finite(maps):
            raise AttributionError(f"block {block.name}: its feature maps are not finite; check the input")
    return Capture(tuple(blocks), leaf, feature_maps, logits)


def _is_finite(values: Tensor) -> bool:
    """By the extremes: asking each number takes copies, and memory is shortest while the graph stands."""
    return bool(torch.isfinite(torch.stack(torch.aminmax(values.detach()))).all())


class _Keeper(TorchFunctionMode):
    """Keeps the results of the calls the blocks name, and hands copies on so that later in-place work misses them."""

    def __init__(self, blocks: Sequence[ConvolutionalBlock]) -> None:
        super().__init__()
        self._blocks = tuple(blocks)
        self._wanted = {block.site.call: block for block in blocks}
        self._kept: dict[int, tuple[Tensor, int]] = {}
        self._call = -1

    def kept(self) -> tuple[Tensor, ...]:
        for block in self._blocks:
            if block.site.call not in self._kept:
                raise NetworkError(f"block {block.name} was not reached: the network takes another way for this input")
            tensor, version = self._kept[block.site.call]
            if tensor._version != version:
                raise NetworkError(f"block {block.name}: the network changes its maps in place, out of sight")
        return tuple(self._kept[block.site.call][0] for block in self._blocks)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._call += 1
        block = self._wanted.get(self._call)
        if block is None:
            return func(*args, **kwargs)
        if not args or not isinstance(args[0], Tensor):
            result = func(*args, **kwargs)
            return _replaced(result, self._keep(block, _made(block, func, result)))
        # The call may work in place on its first argument, an object that others may hold and change. It gets a copy;
        # if it did work in place, the object's content then comes from that kept copy.
        given, worked_on = args[0], args[0].clone()
        result = func(worked_on, *args[1:], **kwargs)
        in_place = result is worked_on or operation_name(func) == "__setitem__"
        kept = self._keep(block, _made(block, func, worked_on if in_place else result))
        return given.copy_(kept) if in_place else _replaced(result, kept)

    def _keep(self, block: ConvolutionalBlock, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            raise NetworkError(f"block {block.name}: the network computes its maps without gradients")
        self._kept[block.site.call] = (tensor, tensor._version)
        return tensor


def _made(block: ConvolutionalBlock, func: Callable[..., Any], result: Any) -> Tensor:
    """The block's tensor among the results of a call. Raises `NetworkError` where it is not what was found before."""
    tensor = next(itertools.islice(tensors_in(result), block.site.output, None), None)
    shape = None if tensor is None else tuple(tensor.shape)
    found, expected = (operation_name(func), shape and shape[1:]), (block.site.operation, (block.channels, *block.size))
    if tensor is None or found != expected:
        raise NetworkError(
            f"block {block.name}: expected {expected[0]} to give maps {expected[1]}, but {found[0]} gave {found[1]}: "
            "the network takes another way for this input"
        )
    return tensor


def _replaced(result: Any, kept: Tensor) -> Any:
    """The result with a copy in place of the kept tensor, out of reach of later in-place operations."""
    if result is kept:
        return kept.clone()
    if isinstance(result, tuple | list):
        return type(result)([_replaced(item, kept) for item in result])
    return result
