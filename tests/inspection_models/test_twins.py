"""Twins: copies of a photograph are found whatever was done to them, and other photographs are not."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inspection_models.data import load_dataset, split_dataset, twins
from inspection_models.data.twins import twin_pairs, twins_of
from inspection_models.images import glance
from tests.inspection_models.data_files import image_folder, real_data

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 64


def surface(seed: int, size: int = 192) -> np.ndarray:
    """A rough surface under uneven light, grey from 0 to 255."""
    rng = np.random.default_rng(seed)
    grain = sum(
        cv2.resize(rng.normal(0, 1, (size // step, size // step)).astype(np.float32), (size, size))
        for step in (2, 6, 24)
    )
    rows, columns = np.indices((size, size)) / size
    light = 30 * np.cos(3 * rows + rng.uniform(0, 6)) + 30 * columns * rng.uniform(-1, 1)
    return np.clip(128 + 14 * np.asarray(grain) + light, 0, 255)


def part(seed: int) -> np.ndarray:
    """A turned part of one kind, always in the same place: its edges agree, its grain is its own."""
    rows, columns = np.indices((192, 192))
    radius = np.hypot(rows - 96, columns - 96)
    picture = np.full((192, 192), 30.0)
    for limit, grey in ((80, 120), (70, 60), (45, 180)):
        picture[radius < limit] = grey
    return np.clip(picture + 0.4 * (surface(seed) - 128), 0, 255)


def thumbnail(pixels: np.ndarray, file_format: str = "PNG", **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(buffer, file_format, **options)
    return glance(buffer.getvalue(), side=SIDE).thumbnail


STRANGERS = [thumbnail(surface(seed)) for seed in range(60)]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 59),
    st.floats(0.75, 1.6),
    st.floats(0.6, 1.3),
    st.floats(-30, 30),
    st.integers(60, 95),
)
def test_a_copy_is_found_though_scaled_compressed_and_brighter(
    seed: int, scale: float, contrast: float, brightness: float, quality: int
) -> None:
    copy = cv2.resize(surface(seed), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    copy = 128 + contrast * (copy - 128) + brightness
    thumbnails = np.stack([*STRANGERS, thumbnail(copy, "JPEG", quality=quality)])
    assert twin_pairs(thumbnails) == [(seed, 60)]


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.integers(1000, 10**6))
def test_different_surfaces_are_no_twins(first: int) -> None:
    assert twin_pairs(np.stack([thumbnail(surface(first + number)) for number in range(30)])) == []


def test_parts_of_one_kind_are_no_twins_but_their_copies_are() -> None:
    pictures = [part(seed) for seed in range(80)]
    copies = [thumbnail(0.7 * picture + 20, "JPEG", quality=70) for picture in pictures[:10]]
    pairs = twin_pairs(np.stack([thumbnail(picture) for picture in pictures] + copies))
    assert pairs == [(number, 80 + number) for number in range(10)]


@pytest.mark.parametrize("count", [2, 30])
def test_pictures_that_show_nothing_are_no_twins(count: int) -> None:
    assert twin_pairs(np.full((count, SIDE, SIDE), 17, np.uint8)) == []


def test_of_few_pictures_only_the_nearest_are_twins() -> None:
    assert twin_pairs(np.stack([thumbnail(part(seed)) for seed in range(3)] + [thumbnail(part(0) * 0.8)])) == [(0, 3)]


def test_all_pairs_of_a_family_are_found_across_blocks() -> None:
    """More pictures than are compared at a time."""
    many = [thumbnail(surface(seed, 64)) for seed in range(600)]
    again = [cv2.GaussianBlur(many[seed], (0, 0), 0.4) for seed in (0, 255, 256, 599)]
    pairs = twin_pairs(np.stack(many + again))
    assert pairs == [(0, 600), (255, 601), (256, 602), (599, 603)]


def twin_folder(root: Path) -> Path:
    """Forty surfaces in two classes, each with a darker copy."""
    for number in range(40):
        label = "good" if number % 2 else "pit"
        for index, share in enumerate((1.0, 0.7)):
            pixels = np.rint(surface(number) * share).astype(np.uint8)
            path = root / label / f"{number:02d}-{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def test_twins_never_lie_on_both_sides_of_a_split(tmp_path: Path) -> None:
    dataset = load_dataset(twin_folder(tmp_path))
    assert [[path.name for path in family] for family in dataset.twins] == sorted(
        ([f"{number:02d}-0.png", f"{number:02d}-1.png"] for number in range(40)),
        key=lambda names: (int(names[0][:2]) % 2 == 0, names),
    )
    assert set(Counter(sample.group for sample in dataset.samples).values()) == {2}
    split = split_dataset(dataset, seed=3)
    for one in (split.train, split.validation, split.test):
        assert set(Counter(sample.path.name[:2] for sample in one).values()) == {2}


def test_twins_of_different_classes_are_told_of(tmp_path: Path) -> None:
    twin_folder(tmp_path)
    (tmp_path / "pit" / "00-1.png").rename(tmp_path / "good" / "00-1.png")
    notes = " ".join(load_dataset(tmp_path).notes)
    assert "1 families of twins carry different labels, for example 00-1.png (good) and 00-0.png (pit)" in notes


@pytest.mark.slow
def test_a_long_series_of_one_surface_is_one_family() -> None:
    rng = np.random.default_rng(0)
    series = [thumbnail(surface(7) * rng.uniform(0.7, 1) + rng.normal(0, 2, (192, 192))) for _ in range(30)]
    others = [thumbnail(surface(100 + number, 96)) for number in range(400)]
    pairs = twin_pairs(np.stack(series + others))
    assert {index for pair in pairs for index in pair} == set(range(30))


def recompressed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return thumbnail(pixels, "JPEG", quality=int(rng.integers(60, 95)))


def noisy(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return thumbnail(pixels + rng.normal(0, 3, pixels.shape))


def families(thumbnails: list[np.ndarray]) -> list[list[int]]:
    return twins._connected(len(thumbnails), twin_pairs(np.stack(thumbnails)))


@pytest.mark.slow
@pytest.mark.parametrize("copy", [recompressed, noisy])
@pytest.mark.parametrize(
    ("series", "length", "others"), [(1, 30, 70), (1, 20, 60), (5, 20, 0), (2, 8, 34), (1, 60, 40)]
)
def test_series_that_are_much_of_a_set_are_found_whole(
    copy: Callable[[np.ndarray, np.random.Generator], np.ndarray], series: int, length: int, others: int
) -> None:
    rng = np.random.default_rng(0)
    pictures = [copy(surface(5000 + number), rng) for number in range(series) for _ in range(length)]
    pictures += [thumbnail(surface(9000 + number)) for number in range(others)]
    assert families(pictures) == [list(range(at, at + length)) for at in range(0, series * length, length)]


def test_parts_of_several_kinds_are_no_twins_but_their_copies_are() -> None:
    rng = np.random.default_rng(0)
    kinds = [surface(number) for number in range(6)]
    pictures = [thumbnail(kind + rng.normal(0, 16, kind.shape)) for kind in kinds for _ in range(25)]
    assert families(pictures) == []
    part_of_one = kinds[0] + rng.normal(0, 16, kinds[0].shape)
    copies = [recompressed(part_of_one, rng), recompressed(0.8 * part_of_one, rng)]
    assert families(pictures + copies) == [[150, 151]]


def test_copies_of_a_smooth_picture_are_twins_and_others_as_smooth_are_not() -> None:
    rows, columns = np.indices((192, 192)) / 192
    smooth = [120 + 40 * np.cos(4 * rows + turn) * np.sin(2 * columns + turn) for turn in range(6)]
    plain = [np.full((192, 192), 90.0), np.full((192, 192), 91.0)]
    copies = [thumbnail(smooth[0] - 9, "JPEG", quality=80), thumbnail(smooth[3], "JPEG", quality=60)]
    assert families([thumbnail(pixels) for pixels in smooth + plain] + copies) == [[0, 8], [3, 9]]


def test_of_a_family_too_large_the_nearly_identical_stay_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin_folder(tmp_path)
    monkeypatch.setattr(twins, "twin_pairs", lambda _thumbnails: [(number, number + 1) for number in range(60)])
    dataset = load_dataset(tmp_path)
    assert [len(family) for family in dataset.twins] == [2] * 30
    assert any("only the 60 that are nearly identical are grouped" in note for note in dataset.notes)


def test_a_series_that_is_more_than_half_of_a_set_never_lies_on_both_sides(tmp_path: Path) -> None:
    """Copies to the bit stay together at last, whatever they show and however many they are."""
    image_folder(tmp_path, {"good": 20, "pit": 12})
    for number in range(25):
        shutil.copy(tmp_path / "good" / "000.png", tmp_path / "good" / f"again{number}.png")
        Image.open(tmp_path / "pit" / "000.png").save(tmp_path / "pit" / f"again{number}.tif")
    dataset = load_dataset(tmp_path)
    assert sorted(len(family) for family in dataset.twins) == [26, 26]


def test_a_family_too_large_for_twins_is_left_alone_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path, {"good": 40, "pit": 40})
    chain = [(number, number + 1) for number in range(30)]
    monkeypatch.setattr(twins, "twin_pairs", lambda _thumbnails: [*chain, (60, 61)])
    dataset = load_dataset(tmp_path)
    assert [len(family) for family in dataset.twins] == [2]
    assert len({sample.group for sample in dataset.samples}) == 79
    assert any("31 images, 000.png first, look so much alike" in note for note in dataset.notes)


@pytest.mark.slow
def test_exposures_of_real_tiles_are_found_and_strangers_are_not() -> None:
    """The number in a name tells tiles apart: exposures of one are close in number."""
    dataset = load_dataset(real_data("magnetic-tile"))
    number = {path: int(path.stem.rpartition("_")[2]) for family in dataset.twins for path in family}
    spans = [max(number[path] for path in family) - min(number[path] for path in family) for family in dataset.twins]
    assert sum(map(len, dataset.twins)) == 387
    # The others show one tile, photographed again later.
    assert sum(span <= 200 for span in spans) == 129


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(0, 59), max_size=8), st.floats(0.75, 1.2))
def test_near_duplicates_of_what_is_held_are_told_from_all_others(copied: set[int], brightness: float) -> None:
    held = [thumbnail(surface(seed) * brightness, "JPEG", quality=90) for seed in sorted(copied)]
    stacked = np.stack(held) if held else np.zeros((0, SIDE, SIDE), np.uint8)
    found = twins_of(stacked, np.stack(STRANGERS))
    assert set(np.flatnonzero(found)) == copied
