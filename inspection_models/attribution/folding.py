"""Batch normalisation folded into the convolution before it: one pass over the maps less for every pair."""

from __future__ import annotations

import copy
import itertools
import logging
from collections import Counter
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inspection_models.attribution.tracing import ModuleCall, Trace

_LOGGER = logging.getLogger(__name__)
_AGREEMENT = 1e-4


def fold_batch_norms(network: nn.Module, traced: Trace, like: Tensor) -> nn.Module:
    """`network` itself where there is nothing to fold, else a copy with the same answers that computes less.

    `traced` is its data flow for inputs like `like` [1, C, H, W]. A pair is folded where the data flow shows that
    nothing but the normalisation reads what the convolution makes, and where both run once a pass and without hooks.
    Kinds of convolution that do more to their weights than to convolve show in the answer to noise: then nothing is
    folded. The copy shares all other tensors with `network`, which is left as it was.
    """
    pairs = _pairs(network, traced)
    if not pairs:
        return network
    try:
        folded = _folded(network, pairs)
        return folded if _agree(network, folded, like) else network
    except Exception as error:  # noqa: BLE001  whatever a module does when copied or when its normalisation is gone
        _LOGGER.info("batch normalisation is not folded: %s", error)
        return network


def _folded(network: nn.Module, pairs: list[tuple[str, str]]) -> nn.Module:
    tensors = itertools.chain(network.parameters(), network.buffers())
    folded = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    for convolution, normalisation in pairs:
        fused = fuse_conv_bn_eval(
            cast("nn.Conv2d", folded.get_submodule(convolution)),
            cast("nn.BatchNorm2d", folded.get_submodule(normalisation)),
        )
        _replace(folded, convolution, fused.requires_grad_(requires_grad=False))
        _replace(folded, normalisation, nn.Identity().eval())
    return folded


def _agree(network: nn.Module, folded: nn.Module, like: Tensor) -> bool:
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
    with torch.inference_mode():
        expected, found = network(noise.clone()), folded(noise.clone())
    largest = max(float(expected.abs().max()), 1.0)
    return bool((found - expected).abs().max() <= _AGREEMENT * largest)


def _pairs(network: nn.Module, traced: Trace) -> list[tuple[str, str]]:
    modules = dict(network.named_modules(remove_duplicate=False))
    aliases = Counter(id(module) for module in modules.values())
    calls = Counter(call.path for call in traced.module_calls)

    def stands_alone(call: ModuleCall, kind: type[nn.Module]) -> bool:
        module = modules[call.path]
        plain = isinstance(module, kind) and not module._forward_hooks and not module._forward_pre_hooks
        whole = plain and not parametrize.is_parametrized(module)
        return whole and calls[call.path] == 1 and aliases[id(module)] == 1

    readers = Counter(source for node in traced.nodes for source in node.sources)
    makers = {
        call.outputs[0]: call.path
        for call in traced.module_calls
        if len(call.outputs) == 1 and stands_alone(call, nn.Conv2d)
    }
    return [
        (makers[call.inputs[0]], call.path)
        for call in traced.module_calls
        if len(call.inputs) == 1
        and call.inputs[0] in makers
        and readers[call.inputs[0]] == 1
        and call.inputs[0] != traced.output
        and stands_alone(call, nn.BatchNorm2d)
        and getattr(modules[call.path], "running_var", None) is not None
    ]


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
