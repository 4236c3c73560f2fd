"""Tiles to train on say what the marks say, and whether to tile is chosen from the sizes of the defects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inspection_models import DefectClassifier
from inspection_models.data import Split, load_dataset
from inspection_models.data.dataset import Box, RunLengths, Sample
from inspection_models.data.markings import mask_runs, runs_mask, truth_of
from inspection_models.images import ImageError, read_image
from inspection_models.preprocessing import Preprocessing
from inspection_models.tile_decisions import merge_logits
from inspection_models.tiling import Tiling
from inspection_models.training import TrainingError, TrainingEvent, TrainingRequest, train
from inspection_models.training import tiles as tiles_module
from inspection_models.training.tile_choice import SEEN, DefectSizes, choose_tiling, defect_sizes, marked_areas
from inspection_models.training.tiled_training import fit_growth, learning_parts, with_good_class
from inspection_models.training.tiles import TileCutter, tile_counts

NETWORK = Preprocessing("letterbox", (64, 64), (0.0,) * 3, (255.0,) * 3)
TILING = Tiling((64, 64), 16)


def sizes(sides: list[float], image: tuple[int, int] = (3000, 4000), unmarked: int = 0) -> DefectSizes:
    values = np.array(sides, np.float64)
    return DefectSizes(values, values * 1.5, np.array([image] * len(sides)).reshape(-1, 2), unmarked)


def usual(size: int = 224) -> Preprocessing:
    return Preprocessing("letterbox", (size, size), (0.0,) * 3, (1.0,) * 3)


def test_small_defects_in_large_photographs_call_for_tiles() -> None:
    found = choose_tiling(sizes([20.0] * 30), usual())
    assert found.tiling is not None
    side = found.tiling.size[0]
    assert found.tiling.size == (side, side) and 20 * 224 / side == pytest.approx(SEEN, rel=0.02)
    assert found.tiling.overlap >= 2 * 30
    assert not found.tiling.overview
    assert found.figures["gain"] > 10 and "100% of the defects" in found.reason
    json.dumps(found.to_dict())


@pytest.mark.parametrize(
    ("given", "image", "reason"),
    [
        ([300.0] * 30, (3000, 4000), "0% of the defects"),
        ([20.0] * 7 + [300.0] * 23, (3000, 4000), "23% of the defects"),
        ([8.0] * 30, (260, 360), "only 1.6 times larger"),
        ([], (1, 1), "no defect is marked"),
    ],
)
def test_images_are_looked_at_whole_where_tiles_would_gain_little(
    given: list[float], image: tuple[int, int], reason: str
) -> None:
    found = choose_tiling(sizes(given, image), usual())
    assert found.tiling is None and reason in found.reason


def test_tiles_are_chosen_for_the_smallest_defects_but_one_tenth() -> None:
    found = choose_tiling(sizes([4.0] * 2 + [24.0] * 28), usual())
    assert found.tiling is not None
    assert 24 * 224 / found.tiling.size[0] == pytest.approx(SEEN, rel=0.02)


def test_tiles_are_never_finer_than_the_photograph_nor_too_many() -> None:
    found = choose_tiling(sizes([5.0] * 30), usual())
    assert found.tiling is not None and found.tiling.size == (224, 224)
    found = choose_tiling(sizes([5.0] * 30, (10_000, 10_000)), usual())
    assert found.tiling is not None and len(found.tiling.views((10_000, 10_000))) <= 409


def test_defects_larger_than_a_tile_call_for_the_overview() -> None:
    many = [20.0] * 27 + [1500.0] * 3
    found = choose_tiling(sizes(many), usual())
    assert found.tiling is not None and found.tiling.overview


def test_tiles_can_be_asked_for_and_refused() -> None:
    assert choose_tiling(sizes([20.0] * 30), usual(), "off").tiling is None
    found = choose_tiling(sizes([300.0] * 30), usual(), 512)
    assert found.tiling is not None and found.tiling.size == (512, 512)
    wide = Preprocessing("resize", (128, 256), (0.0,) * 3, (1.0,) * 3)
    found = choose_tiling(sizes([300.0] * 30), wide, 512)
    assert found.tiling is not None and found.tiling.size == (256, 512)
    with pytest.raises(TrainingError, match="no defect is marked"):
        choose_tiling(sizes([]), usual(), 512)
    partly = replace(sizes([20.0] * 30), unmarked_classes=("stain",))
    assert (
        choose_tiling(partly, usual()).reason == "images are looked at whole: no defect of the class 'stain' is marked"
    )
    with pytest.raises(TrainingError, match="'stain' is marked"):
        choose_tiling(partly, usual(), 512)


def strip(
    folder: Path, label: str, index: int, *marks: tuple[int, int, int, int], size: tuple[int, int] = (300, 400)
) -> Sample:
    """A noisy picture with dark rectangles (x, y, width, height), marked as boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(index).integers(120, 140, (*size, 3), np.uint8)
    for x, y, width, height in marks:
        pixels[y : y + height, x : x + width] = 20
    path = folder / f"{label}_{index}.png"
    Image.fromarray(pixels).save(path)
    return Sample(path, label, path.stem, str(index), boxes=tuple(Box(label, *mark) for mark in marks))


def cut(samples: list[Sample], folder: Path, tiling: Tiling = TILING, seed: int = 0) -> tuple[Sample, ...]:
    return TileCutter(tiling, NETWORK, "good", folder).cut(samples, seed, share=0.06)


def test_every_tile_shows_what_its_label_says(tmp_path: Path) -> None:
    samples = [
        strip(tmp_path / "in", "dent", 0, (100, 150, 14, 12)),
        strip(tmp_path / "in", "dent", 1, (5, 3, 20, 9), (300, 200, 10, 10)),
        strip(tmp_path / "in", "good", 2),
    ]
    tiles = cut(samples, tmp_path / "out")
    assert tile_counts(tiles, ["dent", "good"])["dent"] >= 3 * 10
    for tile in tiles:
        pixels = read_image(tile.path).pixels
        assert pixels.shape == (64, 64, 3)
        dark = (pixels.max(axis=2) < 60).sum()
        if tile.label == "good":
            assert dark == 0 and not tile.runs
        else:
            # Half of the smallest rectangle, or as much as is sure to be seen.
            assert dark >= 0.45 * 90
            marked = truth_of(tile, (64, 64))
            assert np.array_equal(marked, pixels.max(axis=2) < 60)
    groups = {tile.group for tile in tiles}
    assert groups == {sample.group for sample in samples}


def test_tiles_with_a_sliver_of_a_defect_are_left_out(tmp_path: Path) -> None:
    """A defect as long as the picture's side can only be cut; its ends alone are neither good nor defective."""
    sample = strip(tmp_path / "in", "dent", 0, (60, 100, 8, 8), size=(200, 128))
    good = strip(tmp_path / "in", "good", 1, size=(200, 128))
    for tile in cut([sample, good], tmp_path / "out"):
        dark = (read_image(tile.path).pixels.max(axis=2) < 60).sum()
        assert dark == 0 or dark >= 32


def test_defects_lie_anywhere_in_their_tiles(tmp_path: Path) -> None:
    sample = strip(tmp_path / "in", "dent", 0, (200, 150, 10, 10))
    good = strip(tmp_path / "in", "good", 1)
    places = []
    for tile in cut([sample, good], tmp_path / "out"):
        rows, columns = np.nonzero(read_image(tile.path).pixels.max(axis=2) < 60)
        if len(rows):
            places.append((rows.mean(), columns.mean()))
    spread = np.array(places)
    assert len(spread) == 16 and (spread.max(axis=0) - spread.min(axis=0) > 25).all()


def test_the_same_seed_cuts_the_same_tiles_and_another_one_others(tmp_path: Path) -> None:
    samples = [strip(tmp_path / "in", "dent", 0, (200, 150, 10, 10)), strip(tmp_path / "in", "good", 1)]
    found = [
        [tile.sha256 for tile in cut(samples, tmp_path / f"out{number}", seed=seed)]
        for number, seed in enumerate((3, 3, 4))
    ]
    assert found[0] == found[1] != found[2]


@pytest.mark.slow
def test_good_tiles_are_taken_where_the_picture_is_least_even(tmp_path: Path) -> None:
    """Dust that is no defect is among them."""
    samples = [
        strip(tmp_path / "in", "dent", 0, (200, 150, 10, 10)),
        strip(tmp_path / "in", "good", 1, size=(2000, 2000)),
    ]
    pixels = read_image(samples[1].path).pixels.copy()
    pixels[1200:1203, 700:703] = 255
    Image.fromarray(pixels).save(samples[1].path)
    tiles = cut(samples, tmp_path / "out")
    assert any((read_image(tile.path).pixels.min(axis=2) > 200).any() for tile in tiles if tile.label == "good")


def test_unmarked_defects_give_no_tiles_and_a_set_without_good_images_has_good_tiles(tmp_path: Path) -> None:
    marked = strip(tmp_path / "in", "dent", 0, (200, 150, 10, 10))
    unmarked = replace(strip(tmp_path / "in", "dent", 1, (20, 50, 10, 10)), boxes=())
    tiles = cut([marked, unmarked], tmp_path / "out")
    assert {tile.group for tile in tiles} == {"dent_0"}
    assert {tile.label for tile in tiles} == {"dent", "good"}
    with pytest.raises(TrainingError, match="mark more defects"):
        cut([unmarked], tmp_path / "none")


def test_tiles_of_several_classes_carry_each_ones_marks(tmp_path: Path) -> None:
    sample = strip(tmp_path / "in", "dent", 0, (200, 150, 12, 12))
    stain = np.zeros((300, 400), np.bool_)
    stain[160:174, 190:199] = True
    both = replace(sample, also=("stain",), runs=(RunLengths("stain", (300, 400), mask_runs(stain)),))
    tiles = cut([both, strip(tmp_path / "in", "good", 1)], tmp_path / "out")
    together = [tile for tile in tiles if tile.labels == ("dent", "stain")]
    assert together
    for tile in together:
        assert [area.label for area in tile.runs] == ["dent", "stain"]
        assert all(runs_mask(area.counts, area.size).any() for area in tile.runs)


def test_the_overview_is_a_tile_where_its_defect_is_large_enough(tmp_path: Path) -> None:
    tiling = replace(TILING, overview=True)
    small = strip(tmp_path / "in", "dent", 0, (200, 150, 10, 10))
    large = strip(tmp_path / "in", "dent", 1, (50, 50, 250, 150))
    good = strip(tmp_path / "in", "good", 2)
    last = {}
    for tile in cut([small, large, good], tmp_path / "out", tiling):
        last[tile.group] = tile
    assert last["dent_1"].label == "dent" and last["good_2"].label == "good"
    whole = read_image(last["dent_1"].path).pixels
    # Letterboxed: the picture is wider than high, and the padding has the mean's colour, here black.
    assert whole[:8].max() == 0 and (whole[20:30, 20:30].max(axis=2) < 40).all()
    assert len(last) == 3


def test_sizes_are_those_of_the_largest_mark(tmp_path: Path) -> None:
    samples = [
        strip(tmp_path / "in", "dent", 0, (10, 10, 9, 4), (100, 100, 16, 9)),
        replace(strip(tmp_path / "in", "dent", 1), boxes=()),
        strip(tmp_path / "in", "good", 2),
    ]
    found = defect_sizes(samples, "good", NETWORK)
    assert found.sides.tolist() == [12.0] and found.extents.tolist() == [16.0]
    assert found.image_sizes.tolist() == [[300, 400]] and found.unmarked == 1


def test_marks_that_a_plain_resize_would_merge_are_one_defect() -> None:
    """400 pixels on 64: less than six or seven apart."""
    truth = np.zeros((300, 400), np.bool_)
    for row in range(3):
        for column in range(3):
            truth[100 + 5 * row : 102 + 5 * row, 200 + 5 * column : 202 + 5 * column] = True
    truth[250:260, 10:30] = True
    found = marked_areas(truth, NETWORK)
    assert sorted(zip(found.pixels.tolist(), found.boxes.tolist(), strict=True)) == [
        (36, [200, 100, 12, 12]),
        (200, [10, 250, 20, 10]),
    ]
    assert np.array_equal(found.numbers > 0, truth)
    nothing = marked_areas(np.zeros((30, 40), np.bool_), NETWORK)
    assert (len(nothing.pixels), len(nothing.boxes), nothing.numbers.max()) == (0, 0, 0)


def test_sizes_are_of_the_image_as_it_is_shown(tmp_path: Path) -> None:
    sample = strip(tmp_path / "in", "dent", 0, (10, 10, 20, 5))
    image = Image.open(sample.path)
    exif = image.getexif()
    exif[0x0112] = 6
    turned = sample.path.with_suffix(".jpg")
    image.save(turned, exif=exif)
    assert defect_sizes([replace(sample, path=turned)], "good", NETWORK).image_sizes.tolist() == [[400, 300]]


def margins(worst: np.ndarray, tiles: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Tile logits of images whose worst margin of a defect over good is given."""
    found = []
    for value in worst:
        logits = np.zeros((tiles, 3), np.float32)
        logits[:, 1:] = rng.uniform(-9, -3, (tiles, 2)) + min(value, 0)
        logits[rng.integers(tiles), 1 + rng.integers(2)] = value
        found.append(logits + rng.normal(0, 5, (tiles, 1)).astype(np.float32))
    return found


@pytest.mark.parametrize("tiles", [20, 200])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_growth_puts_the_line_between_good_and_defective_images_at_zero(tiles: int, activation: str) -> None:
    rng = np.random.default_rng(0)
    worst = np.concatenate([rng.normal(1.5, 0.5, 60), rng.normal(5.5, 0.5, 60)])
    defective = np.arange(120) >= 60
    seen = margins(worst, tiles, rng)
    if activation == "sigmoid":
        # There the good class speaks for itself: no margin, its smallest logit counts.
        seen = [np.stack([-np.minimum(value, 99) * np.ones(tiles)] * 3, axis=1).astype(np.float32) for value in worst]
    growth = fit_growth(seen, defective, 0, activation)
    assert growth * np.log(tiles) == pytest.approx(3.5, abs=0.6)
    merged = np.array([merge_logits(logits, 0, activation, growth) for logits in seen])
    decided = (merged[:, 1:].max(axis=1) > merged[:, 0]) if activation == "softmax" else merged[:, 0] < 0
    assert np.array_equal(decided, defective)


def test_growth_stays_finite_where_nothing_can_be_fitted() -> None:
    rng = np.random.default_rng(0)
    seen = margins(np.array([1.0, 5.0, 5.0]), 10, rng)
    assert fit_growth(seen, np.array([True, True, True]), 0, "softmax") == 0.0
    assert fit_growth([logits[:1] for logits in seen], np.array([False, True, True]), 0, "softmax") == 0.0
    assert fit_growth(seen, np.array([True, False, False]), 0, "softmax") == 0.0
    tiny = fit_growth(seen[:2], np.array([False, True]), 0, "softmax")
    assert 1.0 <= tiny * np.log(10) <= 5.0


def test_a_good_class_is_added_where_every_class_is_a_defect(tmp_path: Path) -> None:
    for label in ("dent", "good"):
        for index in range(3):
            strip(tmp_path / label, label, index + 10 * (label == "good"))
    dataset = load_dataset(tmp_path)
    assert with_good_class(dataset) is dataset
    none = replace(dataset, good_class=None)
    assert with_good_class(none).good_class == "good_"
    assert with_good_class(none).classes == ("dent", "good", "good_")


@pytest.mark.slow
def test_tiles_of_both_parts_are_gone_afterwards(tmp_path: Path) -> None:
    train = [strip(tmp_path / "in", "dent", 0, (200, 150, 10, 10)), strip(tmp_path / "in", "good", 1)]
    validation = [strip(tmp_path / "in", "dent", 2, (20, 150, 10, 10)), strip(tmp_path / "in", "good", 3)]
    told = []
    split = Split(tuple(train), tuple(validation), ())
    with learning_parts(split, None, NETWORK, "good", 0) as parts:
        assert (parts.train, parts.validation) == (split.train, split.validation)
    with learning_parts(split, TILING, NETWORK, "good", 0, lambda *done: told.append(done)) as parts:
        assert {tile.group for tile in parts.train} == {"dent_0", "good_1"}
        assert {tile.group for tile in parts.validation} == {"dent_2", "good_3"}
        assert parts.train[0].path.is_file()
    assert not parts.train[0].path.exists()
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def spotted(root: Path) -> Path:
    """Pictures of 400 x 500 pixels with a dark or a bright spot of 12 pixels, or none; masks beside them."""
    for label, level in (("dark", 10), ("bright", 250), ("good", None)):
        for index in range(20):
            rng = np.random.default_rng([index, len(label)])
            pixels = rng.integers(110, 150, (400, 500, 3), np.uint8)
            if level is not None:
                y, x = int(rng.integers(0, 388)), int(rng.integers(0, 488))
                pixels[y : y + 12, x : x + 12] = level
                mask = np.zeros((400, 500), np.uint8)
                mask[y : y + 12, x : x + 12] = 255
                (root / "masks" / label).mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / "masks" / label / f"{index}.png")
            (root / "images" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / "images" / label / f"{index}.png")
    return root


@pytest.mark.slow
def test_a_training_chooses_tiles_and_finds_what_a_plain_resize_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr(tiles_module, "DEFECT_TILES", 120)
    monkeypatch.setattr(tiles_module, "GOOD_TILES", 240)
    data = spotted(tmp_path / "spots")
    request = TrainingRequest(
        data=data, output=tmp_path / "model", architecture="efficientnet-lite0", size=(64, 64), epochs=2, test=0.3
    )
    events: list[TrainingEvent] = []
    report = train(request, events.append)
    assert report.tiling.tiling is not None and report.tiling.tiling.size == (64, 64)
    assert {"sizes", "tiles", "merge"} <= {event.phase for event in events}
    loaded = DefectClassifier.load(tmp_path / "model")
    assert loaded.card.tiling == report.tiling.tiling and loaded.card.tiling.growth != 0.0
    stated = loaded.card.training["tiling"]
    assert stated["figures"]["share_below_seen_whole"] == 1.0 and "resized whole, 100%" in stated["reason"]
    assert set(stated["figures"]["tiles_learned_from"]) == {"bright", "dark", "good"}
    assert report.test.balanced_accuracy >= 0.8
    again = train(replace(request, output=tmp_path / "again", name="model"))
    assert again.classifier.card.weights_sha256 == loaded.card.weights_sha256
    assert again.classifier.card.tiling == loaded.card.tiling


@pytest.mark.parametrize("asked", ["on", 32, -1])
def test_a_tiling_that_cannot_be_is_refused_at_once(asked: object, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="it must be 'auto', 'off' or a number of pixels from 64"):
        TrainingRequest(data=tmp_path, output=tmp_path / "m", tiling=asked)  # type: ignore[arg-type]


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    sample = strip(tmp_path / "in", "dent", 0, (10, 10, 20, 5))
    sample.path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"dent_0\.png: the image is damaged"):
        defect_sizes([sample], "good", NETWORK)
