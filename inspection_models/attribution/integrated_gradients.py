"""Integrated gradients: what each pixel adds to the class on the way from a baseline to the image.

Sundararajan et al., ICML 2017 (arXiv 1703.01365). Ours and not Captum's, because several targets of an image share the
forward passes here, a network may work in place on its input, and the sum over the steps is taken in float64; for one
target the numbers are the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from inspection_models.attribution.blurring import gaussian_blur
from inspection_models.attribution.confidence import Activation, log_odds, precise
from inspection_models.attribution.errors import AttributionError, NetworkError
from inspection_models.attribution.grids import evidence_grid, input_block
from inspection_models.attribution.request import Attribution, Evidence, Request, answer
from inspection_models.attribution.scoring import default_batch_size
from inspection_models.attribution.tracing import Trace

Baseline = Literal["blur", "zero"]
BASELINES: tuple[str, ...] = get_args(Baseline)

_BLUR_SHARE = 0.05
# A pass with gradients holds the outputs of all layers, so it takes fewer images than one that scores masks.
_SCORING_PASSES_MEMORY = 4
_ROUNDING_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class IntegratedGradientsOptions:
    """Settings of integrated gradients.

    `steps`: places on the path, those of Gauss-Legendre quadrature, at which the gradient is taken.
    `baseline`: where the path starts. "blur", the image without its details, blurred by a Gaussian with a standard
    deviation of 5 % of its shorter side; "zero", 0 in the network's space, the mean colour of the training images.
    `smoothing`: standard deviation of a Gaussian that smooths the attributions, as a share of the input's shorter side,
    0 for none. Bare ones change sign from pixel to pixel, which hides a defect from a reader and from a metric.
    """

    steps: int = 32
    baseline: Baseline = "blur"
    smoothing: float = 0.01

    def __post_init__(self) -> None:
        if type(self.steps) is not int or self.steps < 1:
            raise AttributionError(f"steps must be a whole number of at least 1, not {self.steps!r}")
        if self.baseline not in BASELINES:
            raise AttributionError(f"unknown baseline {self.baseline!r}: there are {', '.join(BASELINES)}")
        number = isinstance(self.smoothing, int | float) and not isinstance(self.smoothing, bool)
        if not number or not 0 <= self.smoothing < 1:
            raise AttributionError(f"smoothing must be a share of at least 0 and below 1, not {self.smoothing!r}")


def explain_integrated_gradients(request: Request, traced: Trace, options: IntegratedGradientsOptions) -> Attribution:
    """What speaks for the class: pixels' attributions, summed over channels and smoothed, where they are positive.

    Smoothed with their signs, so that neighbours which contradict each other do not count as evidence. The grid has the
    input's own resolution.
    """
    block = input_block(request, traced)
    side = min(request.input_size)
    at_once = max(1, default_batch_size(request.input_size, request.inputs.device) // _SCORING_PASSES_MEMORY)
    found = []
    for image, targets in zip(request.inputs, request.targets, strict=True):
        start = (
            gaussian_blur(image[None], _BLUR_SHARE * side)[0] if options.baseline == "blur" else torch.zeros_like(image)
        )
        parts = integrated_gradients(request.network, image, start, targets, request.activation, options.steps, at_once)
        pixels = parts.sum(dim=1)
        smooth = gaussian_blur(pixels[None], options.smoothing * side)[0] if options.smoothing else pixels
        found.append(Evidence(tuple((evidence_grid(values, block.name),) for values in smooth), masks_scored=0))
    stated = {"method": "integrated-gradients", **asdict(options), "batch_size": at_once}
    return answer(request, (block,), found, "none", stated)


def integrated_gradients(
    network: nn.Module,
    image: Tensor,
    baseline: Tensor,
    targets: tuple[int, ...],
    activation: Activation,
    steps: int,
    at_once: int,
) -> Tensor:
    """(x - b) * integral over a from 0 to 1 of dF_t / dx at b + a (x - b), for an image x and a baseline b, [C, H, W].

    F_t is the log-odds of class t, which does not saturate as the confidence does; the attributions [T, C, H, W] of all
    numbers add up, but for the error of the quadrature, to F_t(x) - F_t(b). Takes the gradient of `at_once` steps in a
    pass. Raises `AttributionError` where a logit or gradient is not finite, and `NetworkError` where the network cuts
    the graph.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    places = torch.from_numpy((nodes + 1) / 2).to(image)
    shares = torch.from_numpy(weights / 2).to(precise(image))
    difference = image - baseline
    # Where the two differ by rounding only there is no way between them; else a plain image would show that rounding.
    rounding = _ROUNDING_STEPS * torch.finfo(image.dtype).eps * image.abs().max()
    difference = torch.where(difference.abs() <= rounding, 0.0, difference)
    total = precise(image[:0]).new_zeros((len(targets), *image.shape))
    for first in range(0, steps, at_once):
        run = slice(first, first + at_once)
        points = baseline + places[run, None, None, None] * difference
        gradients = precise(_gradients(network, points, targets, activation))
        total += torch.einsum("n,tnchw->tchw", shares[run], gradients)
    return total * precise(difference)


def _gradients(network: nn.Module, points: Tensor, targets: tuple[int, ...], activation: Activation) -> Tensor:
    """Gradients [T, n, C, H, W] of the targets' log-odds at points [n, C, H, W], from one forward pass."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf = points.clone().requires_grad_()
        # A network may work in place on its input, but not on a leaf.
        logits = network(leaf.clone())
        if not logits.requires_grad:
            raise NetworkError("no gradient reaches the input; the network cuts the graph")
        if not bool(torch.isfinite(logits).all()):
            raise AttributionError(
                "the network's output is not finite between baseline and input; check the input and the weights"
            )
        found = []
        for number, target in enumerate(targets, start=1):
            score = log_odds(logits, target, activation).sum()
            (gradient,) = torch.autograd.grad(score, leaf, retain_graph=number < len(targets), allow_unused=True)
            if gradient is None:
                raise NetworkError("no gradient reaches the input; the network cuts the graph")
            if not bool(torch.isfinite(gradient).all()):
                raise AttributionError("the gradient at the input is not finite; check the input and the weights")
            found.append(gradient)
        return torch.stack(found)
