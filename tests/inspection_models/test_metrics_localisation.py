"""Localisation figures against literal loops, exact enumeration of the orders of ties, and scikit-learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch import Tensor

from inspection_models.metrics.errors import MetricError
from inspection_models.metrics.localisation import (
    bbox,
    energy_based_pointing_game,
    pixel_average_precision,
    pointing_game,
    ranked_pointing_game,
    top_iou,
)

EVERY = (energy_based_pointing_game, ranked_pointing_game, bbox, top_iou, pixel_average_precision, pointing_game)
BY_RANK = (ranked_pointing_game, bbox, top_iou, pixel_average_precision, pointing_game)


def ordered_bbox(order: Sequence[int], truth: Sequence[bool]) -> float:
    top = order[: sum(truth)]
    return sum(truth[pixel] for pixel in top) / len(top)


def ordered_iou(share: float) -> Callable[[Sequence[int], Sequence[bool]], float]:
    def iou(order: Sequence[int], truth: Sequence[bool]) -> float:
        top = set(order[: max(1, round(share * len(truth)))])
        inside = {pixel for pixel, true in enumerate(truth) if true}
        return len(top & inside) / len(top | inside)

    return iou


def ordered_energy(order: Sequence[int], truth: Sequence[bool]) -> float:
    energy = [-math.log((place + 0.5) / len(order)) for place in range(len(order))]
    return sum(one for one, pixel in zip(energy, order, strict=True) if truth[pixel]) / sum(energy[: sum(truth)])


def ordered_pointing(order: Sequence[int], truth: Sequence[bool]) -> float:
    return float(truth[order[0]])


def over_all_orders(
    values: Sequence[float], truth: Sequence[bool], figure: Callable[[Sequence[int], Sequence[bool]], float]
) -> float:
    """Mean of a figure over every order in which no pixel precedes a higher one."""
    found = [
        figure(order, truth)
        for order in itertools.permutations(range(len(values)))
        if all(values[a] >= values[b] for a, b in itertools.pairwise(order))
    ]
    return sum(found) / len(found)


@st.composite
def tied_maps(draw: st.DrawFn, pixels: int = 6, levels: int = 3) -> tuple[list[float], list[bool]]:
    values = draw(st.lists(st.integers(0, levels - 1).map(float), min_size=pixels, max_size=pixels))
    truth = draw(st.lists(st.booleans(), min_size=pixels, max_size=pixels).filter(any))
    return values, truth


def pair(values: Sequence[float], truth: Sequence[bool], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return torch.tensor(values).reshape(1, *size), torch.tensor(truth).reshape(1, *size)


@settings(deadline=None, max_examples=40)
@given(tied_maps(), st.sampled_from([0.2, 0.34, 0.5, 1.0]))
def test_ties_count_as_the_mean_over_all_their_orders(case: tuple[list[float], list[bool]], share: float) -> None:
    maps, truth = pair(*case, (2, 3))
    assert bbox(maps, truth).item() == pytest.approx(over_all_orders(*case, ordered_bbox), abs=1e-12)
    expected = over_all_orders(*case, ordered_iou(share))
    assert top_iou(maps, truth, share).item() == pytest.approx(expected, abs=1e-12)
    assert pointing_game(maps, truth).item() == pytest.approx(over_all_orders(*case, ordered_pointing), abs=1e-12)
    assert ranked_pointing_game(maps, truth).item() == pytest.approx(over_all_orders(*case, ordered_energy), abs=1e-12)


def test_a_large_map_with_few_positive_pixels_is_filled_up_by_chance() -> None:
    rng = np.random.default_rng(3)
    values = np.where(rng.random(2500) < 0.08, rng.random(2500), 0.0)
    truth = rng.random(2500) < 0.1
    maps, true = pair(values.tolist(), truth.tolist(), (50, 50))
    draws = []
    for _ in range(400):
        chance = rng.permutation(2500)
        order = chance[np.argsort(-values[chance], kind="stable")].tolist()
        draws.append((ordered_iou(0.2)(order, truth.tolist()), ordered_bbox(order, truth.tolist())))
    assert top_iou(maps, true).item() == pytest.approx(np.mean([d[0] for d in draws]), abs=0.002)
    assert bbox(maps, true).item() == pytest.approx(np.mean([d[1] for d in draws]), abs=0.004)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(tied_maps(pixels=20, levels=6))
def test_average_precision_is_that_of_scikit_learn(case: tuple[list[float], list[bool]]) -> None:
    values, truth = case
    expected = average_precision_score(truth, values)
    assert pixel_average_precision(*pair(values, truth, (4, 5))).item() == pytest.approx(expected, abs=1e-12)


def random_batch(seed: int = 0, images: int = 5, size: tuple[int, int] = (37, 29)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand((images, *size), generator=generator)
    maps[:2] = (maps[:2] * 8).floor() / 8
    maps[1] = (maps[1] - 0.6).clamp_min(0)
    return maps, torch.rand((images, *size), generator=generator) < 0.15


def test_average_precision_of_real_sized_maps_is_that_of_scikit_learn() -> None:
    maps, truth = random_batch()
    expected = [
        average_precision_score(t.flatten().numpy(), m.flatten().numpy()) for m, t in zip(maps, truth, strict=True)
    ]
    assert pixel_average_precision(maps, truth).tolist() == pytest.approx(expected, abs=1e-12)


def test_energy_is_counted_pixel_by_pixel() -> None:
    maps, truth = random_batch()
    expected = []
    for values, true in zip(maps.double().tolist(), truth.tolist(), strict=True):
        pixels = [(v, t) for row, marks in zip(values, true, strict=True) for v, t in zip(row, marks, strict=False)]
        expected.append(sum(v for v, t in pixels if t) / sum(v for v, _ in pixels))
    assert energy_based_pointing_game(maps, truth).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", EVERY)
def test_a_map_is_judged_by_itself_whatever_the_batch(metric: Callable[[Tensor, Tensor], Tensor]) -> None:
    maps, truth = random_batch()
    together = metric(maps, truth)
    assert together.shape == (5,)
    assert together.dtype == torch.float64
    alone = torch.cat([metric(maps[i : i + 1], truth[i : i + 1]) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-14, rtol=0)


@pytest.mark.parametrize("metric", BY_RANK)
def test_only_the_order_of_pixels_counts(metric: Callable[[Tensor, Tensor], Tensor]) -> None:
    maps, truth = random_batch()
    assert torch.equal(metric(maps.double(), truth), metric(torch.exp(3 * maps.double()) - 7, truth))


@pytest.mark.parametrize("metric", EVERY)
def test_the_truth_itself_is_a_perfect_map(metric: Callable[[Tensor, Tensor], Tensor]) -> None:
    _, truth = random_batch()
    perfect = metric(truth.float(), truth)
    if metric is top_iou:  # a fifth of the picture is more than these defects fill, or chance adds from the zeros
        assert (perfect < 1).all()
        fifth = torch.zeros((1, 10, 10), dtype=torch.bool)
        fifth[:, :2] = True
        perfect = top_iou(fifth.float(), fifth)
    assert torch.allclose(perfect, torch.ones_like(perfect))


def test_at_equal_contrast_a_power_gains_nothing_and_truth_above_the_rest_is_perfect() -> None:
    maps, truth = random_batch()
    assert torch.allclose(ranked_pointing_game(maps**3, truth), ranked_pointing_game(maps, truth), atol=1e-14)
    # Inside a truth that comes first the order does not matter.
    assert torch.allclose(ranked_pointing_game(maps + 2 * truth, truth), torch.ones(5, dtype=torch.float64))
    assert (ranked_pointing_game(maps, truth) < 1).all()


@pytest.mark.parametrize("metric", (bbox, pixel_average_precision, pointing_game))
@pytest.mark.parametrize("value", (0.0, 0.7))
def test_a_constant_map_is_a_blind_guess(metric: Callable[[Tensor, Tensor], Tensor], value: float) -> None:
    maps, truth = random_batch()
    assert torch.allclose(metric(torch.full_like(maps, value), truth), truth.double().mean(dim=(1, 2)))


def test_a_map_of_zeros_has_no_energy_anywhere() -> None:
    maps, truth = random_batch()
    maps[2] = 0
    figures = energy_based_pointing_game(maps, truth)
    assert figures[2] == 0
    assert (figures[[0, 1, 3, 4]] > 0).all()


def test_a_truth_that_fills_the_image_is_found_by_any_map() -> None:
    maps, truth = random_batch()
    for metric in (energy_based_pointing_game, bbox, pixel_average_precision, pointing_game):
        assert torch.allclose(metric(maps, torch.ones_like(truth)), torch.ones(5, dtype=torch.float64))


def test_pointing_within_a_tolerance_is_euclidean() -> None:
    rng = np.random.default_rng(1)
    for tolerance in (0, 1, 2, 3, 5):
        for _ in range(20):
            values = rng.integers(0, 6, (9, 11)).astype(float)
            truth = rng.random((9, 11)) < 0.05
            truth[rng.integers(9), rng.integers(11)] = True
            maxima = np.argwhere(values == values.max())
            near = [
                any(
                    sum((a - b) ** 2 for a, b in zip(peak, true, strict=True)) <= tolerance**2
                    for true in np.argwhere(truth)
                )
                for peak in maxima
            ]
            figure = pointing_game(torch.tensor(values)[None], torch.tensor(truth)[None], tolerance)
            assert figure.item() == pytest.approx(np.mean(near))


@pytest.mark.parametrize("metric", EVERY)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m, t: (m[0], t[0]), r"\[N, H, W\]"),
        (lambda m, t: (m, t[:, :-1]), "one truth a map"),
        (lambda m, t: (m, t.float()), "booleans"),
        (lambda m, t: ((m * 255).to(torch.uint8), t), "floats"),
        (lambda m, t: (m.masked_fill(m > 0.8, torch.nan), t), "not finite"),
        (lambda m, t: (m, t & torch.tensor([1, 0, 1, 1, 0], dtype=torch.bool)[:, None, None]), "1, 4 marks no pixel"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    metric: Callable[[Tensor, Tensor], Tensor],
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    says: str,
) -> None:
    with pytest.raises(MetricError, match=says):
        metric(*change(*random_batch()))


def test_shares_tolerances_and_energies_out_of_range_are_refused() -> None:
    maps, truth = random_batch()
    with pytest.raises(MetricError, match="negative"):
        energy_based_pointing_game(maps - 0.5, truth)
    with pytest.raises(MetricError, match="tolerance"):
        pointing_game(maps, truth, -1)
    for share in (0.0, 1.1, -0.2):
        with pytest.raises(MetricError, match="share"):
            top_iou(maps, truth, share)


@pytest.mark.gpu
@pytest.mark.parametrize("metric", EVERY)
def test_figures_on_a_graphics_card_are_those_of_the_processor(metric: Callable[[Tensor, Tensor], Tensor]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    maps, truth = random_batch()
    there = metric(maps.cuda(), truth.cuda())
    assert there.is_cuda
    assert torch.allclose(there.cpu(), metric(maps, truth), atol=1e-12)
