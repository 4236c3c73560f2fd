"""The averaged weights are those of the formula, and the ones that a training validates and returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import nn

from inspection_models.networks import build_network
from inspection_models.training import TrainingRequest, train
from inspection_models.training.averaging import AveragedWeights
from inspection_models.training.stages import fine_layers, set_stage
from tests.inspection_models.test_training import quick, two_shades


def state_of(network: nn.Module) -> dict[str, NDArray[np.generic]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in network.state_dict().items()}


def average_of(states: list[dict[str, NDArray[np.generic]]]) -> dict[str, NDArray[np.generic]]:
    """The states' average in float64, step by step; the first state is the beginning."""
    average = {name: values.astype(np.float64) for name, values in states[0].items()}
    for step, state in enumerate(states[1:], start=1):
        kept = min(0.98, step / (step + 9))
        for name, values in state.items():
            average[name] = kept * average[name] + (1 - kept) * values.astype(np.float64)
    integers = {name: values for name, values in states[-1].items() if values.dtype.kind == "i"}
    return average | integers


def steps_of(network: nn.Module, size: int, count: int) -> list[dict[str, NDArray[np.generic]]]:
    """The states after each of `count` steps on noise, the one before them first."""
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)
    states = [state_of(network)]
    for _ in range(count):
        optimiser.zero_grad()
        network(torch.randn(4, 3, size, size) + 1).square().mean().backward()
        optimiser.step()
        states.append(state_of(network))
    return states


def averaged(network: nn.Module, states: list[dict[str, NDArray[np.generic]]]) -> AveragedWeights:
    """What the network's average is when it goes through the states."""

    def load(state: dict[str, NDArray[np.generic]]) -> None:
        network.load_state_dict({name: torch.from_numpy(values) for name, values in state.items()})

    load(states[0])
    average = AveragedWeights(network)
    for step, state in enumerate(states[1:], start=1):
        load(state)
        average.update(network, step)
    return average


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 5, 600])
def test_the_average_is_that_of_the_formula_and_counts_are_the_latest(count: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    states = steps_of(network, 8, count)
    found, expected = state_of(averaged(network, states).network), average_of(states)
    assert found.keys() == expected.keys()
    assert found["1.num_batches_tracked"] == states[-1]["1.num_batches_tracked"] == count
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    if count > 1:
        for name in ("0.weight", "1.weight", "1.running_mean", "1.running_var", "3.bias"):
            assert np.abs(found[name] - states[-1][name]).max() > 1e-4, name


def test_the_average_is_a_network_of_its_own_that_decides_and_does_not_learn() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedWeights(network)
    assert not any(layer.training for layer in average.network.modules())
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert all(layer.training and next(layer.parameters()).requires_grad for layer in network)
    before = state_of(network)
    nn.init.zeros_(average.network[0].weight)  # type: ignore[index]
    average.update(network, 1)
    for name, values in state_of(network).items():
        np.testing.assert_array_equal(values, before[name])
    assert average.network[0].weight.stride() == network[0].weight.stride()  # type: ignore[index]


@pytest.mark.slow
def test_what_is_frozen_stays_to_the_bit() -> None:
    network = build_network("efficientnet-lite0", 2, pretrained=True)
    request = TrainingRequest(Path("data"), Path("model"), size=(64, 64))
    set_stage(network, fine_layers(network, request), "deep", keeps_statistics=True)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    frozen |= {name for name, _ in network.named_buffers()}
    states = steps_of(network, 64, 12)
    found = state_of(averaged(network, states).network)
    assert len(frozen) > 100
    for name, values in found.items():
        assert np.array_equal(values, states[0][name]) == (name in frozen), name


@pytest.mark.slow
def test_a_training_validates_and_returns_the_average_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[dict[str, NDArray[np.generic]]] = []
    steps: list[int] = []
    update = AveragedWeights.update

    def watched(self: AveragedWeights, network: nn.Module, step: int) -> None:
        if not states:
            states.append(state_of(self.network))
        update(self, network, step)
        states.append(state_of(network))
        steps.append(step)

    monkeypatch.setattr(AveragedWeights, "update", watched)
    report = train(quick(two_shades(tmp_path / "data"), tmp_path / "model", epochs=2))
    assert steps == list(range(1, len(steps) + 1))
    returned, expected = load_file(report.output / "weights.safetensors"), average_of(states)
    assert returned.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(returned[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    assert report.validation.balanced_accuracy == report.epochs[-1].balanced_accuracy


@pytest.mark.slow
def test_the_average_begins_after_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beginnings: list[bool] = []
    update = AveragedWeights.update
    monkeypatch.setattr("inspection_models.training.loop.fit_head", fitted_to_ones)

    def watched(self: AveragedWeights, network: nn.Module, step: int) -> None:
        if step == 1:
            beginnings.append(bool((self.network.classifier.weight == 1).all()))  # type: ignore[union-attr]
        update(self, network, step)

    monkeypatch.setattr(AveragedWeights, "update", watched)
    train(quick(two_shades(tmp_path / "data"), tmp_path / "model", architecture="efficientnet-lite0", epochs=1))
    assert beginnings == [True]


def fitted_to_ones(_network: nn.Module, head: nn.Linear, *_: object, **__: object) -> tuple[float, float]:
    nn.init.ones_(head.weight)
    return 1.0, 0.5
