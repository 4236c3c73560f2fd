"""Class activation maps weighted by gradients: Grad-CAM, Grad-CAM++ and LayerCAM.

All take a block's feature maps A_k and their gradients g_k of the class's logit y^c, as the papers do: before softmax
or sigmoid, which would saturate. One forward pass an image, and one backward pass a target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inspection_models.attribution.blocks import ConvolutionalBlock, find_blocks
from inspection_models.attribution.capture import capture
from inspection_models.attribution.confidence import precise
from inspection_models.attribution.grids import evidence_grid
from inspection_models.attribution.request import Attribution, Evidence, Request, answer
from inspection_models.attribution.tracing import Trace


@dataclass(frozen=True)
class GradientCamOptions:
    """Class activation maps weighted by gradients have no settings."""


Rule = Callable[[Tensor, Tensor], Tensor]
"""From feature maps [K, h, w] and their gradients [K, h, w] to the map [h, w] before ReLU."""


def explain_grad_cam(request: Request, traced: Trace, _options: GradientCamOptions) -> Attribution:
    """Grad-CAM (arXiv 1610.02391) at the last block."""
    return _explain(request, find_blocks(traced)[-1:], grad_cam, "grad-cam")


def explain_grad_cam_plus_plus(request: Request, traced: Trace, _options: GradientCamOptions) -> Attribution:
    """Grad-CAM++ (arXiv 1710.11063) at the last block."""
    return _explain(request, find_blocks(traced)[-1:], grad_cam_plus_plus, "grad-cam++")


def explain_layer_cam(request: Request, traced: Trace, _options: GradientCamOptions) -> Attribution:
    """LayerCAM (Jiang et al., IEEE TIP 2021) at every block; the map is the mean of the blocks' normalised maps."""
    return _explain(request, find_blocks(traced), layer_cam, "layer-cam")


def grad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """sum_k alpha_k A_k with alpha_k the mean of g_k (equations 1 and 2)."""
    return torch.einsum("k,khw->hw", gradients.mean(dim=(1, 2)), maps)


def grad_cam_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    """sum_k w_k A_k with w_k = sum_ij alpha_kij max(g_kij, 0) (equations 7 and 19).

    alpha_kij = g^2 / (2 g^2 + g^3 sum_ab A_kab) is 1 / (2 + g sum_ab A_kab) where g is not zero. In this form small
    gradients need no small number added to the denominator, which would outweigh them. The paper's score is exp(y^c):
    its factor exp(y^c) is the same for all g and drops out of the normalised map. Where A_k, against the paper's
    assumption, sums to so much below zero that the denominator is zero, alpha is zero.
    """
    positive = gradients.clamp_min(0)
    denominators = 2 + positive * maps.sum(dim=(1, 2), keepdim=True)
    terms = torch.where(denominators == 0, 0.0, positive / denominators)
    return torch.einsum("k,khw->hw", terms.sum(dim=(1, 2)), maps)


def layer_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """sum_k max(g_k, 0) A_k, place by place (equations 6 and 7)."""
    return (gradients.clamp_min(0) * maps).sum(dim=0)


def _explain(request: Request, blocks: tuple[ConvolutionalBlock, ...], rule: Rule, method: str) -> Attribution:
    found = [
        _evidence(request, blocks, image[None], targets, rule)
        for image, targets in zip(request.inputs, request.targets, strict=True)
    ]
    return answer(request, blocks, found, "none", {"method": method})


def _evidence(
    request: Request, blocks: tuple[ConvolutionalBlock, ...], image: Tensor, targets: tuple[int, ...], rule: Rule
) -> Evidence:
    captured = capture(request.network, image, blocks)
    grids = []
    for number, target in enumerate(targets, start=1):
        with torch.inference_mode(mode=False), torch.enable_grad():
            logit = captured.logits[0, target]
            gradients = captured.gradients(logit, keep_graph=number < len(targets))
        with torch.inference_mode():
            grids.append(
                tuple(
                    evidence_grid(rule(precise(maps.detach()[0]), precise(gradient[0])), block.name)
                    for block, maps, gradient in zip(blocks, captured.feature_maps, gradients, strict=True)
                )
            )
    return Evidence(tuple(grids), masks_scored=0)
