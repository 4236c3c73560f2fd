"""How well an attribution map S finds the true defect G: EBPG, Bbox, mIoU, pixel average precision, pointing game.

All take maps float [N, H, W] and truth bool [N, H, W] on one device and return float64 [N] there, in [0, 1] (float32 on
a device without float64). They raise `MetricError` for other shapes or types, for values that are not finite and for a
truth without a pixel: where nothing is true, nothing can be found, and such an image must be left out, not averaged in.

**Ties.** Where tied pixels straddle the k-th place, the figure is its expected value over all orders of these pixels,
each as likely as any other; no pixel is preferred for its place in the picture. That holds for ties at zero, too: a map
with fewer positive pixels than k is filled up by chance from its zeros, so an empty map scores as a blind guess does.
Average precision alone follows its own definition: tied pixels are found together.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import hypergeom  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from inspection_models.metrics.errors import MetricError

TOP_SHARE = 0.2
"""Share of the pixels that `top_iou` compares with the truth."""


def energy_based_pointing_game(maps: Tensor, truth: Tensor) -> Tensor:
    """EBPG = sum(S * G) / sum(S) (Wang et al. 2020, Score-CAM, eq. 7); 0 where S is all zero: it points nowhere.

    Raises `MetricError` also for negative values, for which a share of the energy means nothing.
    """
    _check(maps, truth)
    if bool((maps < 0).any()):
        raise MetricError("the energy-based pointing game needs maps without negative values: clip or shift them first")
    exact = maps.to(_wide(maps))
    total = exact.sum(dim=(1, 2))
    inside = (exact * truth).sum(dim=(1, 2))
    return torch.where(total > 0, inside / total.clamp_min(torch.finfo(total.dtype).tiny), torch.zeros_like(total))


def ranked_pointing_game(maps: Tensor, truth: Tensor) -> Tensor:
    """EBPG at a contrast that is the same for all maps, as a share of what the truth itself would reach.

    EBPG rises with any power above 1 that a map is raised to, though the order of its pixels stays. Here the i-th
    highest of n pixels counts e_i = -ln((i - 1/2) / n), what an exponential distribution of the energy would give it;
    tied pixels count what they would on average. The sum over G is divided by that of the |G| highest places, so that
    small defects count as much as large ones.
    """
    _check(maps, truth)
    ordered, order = maps.flatten(1).sort(dim=1, descending=True)
    hits = truth.flatten(1).gather(1, order)
    pixels = ordered.shape[1]
    places = torch.arange(1, pixels + 1, device=maps.device, dtype=_wide(maps))
    summed = functional.pad((-torch.log((places - 0.5) / pixels)).cumsum(0), (1, 0))
    ends = _tie_ends(ordered)
    starts = pixels - _tie_ends(ordered.flip(1)).flip(1)
    shared = (summed[ends] - summed[starts]) / (ends - starts)
    return (shared * hits).sum(dim=1) / summed[hits.sum(dim=1)]


def bbox(maps: Tensor, truth: Tensor) -> Tensor:
    """Bbox: of the |G| highest pixels of S, the share inside G (Schulz et al. 2020, IBA, section 4.4)."""
    _check(maps, truth)
    flat, hits = maps.flatten(1), truth.flatten(1)
    sizes = hits.sum(dim=1)
    places = flat.sort(dim=1, descending=True).values.gather(1, (sizes - 1)[:, None])
    above, tied = flat > places, flat == places
    wide = _wide(maps)
    missing = (sizes - above.sum(dim=1)).to(wide)
    expected = (tied & hits).sum(dim=1).to(wide) / tied.sum(dim=1).to(wide) * missing
    return ((above & hits).sum(dim=1).to(wide) + expected) / sizes.to(wide)


def top_iou(maps: Tensor, truth: Tensor, share: float = TOP_SHARE) -> Tensor:
    """IoU of G with the `share` highest pixels of S, rounded to whole pixels and at least one; its mean is SISE's mIoU.

    Ties: with k - a places left for t tied pixels of which g are true, the number h of true ones among them is
    hypergeometric, and the figure is the sum of P(h) * IoU(h).
    """
    _check(maps, truth)
    flat, hits = maps.flatten(1), truth.flatten(1)
    taken = kept_pixels(share, flat.shape[1])
    places = flat.topk(taken, dim=1).values[:, -1:]
    above, tied = flat > places, flat == places
    counts = torch.stack(
        [part.sum(dim=1) for part in (above, above & hits, tied, tied & hits, hits)], dim=1
    )  # one transfer for all
    values = [_expected_iou(taken, *row) for row in counts.tolist()]
    return torch.tensor(values, dtype=_wide(maps), device=maps.device)


def pixel_average_precision(maps: Tensor, truth: Tensor) -> Tensor:
    """AP of the pixels ranked by S: the sum over thresholds of precision times gain in recall, as in scikit-learn."""
    _check(maps, truth)
    ordered, order = maps.flatten(1).sort(dim=1, descending=True)
    hits = truth.flatten(1).gather(1, order)
    found = hits.cumsum(dim=1)
    ends = _tie_ends(ordered)
    wide = _wide(maps)
    precision = found.gather(1, ends - 1).to(wide) / ends.to(wide)
    return (precision * hits).sum(dim=1) / found[:, -1].to(wide)


def pointing_game(maps: Tensor, truth: Tensor, tolerance: int = 0) -> Tensor:
    """Whether the maximum of S lies in G, or within `tolerance` pixels of it (Zhang et al. 2018, Excitation Backprop).

    Several equal maxima: the share of them that does. Distances are Euclidean between pixel centres.
    """
    _check(maps, truth)
    if tolerance < 0:
        raise MetricError(f"the tolerance is a distance in pixels, at least 0, not {tolerance}")
    flat = maps.flatten(1)
    tied = flat == flat.amax(dim=1, keepdim=True)
    near = (_grown(truth, tolerance) if tolerance else truth).flatten(1)
    wide = _wide(maps)
    return (tied & near).sum(dim=1).to(wide) / tied.sum(dim=1).to(wide)


def kept_pixels(share: float, pixels: int) -> int:
    """How many pixels a share in (0, 1] is: rounded, at least one. Raises `MetricError` for other shares."""
    if not 0 < share <= 1:
        raise MetricError(f"the share of pixels must lie above 0 and at most at 1, not {share}")
    return max(1, round(share * pixels))


def _expected_iou(taken: int, above: int, above_hits: int, tied: int, tied_hits: int, truth: int) -> float:
    drawn = taken - above
    found = np.arange(max(0, drawn - (tied - tied_hits)), min(drawn, tied_hits) + 1)
    chance = hypergeom.pmf(found, tied, tied_hits, drawn)
    both = above_hits + found
    return float(np.sum(chance * (both / (taken + truth - both))) / np.sum(chance))


def _tie_ends(ordered: Tensor) -> Tensor:
    """For each place of sorted values [N, P] how many stand up to the end of its group of ties, int64 [N, P]."""
    places = torch.arange(1, ordered.shape[1] + 1, device=ordered.device).expand_as(ordered)
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:, :-1] = ordered[:, :-1] != ordered[:, 1:]
    # The end of a place's group is the nearest last place at or after it.
    return torch.where(last, places, ordered.shape[1]).flip(1).cummin(dim=1).values.flip(1)


def _grown(truth: Tensor, tolerance: int) -> Tensor:
    offsets = torch.arange(-tolerance, tolerance + 1, device=truth.device)
    disc = (offsets[:, None] ** 2 + offsets[None] ** 2 <= tolerance**2).float()
    return functional.conv2d(truth[:, None].float(), disc[None, None], padding=tolerance)[:, 0] > 0.5


def _wide(maps: Tensor) -> torch.dtype:
    return torch.float32 if maps.device.type == "mps" else torch.float64


def _check(maps: Tensor, truth: Tensor) -> None:
    if maps.ndim != 3 or not maps.numel():
        raise MetricError(f"maps must be [N, H, W] with at least one pixel, not {tuple(maps.shape)}")
    if truth.shape != maps.shape:
        raise MetricError(f"the truth is {tuple(truth.shape)}, the maps are {tuple(maps.shape)}: give one truth a map")
    if not maps.is_floating_point() or truth.dtype != torch.bool:
        raise MetricError(f"maps must hold floats and the truth booleans, not {maps.dtype} and {truth.dtype}")
    if maps.device != truth.device:
        raise MetricError(f"the maps are on {maps.device} and the truth on {truth.device}: move one of them")
    if not bool(torch.isfinite(maps).all()):
        raise MetricError("the maps hold values that are not finite")
    if empty := (~truth.flatten(1).any(dim=1)).nonzero().flatten().tolist():
        raise MetricError(f"the truth of map(s) {', '.join(map(str, empty))} marks no pixel: leave such images out")
