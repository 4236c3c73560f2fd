"""Perturbation figures against literal loops, with a confidence that can be worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

from inspection_models.attribution.blurring import gaussian_blur
from inspection_models.metrics.errors import MetricError
from inspection_models.metrics.faithfulness import class_confidence, insertion_deletion, keep_highest
from inspection_models.metrics.fills import FILLS, Fill, fill_image

SIZE = (16, 20)
PIXELS = 16 * 20


def image(seed: int = 0) -> Tensor:
    return torch.randn((3, *SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distinct_maps(count: int = 3, seed: int = 1) -> Tensor:
    return torch.rand((count, *SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def confidence(inputs: Tensor) -> Tensor:
    """Something in [0, 1] that tells every pixel apart."""
    weights = torch.linspace(-1, 1, 3 * PIXELS, dtype=inputs.dtype).reshape(3, *SIZE).cos()
    return torch.sigmoid((inputs * weights).sum(dim=(1, 2, 3)) / 8)


def literal(seen: Tensor, other: Tensor, values: Tensor, count: int) -> float:
    """Confidence with the `count` highest pixels of `values` taken from `seen` and the rest from `other`."""
    mixed = other.clone()
    highest = sorted(range(PIXELS), key=lambda pixel: -values.flatten()[pixel].item())[:count]
    for pixel in highest:
        row, column = divmod(pixel, SIZE[1])
        mixed[:, row, column] = seen[:, row, column]
    return confidence(mixed[None]).item()


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("share", [0.15, 0.4])
def test_drop_and_increase_are_the_papers(fill: Fill, share: float) -> None:
    picture, maps = image(), distinct_maps(6)
    result = keep_highest(confidence, picture, maps, fill=fill, share=share, batch_size=4)
    original = confidence(picture[None]).item()
    kept = [literal(picture, fill_image(picture, fill), one, round(share * PIXELS)) for one in maps]
    assert result.original == pytest.approx(original)
    assert result.drop.tolist() == pytest.approx([max(0, original - k) / original for k in kept], abs=1e-12)
    assert result.increase.tolist() == [float(k > original) for k in kept]


def test_drop_and_increase_both_occur() -> None:
    results = [keep_highest(confidence, image(seed), distinct_maps(), fill="mean") for seed in range(6)]
    increases = torch.cat([result.increase for result in results])
    assert 0 < increases.mean() < 1
    assert all(((result.drop > 0) == (result.increase == 0)).all() for result in results)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_insertion_and_deletion_curves_are_walked_step_by_step(fill: Fill, steps: int) -> None:
    picture, maps = image(), distinct_maps()
    background = fill_image(picture, fill)
    curves = insertion_deletion(confidence, picture, maps, fill=fill, steps=steps, batch_size=5)
    counts = [round(step * PIXELS / steps) for step in range(steps + 1)]
    for number, one in enumerate(maps):
        inserted = [literal(picture, background, one, count) for count in counts]
        deleted = [literal(background, picture, one, count) for count in counts]
        assert curves.insertion[number].tolist() == pytest.approx(inserted, abs=1e-12)
        assert curves.deletion[number].tolist() == pytest.approx(deleted, abs=1e-12)
        area = sum((a + b) / 2 / steps for a, b in itertools.pairwise(inserted))
        assert curves.insertion_auc[number].item() == pytest.approx(area, abs=1e-12)
        area = sum((a + b) / 2 / steps for a, b in itertools.pairwise(deleted))
        assert curves.deletion_auc[number].item() == pytest.approx(area, abs=1e-12)


def test_deleting_is_inserting_the_lowest_first_backwards() -> None:
    maps = distinct_maps()
    curves = insertion_deletion(confidence, image(), maps, fill="mean", steps=8)
    reversed_order = insertion_deletion(confidence, image(), -maps, fill="mean", steps=8)
    assert torch.allclose(curves.deletion, reversed_order.insertion.flip(1), atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_only_the_order_of_pixels_counts(seed: int) -> None:
    maps = (distinct_maps(2, seed) * 6).floor()
    first = insertion_deletion(confidence, image(), maps, fill="mean", steps=4)
    second = insertion_deletion(confidence, image(), 5 * maps.exp() - 3, fill="mean", steps=4)
    assert torch.equal(first.insertion, second.insertion)
    assert torch.equal(first.deletion, second.deletion)


class Recorder:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        self.inputs.extend(inputs)
        return torch.full((len(inputs),), 0.5)


def test_ties_are_cut_at_pixels_spread_over_the_whole_picture_and_the_same_for_every_map() -> None:
    picture = torch.ones((3, 60, 60))
    maps = torch.zeros((2, 60, 60))
    maps[:, 20:30, 20:30] = 1
    seen = Recorder()
    keep_highest(seen, picture, maps, fill="mean", share=0.3)
    kept = seen.inputs[1][0] == 1
    assert torch.equal(seen.inputs[1], seen.inputs[2])
    assert kept.sum() == round(0.3 * 3600)
    assert kept[20:30, 20:30].all()
    blocks = kept.float().reshape(6, 10, 6, 10).mean(dim=(1, 3)).flatten()
    blocks = torch.cat([blocks[: 2 * 6 + 2], blocks[2 * 6 + 3 :]])
    assert blocks.mean() == pytest.approx((1080 - 100) / 3500, abs=1e-6)
    assert blocks.min() > 0.1
    assert blocks.max() < 0.5
    again = Recorder()
    keep_highest(again, picture, maps, fill="mean", share=0.3, seed=1)
    assert not torch.equal(again.inputs[1], seen.inputs[1])


def test_tied_pixels_that_fit_enter_together() -> None:
    maps = torch.zeros((1, 10, 10))
    maps[0, 2:4, :] = 2
    maps[0, 6:9, :] = 1
    seen = Recorder()
    insertion_deletion(seen, torch.ones((1, 10, 10)), maps, fill="mean", steps=10)
    after_two, after_five = seen.inputs[2 + 1][0], seen.inputs[2 + 4][0]
    assert torch.equal(after_two, (maps[0] == 2).float())
    assert torch.equal(after_five, (maps[0] >= 1).float())


def test_the_expected_confidence_under_random_order_is_met_closely() -> None:
    """A single fixed order stands for the mean over orders: on a picture of some size they differ little."""
    picture = torch.randn((1, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def linear(inputs: Tensor) -> Tensor:
        return 0.5 + inputs.mean(dim=(1, 2, 3))

    curves = insertion_deletion(linear, picture, torch.zeros((1, 64, 64)), fill="mean", steps=10)
    expected = [0.5 + picture.mean().item() * step / 10 for step in range(11)]
    assert curves.insertion[0].tolist() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    one = insertion_deletion(confidence, image(), distinct_maps(), fill="blur", steps=6, batch_size=batch_size)
    other = insertion_deletion(confidence, image(), distinct_maps(), fill="blur", steps=6, batch_size=7)
    assert torch.allclose(one.insertion, other.insertion, atol=1e-14, rtol=0)


def test_batches_are_of_the_size_asked_for() -> None:
    sizes = []

    def counting(inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        return torch.zeros(len(inputs))

    insertion_deletion(counting, image(), distinct_maps(3), fill="mean", steps=5, batch_size=8)
    assert sum(sizes) == 2 + 2 * 3 * 4
    assert sizes == [8, 8, 8, 2]


def test_where_there_was_no_confidence_none_is_lost() -> None:
    result = keep_highest(lambda inputs: torch.zeros(len(inputs)), image(), distinct_maps(), fill="mean")
    assert result.drop.tolist() == [0, 0, 0]
    assert result.increase.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("activation", "layer"), [("softmax", nn.Softmax(dim=1)), ("sigmoid", nn.Sigmoid())])
def test_confidence_is_the_activation_of_the_target(activation: str, layer: nn.Module) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * PIXELS, 4)).double().eval()
    inputs = torch.stack([image(seed) for seed in range(3)])
    found = class_confidence(network, 2, activation)(inputs)  # type: ignore[arg-type]
    assert found.dtype == torch.float64
    assert not found.requires_grad
    assert torch.allclose(found, layer(network(inputs)).detach()[:, 2])


def test_blur_is_a_gaussian_mirrored_at_the_border() -> None:
    picture = torch.randn((3, 30, 41), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for deviation in (0.4, 1.5, 4.0):
        expected = [
            ndimage.gaussian_filter(c, deviation, mode="mirror", radius=int(np.ceil(3 * deviation)))
            for c in picture.numpy()
        ]
        assert torch.allclose(gaussian_blur(picture[None], deviation)[0], torch.tensor(np.stack(expected)), atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 200)])
def test_blur_of_very_thin_pictures_keeps_a_constant(size: tuple[int, int]) -> None:
    assert torch.allclose(gaussian_blur(torch.full((1, 2, *size), 3.0), 5.0), torch.full((1, 2, *size), 3.0))


def test_the_blur_grows_with_the_input() -> None:
    small = torch.zeros((1, 100, 100))
    small[:, :, 50:] = 1
    large = small.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    assert torch.allclose(fill_image(large, "blur")[0, ::3, 1::3], fill_image(small, "blur")[0], atol=0.01)
    assert fill_image(small, "mean").abs().max() == 0


def test_bad_input_is_refused() -> None:
    picture, maps = image(), distinct_maps()
    with pytest.raises(MetricError, match="unknown fill"):
        keep_highest(confidence, picture, maps, fill="black")  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="share"):
        keep_highest(confidence, picture, maps, fill="mean", share=0)
    with pytest.raises(MetricError, match="step"):
        insertion_deletion(confidence, picture, maps, fill="mean", steps=0)
    with pytest.raises(MetricError, match="batch_size"):
        keep_highest(confidence, picture, maps, fill="mean", batch_size=0)
    with pytest.raises(MetricError, match="one float input"):
        keep_highest(confidence, picture[None], maps, fill="mean")
    with pytest.raises(MetricError, match="as the image"):
        keep_highest(confidence, picture, maps[:, :-1], fill="mean")
    with pytest.raises(MetricError, match="not finite"):
        keep_highest(confidence, picture, maps / 0, fill="mean")
    with pytest.raises(MetricError, match=r"\[0, 1\]"):
        keep_highest(lambda inputs: inputs.sum(dim=(1, 2, 3)) + 100, picture, maps, fill="mean")
    with pytest.raises(MetricError, match=r"\[0, 1\]"):
        keep_highest(lambda inputs: torch.full((len(inputs),), torch.nan), picture, maps, fill="mean")
