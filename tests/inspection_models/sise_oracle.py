"""SISE as the paper's equations say it: slow, literal, float64, one mask at a time.

Written from arXiv 2010.00672 alone; shares no code with the product. Every mask is made at full size, every weighted
mask is added at full size, gradients are those of the probability itself, and Otsu's threshold is found by trying all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tests.inspection_models.attribution_networks import BlockNetwork

Map = NDArray[np.float64]


@dataclass(frozen=True)
class OracleExplanation:
    attribution: Map
    visualizations: list[Map]
    masks: list[int]


def explain(
    network: BlockNetwork,
    image: torch.Tensor,
    target: int,
    activation: str = "softmax",
    mu: float = 0.0,
    gate: str = "hard",
) -> OracleExplanation:
    """Explain `image` [3, H, W], float64."""
    image = image.double()
    maps, gradients = feature_maps_and_gradients(network, image, target, activation)
    visualizations, masks = [], []
    for block_maps, block_gradients in zip(maps, gradients, strict=True):
        kept = selected(block_gradients, mu)
        total = np.zeros(tuple(image.shape[1:]))
        count = 0
        for channel in kept:
            if np.ptp(block_maps[channel]) <= 1e-12 * np.abs(block_maps[channel]).max():
                continue
            mask = normalised(upsampled(block_maps[channel], total.shape))
            score = confidence(network, image * torch.from_numpy(mask), target, activation)
            total = total + score * mask / mask.sum()
            count += 1
        visualizations.append(normalised(total / max(count, 1)))
        masks.append(count)
    fused = visualizations[0]
    for deeper in visualizations[1:]:
        fused = fused + deeper
        if np.ptp(deeper) > 0:
            fused = fused * gate_of(deeper, gate)
    return OracleExplanation(fused / fused.max() if fused.max() > 0 else fused, visualizations, masks)


def feature_maps_and_gradients(
    network: BlockNetwork, image: torch.Tensor, target: int, activation: str
) -> tuple[list[Map], list[Map]]:
    blocks, logits = network.blocks_and_logits(image[None])
    gradients = torch.autograd.grad(activated(logits, activation)[0, target], blocks)
    return [b[0].detach().numpy() for b in blocks], [g[0].numpy() for g in gradients]


def activated(logits: torch.Tensor, activation: str) -> torch.Tensor:
    if activation == "softmax":
        exponentials = torch.exp(logits)
        return exponentials / exponentials.sum(dim=1, keepdim=True)
    return 1 / (1 + torch.exp(-logits))


def confidence(network: BlockNetwork, image: torch.Tensor, target: int, activation: str) -> float:
    with torch.no_grad():
        return float(activated(network.blocks_and_logits(image[None])[1], activation)[0, target])


def selected(gradients: Map, mu: float) -> list[int]:
    averages = [float(gradient.mean()) for gradient in gradients]
    largest = max(averages)
    return [channel for channel, average in enumerate(averages) if average > mu * largest and average > 0]


def upsampled(grid: Map, size: tuple[int, ...]) -> Map:
    """Each output pixel centre looked up between the four nearest cell centres."""
    height, width = grid.shape
    out = np.empty(size)
    for y in range(size[0]):
        v = min(max((y + 0.5) * height / size[0] - 0.5, 0), height - 1)
        y0 = int(v)
        y1 = min(y0 + 1, height - 1)
        row = grid[y0] + (v - y0) * (grid[y1] - grid[y0])
        for x in range(size[1]):
            u = min(max((x + 0.5) * width / size[1] - 0.5, 0), width - 1)
            x0 = int(u)
            x1 = min(x0 + 1, width - 1)
            out[y, x] = row[x0] + (u - x0) * (row[x1] - row[x0])
    return out


def normalised(values: Map) -> Map:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high - low > 1e-12 * max(abs(low), abs(high)) else np.zeros_like(values)


def gate_of(visualization: Map, gate: str) -> Map:
    threshold = otsu(visualization)
    if gate == "hard":
        return np.where(visualization >= threshold, 1.0, 0.0)
    raised = 1.5 * threshold
    if raised < 1 and (visualization >= raised).mean() < 0.1:
        threshold = raised
    return 1 / (1 + np.exp(-100 * (visualization - threshold)))


def otsu(values: Map) -> float:
    """Of all splits of the 256 bins, the one with the largest variance between the classes: its upper class's start."""
    bins = np.clip(np.floor(values.ravel() * 256), 0, 255)
    best, threshold = -1.0, 0.0
    for split in range(1, 256):
        lower, upper = bins[bins < split], bins[bins >= split]
        if len(lower) and len(upper):
            variance = len(lower) / len(bins) * len(upper) / len(bins) * (lower.mean() - upper.mean()) ** 2
            if variance > best * (1 + 1e-12):
                best, threshold = variance, split / 256
    return threshold
