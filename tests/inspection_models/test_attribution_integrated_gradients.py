"""Integrated gradients against Captum and a literal Riemann sum, and its axioms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from inspection_models.attribution import AttributionError, attribute
from inspection_models.attribution import integrated_gradients as module
from inspection_models.attribution.blurring import gaussian_blur
from inspection_models.attribution.confidence import Activation, log_odds
from inspection_models.attribution.integrated_gradients import integrated_gradients
from tests.inspection_models.attribution_networks import FAMILIES, BlockNetwork, Inverted, Plain, built, images

TOLERANCE = 1e-5


pytestmark = pytest.mark.usefixtures("one_thread")


def odds(logits: Tensor, target: int, activation: str) -> Tensor:
    """ln(p / (1 - p)) as it is defined."""
    p = torch.softmax(logits, 1)[:, target] if activation == "softmax" else torch.sigmoid(logits[:, target])
    return torch.log(p / (1 - p))


def riemann(
    network: BlockNetwork, image: Tensor, baseline: Tensor, target: int, activation: str, steps: int
) -> NDArray[np.float64]:
    """Equation 3 of the paper, with the gradient in the middle of each step."""
    total = torch.zeros_like(image)
    for step in range(steps):
        point = (baseline + (step + 0.5) / steps * (image - baseline))[None].requires_grad_()
        score = odds(network.blocks_and_logits(point)[1], target, activation)[0]
        total += torch.autograd.grad(score, point)[0][0] / steps
    return ((image - baseline) * total).numpy()


def blur_by_scipy(image: Tensor) -> Tensor:
    deviation = 0.05 * 40
    planes = [ndimage.gaussian_filter(p, deviation, radius=6, mode="mirror") for p in image.double().numpy()]
    return torch.from_numpy(np.stack(planes))


@pytest.mark.slow
@pytest.mark.parametrize("family", [Plain, Inverted])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_agrees_with_a_fine_riemann_sum(family: type[BlockNetwork], activation: Activation) -> None:
    """Of networks with kinks, so the two agree as well as the quadrature can."""
    network, image = built(family, 1), images(1, 2)[0]
    with torch.no_grad():
        network.classifier.weight.mul_(0.3)  # where p / (1 - p) can be computed as it is defined
    baseline = blur_by_scipy(image)
    expected = riemann(network, image, baseline, 1, activation, 200)
    found = integrated_gradients(network, image, baseline, (1,), activation, 100, 50)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_is_exact_for_a_smooth_function() -> None:
    """y = sum w x^3 per channel: the attribution of each number is w (x^3 - b^3) exactly from two steps on."""

    class Cubic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0].sum((1, 2)) * 0, (x**3 * weights).sum((1, 2, 3))], 1)

    generator = torch.Generator().manual_seed(1)
    weights, image, start = (torch.randn(3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    found = integrated_gradients(Cubic().eval(), image, start, (1,), "sigmoid", 2, 1)[0]
    torch.testing.assert_close(found, weights * (image**3 - start**3))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_captum(family: type[BlockNetwork], activation: Activation, dtype: torch.dtype) -> None:
    from captum.attr import IntegratedGradients

    network, image = built(family, 1, dtype), images(1, 2, dtype)[0]
    baseline = torch.zeros_like(image)
    found = integrated_gradients(network, image, baseline, (1, 3), activation, 12, 5)
    for attributions, target in zip(found, (1, 3), strict=True):
        explainer = IntegratedGradients(lambda x, t=target: log_odds(network(x.clone()), t, activation))
        expected = explainer.attribute(image[None], baseline[None], n_steps=12)[0]
        largest = float(expected.abs().max())
        assert largest > 0
        np.testing.assert_allclose(attributions, expected.detach(), atol=1e-5 * largest)


@pytest.mark.parametrize("family", FAMILIES)
def test_attributions_add_up_to_what_the_image_adds_to_the_class(family: type[BlockNetwork]) -> None:
    network, image = built(family, 1), images(1, 2)[0]
    baseline = blur_by_scipy(image)
    found = integrated_gradients(network, image, baseline, (0, 2), "softmax", 100, 50).sum((1, 2, 3))
    with torch.no_grad():
        after, before = network(image[None]), network(baseline[None])
    for total, target in zip(found, (0, 2), strict=True):
        gain = float(log_odds(after, target, "softmax") - log_odds(before, target, "softmax"))
        assert abs(float(total) - gain) < 0.03 * max(1.0, abs(gain))


@pytest.mark.parametrize("baseline", ["blur", "zero"])
@pytest.mark.parametrize("smoothing", [0, 0.0375])
def test_map_is_what_speaks_for_the_class(baseline: str, smoothing: float) -> None:
    network, image = built(Inverted, 3), images(1, 4)[0]
    start = blur_by_scipy(image) if baseline == "blur" else torch.zeros_like(image)
    expected = integrated_gradients(network, image, start, (2,), "softmax", 32, 32)[0].numpy().sum(axis=0)
    if smoothing:
        expected = ndimage.gaussian_filter(expected, smoothing * 40, radius=5, mode="mirror")
    expected = np.maximum(expected, 0)
    result = attribute(
        network, image[None], torch.tensor([2]), "integrated-gradients", baseline=baseline, smoothing=smoothing
    )
    np.testing.assert_allclose(result.block_grids[0][0], expected / expected.max(), atol=TOLERANCE)
    low = expected.min()
    np.testing.assert_allclose(result.map[0], (expected - low) / (expected.max() - low), atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(("divisor", "at_once"), [(1000, 1), (15, 6), (1, 104)])
def test_steps_taken_at_once_do_not_change_the_map(divisor: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, pictures = built(Inverted, 7, torch.float32), images(2, 3, torch.float32)
    usual = attribute(network, pictures, torch.tensor([1, 2]), "integrated-gradients")
    monkeypatch.setattr(module, "_SCORING_PASSES_MEMORY", divisor)
    other = attribute(network, pictures, torch.tensor([1, 2]), "integrated-gradients")
    assert other.settings["batch_size"] == at_once != usual.settings["batch_size"]
    np.testing.assert_allclose(other.map, usual.map, atol=TOLERANCE)


def test_an_image_that_is_its_own_baseline_has_an_empty_map() -> None:
    network = built(Plain, 1, torch.float32)
    for baseline, value in (("blur", 0.7), ("zero", 0.0)):
        pictures = torch.full((1, 3, 40, 48), value)
        result = attribute(network, pictures, torch.tensor([1]), "integrated-gradients", baseline=baseline)
        assert not result.map.any()


@pytest.mark.parametrize(
    ("shape", "deviation"), [((3, 40, 48), 2.0), ((2, 9, 30), 0.7), ((1, 4, 3), 5.0), ((1, 1, 6), 1.0)]
)
def test_blur_is_a_gaussian_mirrored_at_the_borders(shape: tuple[int, ...], deviation: float) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = image.numpy()
    for axis in (1, 2):
        radius = min(int(np.ceil(3 * deviation)), shape[axis] - 1)
        expected = ndimage.gaussian_filter1d(expected, deviation, axis=axis, radius=radius, mode="mirror")
    np.testing.assert_allclose(gaussian_blur(image[None], deviation)[0], expected, atol=1e-7)


def test_a_network_that_blows_up_on_the_way_is_refused() -> None:
    class Pole(Inverted):
        def forward(self, x: Tensor) -> Tensor:
            size = x.abs().amax((1, 2, 3))
            return super().forward(x) / torch.where((size > 1) & (size < 2), 0.0, 1.0)[:, None]

    pictures = images(1, 2) / images(1, 2).abs().max() * 4
    with pytest.raises(AttributionError, match="not finite between baseline and input"):
        attribute(built(Pole, 1), pictures, torch.tensor([1]), "integrated-gradients", baseline="zero")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"steps": 2.0}, "steps must be a whole number"),
        ({"baseline": "black"}, "unknown baseline 'black': there are blur, zero"),
        ({"smoothing": -1.0}, r"smoothing must be a share of at least 0 and below 1, not -1\.0"),
        ({"smoothing": 1}, "smoothing must be"),
        ({"smoothing": float("nan")}, "smoothing must be"),
        ({"smoothing": True}, "smoothing must be"),
    ],
)
def test_wrong_options_are_told_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AttributionError, match=message):
        attribute(built(Plain, 0), images(1, 0), torch.tensor([0]), "integrated-gradients", **options)
