"""SISE as one would first write it, to measure against: eager torch, hooks, every masked copy of a batch at full size.

Faithful to arXiv 2010.00672 and without any saving: each mask is made, scored and added at the input's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

BATCH_SIZE = 16


def explain(
    network: nn.Module, layers: Sequence[nn.Module], image: Tensor, target: int, mu: float = 0.0
) -> tuple[Tensor, int]:
    """Attribution map [H, W] (not normalised) of `image` [1, 3, H, W], and how many masks were scored."""
    kept: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda _m, _i, output: kept.append(output)) for layer in layers]
    confidence = torch.softmax(network(image.clone().requires_grad_()), dim=1)[0, target]
    gradients = torch.autograd.grad(confidence, kept)
    for hook in hooks:
        hook.remove()
    fused, masks = None, 0
    with torch.no_grad():
        for maps, gradient in zip(kept, gradients, strict=True):
            alpha = gradient[0].sum(dim=(1, 2))
            chosen = maps[0][alpha > max(float(mu * alpha.max()), 0.0)]
            masks += len(chosen)
            block = _visualization(network, image, target, chosen)
            fused = block if fused is None else (fused + block) * _otsu(block)
    assert fused is not None
    return fused, masks


def _visualization(network: nn.Module, image: Tensor, target: int, maps: Tensor) -> Tensor:
    size = image.shape[2:]
    total = torch.zeros(size)
    for start in range(0, len(maps), BATCH_SIZE):
        run = maps[start : start + BATCH_SIZE, None]
        upsampled = functional.interpolate(run, size=size, mode="bilinear", align_corners=False)
        low = upsampled.amin(dim=(2, 3), keepdim=True)
        masks = (upsampled - low) / (upsampled.amax(dim=(2, 3), keepdim=True) - low + 1e-6)
        scores = torch.softmax(network(image * masks), dim=1)[:, target]
        total += (scores[:, None, None] * masks[:, 0] / (masks[:, 0].sum(dim=(1, 2), keepdim=True) + 1e-6)).sum(dim=0)
    return (total - total.min()) / (total.max() - total.min() + 1e-12)


def _otsu(values: Tensor) -> Tensor:
    bins = (values * 255).round().long().flatten()
    counts = torch.bincount(bins, minlength=256).double()
    below = counts.cumsum(0)
    moment = (counts * torch.arange(256)).cumsum(0)
    above = below[-1] - below
    variance = (moment[-1] * below - moment * below[-1]) ** 2 / (below * above).clamp(min=1e-9)
    return (values * 255 > int(variance.argmax())).to(values.dtype)
