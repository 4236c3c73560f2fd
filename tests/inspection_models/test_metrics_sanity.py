"""Randomising networks, and the likeness of maps, against literal code."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from inspection_models.attribution import attribute
from inspection_models.metrics.errors import MetricError
from inspection_models.metrics.sanity import cascading_randomisation, label_randomisation
from inspection_models.metrics.similarity import similarity, structural_similarity
from tests.inspection_models.attribution_networks import Residual, built, images


class Scaled(nn.Module):
    """Holds parameters of its own, has no `reset_parameters`, and has children besides."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.linspace(1, 2, 24).reshape(6, 4))
        self.inner = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.inner(x) + x @ self.gain.T))


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed_layers(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_layers_fall_one_after_the_other_from_the_last() -> None:
    network = Scaled().eval()
    network.norm.running_mean.fill_(3)
    before = state(network)
    seen: list[dict[str, Tensor]] = []

    def explain(given: nn.Module) -> Tensor:
        assert not given.training
        seen.append(state(given))
        return torch.rand(1, 4, 4)

    stages = cascading_randomisation(network, explain)
    assert [stage.layers for stage in stages] == [("last",), ("norm",), ("inner",), ("",)]
    assert [changed_layers(before, one) for one in seen] == [
        set(),
        {"last"},
        {"last", "norm"},
        {"last", "norm", "inner"},
        {"last", "norm", "inner", ""},
    ]
    assert torch.equal(seen[1]["last.weight"], seen[4]["last.weight"])
    assert not changed_layers(before, state(network))


def test_parameters_without_a_reset_keep_their_spread() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(-1, 5, 10_000))
            self.constant = nn.Parameter(torch.full((3,), 7.0))

    found: list[dict[str, Tensor]] = []

    def explain(given: nn.Module) -> Tensor:
        found.append(state(given))
        return torch.zeros(1, 2, 2)

    cascading_randomisation(Wide(), explain)
    assert found[1]["weight"].mean() == pytest.approx(2, abs=0.1)
    assert found[1]["weight"].std() == pytest.approx(3**0.5, abs=0.1)
    assert not torch.allclose(found[1]["weight"].sort().values, found[0]["weight"], atol=0.1)
    assert found[1]["constant"].tolist() == [7, 7, 7]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_cascade_and_leaves_the_generator_alone() -> None:
    inputs = images(2, 0, torch.float32)
    network = built(Residual, 0, torch.float32)

    def explain(given: nn.Module) -> Tensor:
        return attribute(given, inputs, torch.tensor([0, 1]), method="sise").map

    torch.manual_seed(11)
    first = cascading_randomisation(network, explain, stages=3, seed=5)
    assert torch.initial_seed() == 11
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(11))
    assert first == cascading_randomisation(network, explain, stages=3, seed=5)
    assert first != cascading_randomisation(network, explain, stages=3, seed=6)
    assert len(first) == 3
    assert sum(len(stage.layers) for stage in first) == sum(
        bool(list(module.parameters(recurse=False))) for module in network.modules()
    )
    assert all(len(stage.similarities) == 2 for stage in first)
    assert first[-1].mean.spearman < 0.95


def test_a_map_of_the_picture_alone_is_found_out() -> None:
    inputs = images(3, 0)
    stages = cascading_randomisation(built(Residual, 0), lambda _: inputs.abs().mean(dim=1), stages=2)
    assert all((stage.mean.spearman, stage.mean.ssim) == (1, 1) for stage in stages)


def test_label_randomisation_compares_picture_by_picture() -> None:
    network = built(Residual, 0)
    other = built(Residual, 1)
    maps = {id(network): torch.rand(3, 12, 12), id(other): torch.rand(3, 12, 12)}
    maps[id(other)][1] = maps[id(network)][1]
    found = label_randomisation(network, other, lambda given: maps[id(given)])
    assert [one.spearman == 1 for one in found] == [False, True, False]
    assert found[0] == similarity(maps[id(network)][0], maps[id(other)][0])


def test_what_cannot_be_randomised_or_compared_is_refused() -> None:
    network = Scaled()
    with pytest.raises(MetricError, match="no parameters"):
        cascading_randomisation(nn.ReLU(), lambda _: torch.zeros(1, 2, 2))
    for stages in (0, 5):
        with pytest.raises(MetricError, match="4 layers"):
            cascading_randomisation(network, lambda _: torch.zeros(1, 2, 2), stages=stages)
    with pytest.raises(MetricError, match=r"\[N, H, W\]"):
        cascading_randomisation(network, lambda _: torch.zeros(2, 2))
    with pytest.raises(MetricError, match="same pictures"):
        label_randomisation(network, copy.deepcopy(network), lambda g: torch.zeros(1 + (g is network), 2, 2))


def literal_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2004 with a loop over windows, the picture mirrored about its edge."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    one, two = (np.pad(values, 5, mode="symmetric") for values in (first, second))
    found = []
    for row in range(first.shape[0]):
        for column in range(first.shape[1]):
            a, b = (values[row : row + 11, column : column + 11] for values in (one, two))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            shared = (window * (a - mean_a) * (b - mean_b)).sum()
            top = (2 * mean_a * mean_b + 0.01**2) * (2 * shared + 0.03**2)
            found.append(top / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)))
    return float(np.mean(found))


def test_structural_similarity_is_the_published_formula() -> None:
    rng = np.random.default_rng(0)
    for mix in (0.0, 0.3, 0.9):
        first = rng.random((17, 23))
        second = mix * first + (1 - mix) * rng.random((17, 23))
        assert structural_similarity(first, second) == pytest.approx(literal_ssim(first, second), abs=1e-10)


def test_likeness_ignores_scale_and_tells_the_opposite() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.rand((2, 20, 20), generator=generator, dtype=torch.float64)
    alike = similarity(one, 4 * one + 2)
    assert alike.spearman == pytest.approx(1)
    assert alike.ssim == pytest.approx(1)
    assert similarity(one, -one).spearman == pytest.approx(-1)
    assert similarity(one, -one).ssim < 0
    expected = stats.spearmanr(one.flatten(), other.flatten()).statistic
    assert similarity(one, other).spearman == pytest.approx(expected)
    assert similarity(one, torch.exp(5 * one)).spearman == pytest.approx(1)
    assert similarity(one, torch.exp(5 * one)).ssim < 0.9


def test_a_flat_map_is_like_nothing_but_a_flat_map() -> None:
    flat, other = torch.full((8, 8), 0.3), torch.rand(8, 8)
    assert similarity(flat, other).spearman == 0
    assert similarity(flat, 2 * flat).spearman == 1
    with pytest.raises(MetricError, match="one size"):
        similarity(flat, torch.zeros(7, 8))
    with pytest.raises(MetricError, match="finite"):
        similarity(flat, other / 0)
