"""ResNet-18 learns Lite0's feature maps from training photographs alone, and trainings begin with what it learned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from benchmarks import explanation_quality
from benchmarks.explanation_quality import CASES, Case, trained_model
from benchmarks.imitated_weights import NETWORK, Imitation, crop_of, imitate
from inspection_models.data import load_dataset, split_dataset, write_synthetic_steel
from inspection_models.data.synthetic_steel import make_steel
from inspection_models.images import read_image
from inspection_models.networks import build_network

if TYPE_CHECKING:
    from pathlib import Path

    from inspection_models.training import TrainingRequest

    Photograph = np.ndarray[Any, np.dtype[np.uint8]]

RECIPE = Imitation((("inclusions", 0.5), ("scratches", 0.5)), views=8 * 24, side=64, batch_size=8)
BRIEF = replace(RECIPE, views=8)


@pytest.fixture(scope="module")
def photographs() -> list[list[Photograph]]:
    return [
        [np.repeat(make_steel(label, 96, seed=1, index=n).pixels[:, :, None], 3, axis=2) for n in range(3)]
        for label in ("inclusion", "scratches")
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_it_learns_at_every_resolution(tmp_path: Path, photographs: list[list[Photograph]]) -> None:
    told: list[tuple[int, int, tuple[float, ...]]] = []
    imitate(RECIPE, photographs, tmp_path / "weights.safetensors", lambda *step: told.append(step))
    assert [step[:2] for step in told] == [(n, 24) for n in range(1, 25)]
    errors = np.array([step[2] for step in told])
    assert errors.shape == (24, 4)
    assert (errors[-6:].mean(axis=0) < errors[:6].mean(axis=0)).all()
    # The error falls with the layers that read the maps alone, too; these are ones where nothing was learned.
    learned = load_file(tmp_path / "weights.safetensors")
    for name in ("bn1.weight", *(f"layer{n}.1.bn2.weight" for n in range(1, 5))):
        assert float((learned[name] - 1).abs().max()) > 1e-3, name


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_same_recipe_gives_the_same_bits_and_they_fit(tmp_path: Path, photographs: list[list[Photograph]]) -> None:
    random_before = torch.random.get_rng_state()
    weights = []
    for name, recipe in (("a", BRIEF), ("b", BRIEF), ("c", replace(BRIEF, seed=1))):
        imitate(recipe, photographs, tmp_path / f"{name}.safetensors")
        weights.append(load_file(tmp_path / f"{name}.safetensors"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors", "c.safetensors"]
    assert torch.equal(torch.random.get_rng_state(), random_before)
    first, again, other = weights
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])

    network = build_network(NETWORK, classes=4, weights=tmp_path / "a.safetensors").eval()
    assert torch.equal(network.state_dict()["layer3.0.conv1.weight"], first["layer3.0.conv1.weight"])
    with torch.no_grad():
        assert bool(torch.isfinite(network(torch.rand(1, 3, 64, 64))).all())


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path, photographs: list[list[Photograph]]) -> None:
    with pytest.raises(ValueError, match="photographs of 1 sources, not of 2"):
        imitate(BRIEF, photographs[:1], tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="views is 7; a batch alone has 8"):
        imitate(replace(BRIEF, views=7), photographs, tmp_path / "weights.safetensors")


@given(height=st.integers(1, 400), width=st.integers(1, 400), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_a_crop_of_any_photograph_is_a_picture_of_the_size_asked_for(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    photograph = rng.integers(0, 256, (height, width, 3), np.uint8)
    crop = crop_of(photograph, 64, rng)
    assert crop.shape == (64, 64, 3) and crop.dtype == np.float32
    assert float(crop.min()) >= 0 and float(crop.max()) <= 255


def test_crops_show_every_place_of_a_photograph_turned_every_way() -> None:
    """A ramp downwards in one channel and to the right in another tell where a crop is from and how it was turned."""
    ramp = np.arange(200) * 1.25
    photograph = np.zeros((200, 200, 3), np.uint8)
    photograph[:, :, 0], photograph[:, :, 1] = ramp[:, None], ramp[None, :]
    rng = np.random.default_rng(0)
    crops = [crop_of(photograph, 64, rng) for _ in range(80)]
    for channel in (0, 1):
        down, right = np.array(
            [
                (c[-1, :, channel].mean() - c[0, :, channel].mean(), c[:, -1, channel].mean() - c[:, 0, channel].mean())
                for c in crops
            ]
        ).T
        for direction in (down, -down, right, -right):
            assert (direction > 5).sum() > 5
        assert ((np.abs(down) > 5) ^ (np.abs(right) > 5)).all()
    # Exposure and contrast change both channels alike, so their difference tells the place on the way from the lower
    # left corner to the upper right one.
    places = [float((c[:, :, 0] - c[:, :, 1]).mean()) for c in crops]
    assert min(places) < -40 and max(places) > 40


def test_what_is_looked_at_are_data_sets_of_the_benchmark() -> None:
    names = {case.name for case in CASES}
    begun = [case.begins_with for case in CASES if case.begins_with is not None]
    assert len(begun) == 2
    for recipe in begun:
        assert {name for name, _ in recipe.sources} <= names
        assert sum(share for _, share in recipe.sources) == pytest.approx(1)


def test_a_training_begins_with_what_was_learned_once_from_training_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steel = tmp_path / "synthetic-steel"
    write_synthetic_steel(steel, per_class=8, size=64, seed=1)
    looked_at: list[list[Photograph]] = []
    requests: list[TrainingRequest] = []

    def note(_recipe: Imitation, photographs: list[list[Photograph]], path: Path, _progress: object) -> None:
        looked_at.extend(photographs)
        path.write_bytes(b"learned")

    class TrainedError(Exception):
        """Stands for the training, which is not what this is about."""

    def begin(request: TrainingRequest) -> None:
        requests.append(request)
        raise TrainedError

    monkeypatch.setattr(explanation_quality, "imitate", note)
    monkeypatch.setattr(explanation_quality, "train", begin)
    case = Case("synthetic-steel", NETWORK, 1, 1, begins_with=Imitation((("synthetic-steel", 1.0),), views=32))
    for one in (case, replace(case, begins_with=None), case):
        with pytest.raises(TrainedError):
            trained_model(one, 1, steel, tmp_path)
    first, without, again = requests
    assert first.weights is not None and first.weights.read_bytes() == b"learned"
    assert without.weights is None and again.weights == first.weights

    # As the training that begins with it will split the data set.
    assert first.split_seed is not None
    split = split_dataset(load_dataset(steel), validation=first.validation, test=first.test, seed=first.split_seed)
    expected = [read_image(sample.path).pixels for sample in split.train]
    assert len(looked_at) == 1 and len(looked_at[0]) == len(expected)
    assert all(np.array_equal(seen, one) for seen, one in zip(looked_at[0], expected, strict=True))
