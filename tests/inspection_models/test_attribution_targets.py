"""Several classes of an image share their masks; a map can be watched as it grows; nothing depends on company."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from inspection_models.attribution import Attribution, AttributionError, attribute
from tests.inspection_models.attribution_networks import INPUT_SIZE, Inverted, Plain, Residual, built, images


@pytest.mark.parametrize("method", ["sise", "ada-sise"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_several_targets_at_the_cost_of_the_union_of_their_masks(method: str, activation: str) -> None:
    network, pictures = built(Residual, 3), images(2, 4)
    targets = torch.tensor([[0, 2, 1], [3, 1, 3]])
    together = attribute(network, pictures, targets, method, activation)
    assert together.map.shape == (2, 3, *INPUT_SIZE)
    assert [grids.shape[:2] for grids in together.block_grids] == [(2, 3)] * len(together.blocks)
    separate = 0
    for place in range(3):
        one = together.of_target(place)
        alone = attribute(network, pictures, targets[:, place], method, activation)
        np.testing.assert_allclose(one.map, alone.map, atol=1e-5)
        for found, wanted in zip(one.block_grids, alone.block_grids, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert bool((together.masks_scored >= alone.masks_scored).all())
        separate += int(alone.masks_scored.sum())
    assert int(together.masks_scored.sum()) < separate
    np.testing.assert_array_equal(together.map[1, 0], together.map[1, 2])


def test_one_target_in_a_row_is_that_target() -> None:
    network, pictures = built(Plain, 3), images(1, 4)
    row, alone = (attribute(network, pictures, torch.tensor(targets)) for targets in ([[2]], [2]))
    assert torch.equal(row.map[:, 0], alone.map) and torch.equal(row.of_target(0).map, alone.map)


@pytest.mark.parametrize("targets", [[[0, 1]], [[[0]], [[1]]], [[], []], [[0, 9], [1, 2]]])
def test_rows_of_targets_that_do_not_fit_are_refused(targets: list[object]) -> None:
    with pytest.raises(AttributionError, match=r"targets must be 2 class indices|targets \[9\] do not exist"):
        attribute(built(Plain, 3), images(2, 4), torch.tensor(targets, dtype=torch.int64))


@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("threads", [1, 2])
def test_neither_neighbours_nor_chunks_nor_threads_change_a_map(batch_size: int, threads: int) -> None:
    network, pictures = built(Inverted, 6, torch.float32), images(3, 9, torch.float32)
    expected = attribute(network, pictures[1:2], torch.tensor([2]), engine="torch").map[0]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        mixed = attribute(network, pictures, torch.tensor([0, 2, 2]), batch_size=batch_size, engine="torch")
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(mixed.map[1], expected, atol=1e-5)


def test_a_growing_map_can_be_watched() -> None:
    network, pictures = built(Residual, 3), images(1, 4)
    seen: list[Attribution] = []
    final = attribute(network, pictures, torch.tensor([1]), watch=seen.append, batch_size=1)
    assert torch.equal(final.map, attribute(network, pictures, torch.tensor([1]), batch_size=1).map)
    assert len(seen) >= 4
    assert all(one.map.shape == final.map.shape and one.map.max() == 1 for one in seen)
    errors = [float((one.map - final.map).abs().mean()) for one in seen]
    assert errors[0] == max(errors) > 0
    assert errors[-1] == min(errors) < errors[0] / 2
    # Something to look at stands there at once: the network's own maps, before most of them are scored.
    assert np.corrcoef(seen[0].map.flatten(), final.map.flatten())[0, 1] > 0.4


def test_only_one_image_can_be_watched() -> None:
    with pytest.raises(AttributionError, match="watch follows one image, not 2"):
        attribute(built(Plain, 0), images(2, 0), torch.tensor([0, 1]), watch=lambda _: None)


_MEMORY = """
import resource, sys, torch
from inspection_models._torchvision import models
from inspection_models.attribution import attribute
from inspection_models.attribution.engines import TorchEngine

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.set_num_threads(1)
torch.manual_seed(0)
network = models.resnet50(weights=None).eval().requires_grad_(False)
image = torch.randn(1, 3, 1024, 1024)
network(image.clone().requires_grad_())[0, 1].backward()
one_pass = peak()
real, passes = TorchEngine.logits, [0]

def logits(engine, batch):
    # Every pass takes the same memory: a few are made for real, for the others noise answers.
    passes[0] += 1
    return real(engine, batch) if passes[0] <= 3 else torch.randn(len(batch), 1000)

TorchEngine.logits = logits
result = attribute(network, image, torch.tensor([1]), engine="torch")
print(int(result.masks_scored[0]), passes[0], peak() - one_pass)
"""


@pytest.mark.slow
def test_memory_stays_bounded_for_a_large_image_whatever_the_number_of_masks() -> None:
    """ResNet-50 at 1024 x 1024: less than 300 MB beyond what one forward and backward pass takes."""
    # The C library gives large blocks back at once: what it would keep of them is a matter of luck.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", _MEMORY]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900, env=environment)
    masks, passes, more = run.stdout.split()
    assert int(masks) > 1000 and int(passes) == int(masks)
    assert float(more) < 300
