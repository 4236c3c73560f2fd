"""Finds a network's convolutional blocks by watching one forward pass (layer selection of SISE, arXiv 2010.00672).

A signal can bypass a convolution through a residual branch, but it cannot bypass a change of resolution; the tensors
that enter the down-samplings, and the one that enters the head, therefore hold all that the network saw at each scale.

The rule:

1. Candidates are the *dominators*: stacks of maps [N, C, h, w] that every path of the data flow from input to output
   crosses. Residual branches, dense connections, squeeze-and-excitation and the like drop out by themselves. Maps with
   padding just added to them do not count.
2. Walking them from input to output, a *drop* (height or width becomes at most half, rounded up) ends a *level*.
3. A level is a block only if some convolution writes at its resolution, and if its maps are larger than one pixel.
4. The block's tensor is the input of the outermost module that makes this one drop (its input lies in this level, its
   output in the next), for where a module down-samples, the module before it ends the block. If there is no such
   module, or its input is the network's input or the level's first tensor (then the module is the block and
   down-samples at its end), it is the last dominator of the level.
5. Behind the last block only a head may follow. Residual sums of what is none (tokens, or maps with their
   channels last) say that the network goes on seeing where its maps end: a transformer, which is refused.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from torch import nn

from inspection_models.attribution.errors import NetworkError
from inspection_models.attribution.layout import is_stack_with_channels_last
from inspection_models.attribution.tracing import CONVOLUTIONS, CallSite, ModuleCall, Node, Trace, blank_input, trace

_PADDINGS = frozenset({"pad", "constant_pad_nd"})


@dataclass(frozen=True)
class ConvolutionalBlock:
    """The last tensor of one convolutional block.

    `name` is the path of the outermost module that returns it and holds no earlier block, or else the path of the
    module whose forward makes it and the operation; `_1`, `_2` … count repetitions. `channels` is its number of maps,
    `size` their (height, width).
    """

    name: str
    channels: int
    size: tuple[int, int]
    site: CallSite = field(repr=False)


def convolutional_blocks(
    network: nn.Module, input_size: tuple[int, int] = (224, 224), *, channels: int = 3
) -> tuple[ConvolutionalBlock, ...]:
    """Convolutional blocks of `network`, shallow to deep, for inputs of `input_size` (height, width) and `channels`.

    One forward pass on a blank image; the network is left as it was. Raises `NetworkError` where a part is in training
    mode, where the network refuses the input, where it has no block, and where it goes on with tokens behind them.
    """
    return find_blocks(trace(network, blank_input(network, input_size, channels)))


def find_blocks(traced: Trace) -> tuple[ConvolutionalBlock, ...]:
    """Blocks in a recorded data flow, shallow to deep.

    Raises `NetworkError` where there are none, and where the network goes on with tokens behind them.
    """
    dominators = _dominators(traced)
    maps = [n for n in dominators if traced.nodes[n].is_feature_map]
    levels = _levels(traced.nodes, [n for n in maps if traced.nodes[n].site.operation not in _PADDINGS])
    blocks: list[ConvolutionalBlock] = []
    before = previous = 0
    for position, level in enumerate(levels):
        following = levels[position + 1] if position + 1 < len(levels) else []
        if _is_block(traced.nodes, level, before):
            node = _end(traced.module_calls, level, following)
            _, channels, height, width = traced.nodes[node].shape
            name = _name(traced, node, previous)
            blocks.append(ConvolutionalBlock(name, channels, (height, width), traced.nodes[node].site))
            previous = node
        before = level[-1]
    _refuse_tokens(traced.nodes, [n for n in dominators if n > previous])
    if not blocks:
        size = " x ".join(map(str, traced.nodes[0].shape[2:]))
        raise NetworkError(f"no convolutional block found for an input of {size}: {_why_none(traced.nodes, maps)}")
    return tuple(blocks)


def _why_none(nodes: tuple[Node, ...], maps: list[int]) -> str:
    written = [n for n, node in enumerate(nodes) if node.site.operation in CONVOLUTIONS and len(node.shape) == 4]
    if not written:
        return "the network has no 2-D convolution"
    if all(max(nodes[n].shape[2:]) == 1 for n in written):
        return "the input is too small, for all maps are single pixels; give a larger input_size"
    if maps[-1:] < written[:1]:
        return "its convolutions are on parallel branches, and no stack of maps is on every way from input to output"
    return "its maps shrink to single pixels where its branches meet; give a larger input_size"


def _refuse_tokens(nodes: tuple[Node, ...], tail: list[int]) -> None:
    """Raise `NetworkError` where a dominator of `tail` is a residual sum over several places, but no stack of maps."""
    for number in tail:
        if nodes[number].is_feature_map:
            continue
        shape = nodes[number].shape
        alike = [source for source in nodes[number].sources if nodes[source].shape == shape]
        if sum(size > 1 for size in shape) > 1 and any(
            _leads_to(nodes, early, late) for early, late in itertools.combinations(alike, 2)
        ):
            module = nodes[number].module or "its own forward"
            channels_last = is_stack_with_channels_last(nodes[number].layout, shape)
            kind = "maps with their channels last, [N, h, w, C]" if channels_last else "tokens, as in a transformer"
            raise NetworkError(
                f"behind its last stack of maps [N, C, h, w] the network goes on, in {module}, with residual layers on "
                f"tensors of another layout, {list(shape)}: {kind}. Its stacks do not hold what it decides on; choose "
                "a network that keeps to [N, C, h, w] up to its head"
            )


def _leads_to(nodes: tuple[Node, ...], early: int, late: int) -> bool:
    """Whether the tensor `late` is made of the tensor `early`."""
    reached = {early}
    for number in range(early + 1, late + 1):
        if not reached.isdisjoint(nodes[number].sources):
            reached.add(number)
    return late in reached


def _dominators(traced: Trace) -> list[int]:
    """Tensors that all paths from input to output cross, in order (paths counted exactly, as integers)."""
    nodes, output = traced.nodes, traced.output
    into = [1] + [0] * output
    for node in range(1, output + 1):
        into[node] = sum(into[source] for source in nodes[node].sources)
    onward = [0] * output + [1]
    for node in range(output, 0, -1):
        for source in nodes[node].sources:
            onward[source] += onward[node]
    return [n for n in range(output + 1) if into[n] * onward[n] == into[output]]


def _is_drop(before: Node, after: Node) -> bool:
    """Whether height or width shrinks to at most half, rounded up, as every step of two or more makes it."""
    return any(b < a and 2 * b <= a + 1 for a, b in zip(before.shape[2:], after.shape[2:], strict=True))


def _levels(nodes: tuple[Node, ...], dominators: list[int]) -> list[list[int]]:
    levels: list[list[int]] = []
    for node in dominators:
        if levels and not _is_drop(nodes[levels[-1][-1]], nodes[node]):
            levels[-1].append(node)
        else:
            levels.append([node])
    return levels


def _is_block(nodes: tuple[Node, ...], level: list[int], before: int) -> bool:
    if max(nodes[level[-1]].shape[2:]) == 1:
        return False
    members = iter(level)
    member = next(members)
    for number in range(before + 1, level[-1] + 1):
        while member < number:
            member = next(members)
        node, dominator = nodes[number], nodes[member]
        written = node.site.operation in CONVOLUTIONS and len(node.shape) == 4
        if written and not _is_drop(node, dominator) and not _is_drop(dominator, node):
            return True
    return False


def _end(calls: tuple[ModuleCall, ...], level: list[int], following: list[int]) -> int:
    inside, after = set(level), set(following)
    entered = [
        call.inputs[0]
        for call in calls
        if len(call.inputs) == len(call.outputs) == 1 and call.inputs[0] in inside and call.outputs[0] in after
    ]
    # Modules that make the same drop are nested, so the outermost has the earliest input.
    if entered and min(entered) not in (0, level[0]):
        return min(entered)
    return level[-1]


def _name(traced: Trace, node: int, previous: int) -> str:
    """Name of a block's tensor; `previous` is the tensor of the block before it, or the input."""
    for call in reversed(traced.module_calls):  # outer modules return after inner ones
        # A module entered before the last block ended holds several blocks and names none of them; one that hands on
        # what it was given made nothing.
        if call.path and call.outputs == (node,) != call.inputs and call.inputs and call.inputs[0] >= previous:
            return call.path + (f"_{call.repetition}" if call.repetition else "")
    maker = (traced.nodes[node].module, traced.nodes[node].site.operation)
    repetition = sum((earlier.module, earlier.site.operation) == maker for earlier in traced.nodes[:node])
    return ".".join(filter(None, maker)) + (f"_{repetition}" if repetition else "")
