"""Synthetic steel: exact masks, said to be synthetic, and a function of its seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inspection_models.data import load_dataset, write_synthetic_steel
from inspection_models.data.synthetic_steel import CLASSES, GOOD, NOTICE, make_steel

DEFECTS = [label for label in CLASSES if label != GOOD]


@pytest.mark.parametrize("label", DEFECTS)
def test_every_defect_is_there_local_and_under_its_mask(label: str) -> None:
    inside, outside = [], []
    for index in range(25):
        image = make_steel(label, 128, 11, index)
        share = image.mask.mean()
        assert 0.001 < share < 0.35
        grey = image.pixels.astype(float)
        # What the defect changes against its surroundings: rows are streaked, so a row is compared with its own median.
        deviation = np.abs(grey - np.median(grey, axis=1, keepdims=True))
        inside.append(deviation[image.mask].mean())
        outside.append(deviation[~image.mask].mean())
    assert np.mean(inside) > 1.5 * np.mean(outside)
    assert np.mean(np.array(inside) > np.array(outside)) >= 0.9


def test_good_has_no_mask_and_a_plain_surface() -> None:
    for index in range(10):
        image = make_steel(GOOD, 128, 11, index)
        assert not image.mask.any()
        assert image.pixels.shape == (128, 128)
        assert image.pixels.dtype == np.uint8
        assert 60 < image.pixels.mean() < 200


def test_an_image_depends_on_its_own_seed_class_and_index_only() -> None:
    image = make_steel("scratches", 96, 5, 3)
    np.testing.assert_array_equal(make_steel("scratches", 96, 5, 3).pixels, image.pixels)
    for other in (
        make_steel("scratches", 96, 5, 4),
        make_steel("scratches", 96, 6, 3),
        make_steel("patches", 96, 5, 3),
    ):
        assert (other.pixels != image.pixels).mean() > 0.5


def test_a_written_set_is_read_as_seven_classes_with_masks(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "steel"
    paths = write_synthetic_steel(target, per_class=3, size=64, seed=2, progress=lambda *step: seen.append(step))
    dataset = load_dataset(target)
    assert dataset.layout == "image-folder"
    assert dataset.classes == tuple(sorted(CLASSES))
    assert dataset.good_class == GOOD
    assert set(dataset.counts.values()) == {3}
    assert sorted(paths) == sorted(sample.path for sample in dataset.samples)
    assert seen == [(n, 21) for n in range(1, 22)]
    for sample in dataset.samples:
        index = int(sample.path.stem.rpartition("_")[2])
        made = make_steel(sample.label, 64, 2, index)
        with Image.open(sample.path) as image:
            assert image.mode == "L"
            assert image.text["Description"] == NOTICE
            np.testing.assert_array_equal(np.asarray(image), made.pixels)
        if sample.label == GOOD:
            assert sample.mask_path is None
        else:
            with Image.open(sample.mask_path) as mask:
                np.testing.assert_array_equal(np.asarray(mask) == 255, made.mask)
    readme = (target / "README.txt").read_text()
    assert "not a photograph" in readme
    assert "seed 2, 3 images a class, 64 x 64" in readme
    assert dataset.ignored == ("README.txt",)


def test_the_same_seed_gives_the_same_bytes_and_a_larger_set_begins_alike(tmp_path: Path) -> None:
    for name, count in (("one", 2), ("two", 3)):
        write_synthetic_steel(tmp_path / name, per_class=count, size=64, seed=4)
    for path in (tmp_path / "one" / "images").rglob("*.png"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert twin.read_bytes() == path.read_bytes()


def test_impossible_sets_are_refused_and_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="not empty"):
        write_synthetic_steel(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ValueError, match="at least one"):
        write_synthetic_steel(tmp_path / "new", per_class=0)
    with pytest.raises(ValueError, match="at least 64"):
        write_synthetic_steel(tmp_path / "new", size=32)
    with pytest.raises(ValueError, match="no synthetic class 'rust'"):
        make_steel("rust", 64, 0, 0)
