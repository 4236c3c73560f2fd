"""Which images are measured, where truth comes to lie, and that a report says what the figures say by themselves."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from sklearn.metrics import average_precision_score

from inspection_models.attribution import METHODS, attribute
from inspection_models.classifier import DefectClassifier
from inspection_models.data import Box, DatasetError, Sample, load_dataset, split_dataset, truth_of
from inspection_models.images import read_image
from inspection_models.metrics import evaluation
from inspection_models.metrics.bootstrap import mean_interval
from inspection_models.metrics.cases import prepare_case, select_samples, truth_on_grid
from inspection_models.metrics.controls import CONTROLS
from inspection_models.metrics.errors import MetricError
from inspection_models.metrics.evaluation import EvaluationSettings, evaluate_explanations, method_names
from inspection_models.metrics.parts import choose_part
from inspection_models.metrics.report import METRICS
from inspection_models.preprocessing import Preprocessing
from inspection_models.tiling import Tile, Tiling
from tests.inspection_models.attribution_networks import INPUT_SIZE, Plain, built
from tests.inspection_models.data_files import image_folder

CLASSES = ("crack", "dent", "good", "stain")
LETTERBOX = Preprocessing(mode="letterbox", size=INPUT_SIZE, mean=(127.0,) * 3, std=(60.0,) * 3)


@pytest.fixture(scope="module")
def classifier() -> DefectClassifier:
    return DefectClassifier.assemble(
        built(Plain, 9, torch.float32),
        name="tiny",
        architecture="resnet18",
        classes=CLASSES,
        good_class="good",
        preprocessing=LETTERBOX,
    )


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def photograph(folder: Path, number: int, *, small: bool = False, size: tuple[int, int] = (50, 80)) -> Sample:
    """A noisy picture of its own brightness and tint, with a marked defect; its label is still to be chosen."""
    rng = np.random.default_rng(number)
    tint = rng.uniform(20, 235, 3)
    pixels = np.clip(tint + rng.normal(0, 40, (*size, 3)), 0, 255).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    top, left = rng.integers(0, size[0] - 22), rng.integers(0, size[1] - 22)
    side = 5 if small else 21
    mask[top : top + side, left : left + side] = 255
    pixels[mask > 0] = 255 - pixels[mask > 0]
    path = write(folder / f"{number:03d}.png", pixels)
    return Sample(path, "?", str(number), f"{number:064d}", mask_path=write(folder / "masks" / path.name, mask))


@pytest.fixture(scope="module")
def samples(classifier: DefectClassifier, tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """All labelled as the model decides, so that all defects are rightly decided."""
    folder = tmp_path_factory.mktemp("photographs")
    found = []
    for number in range(40):
        sample = photograph(folder, number, small=number % 3 == 0)
        found.append(replace(sample, label=classifier.predict([read_image(sample.path).pixels])[0].label))
    counts = Counter(sample.label for sample in found)
    assert len([label for label, n in counts.items() if label != "good" and n >= 4]) >= 2, counts
    return found


def defects(samples: list[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.label != "good"]


def test_images_are_left_out_for_a_reason_each(classifier: DefectClassifier, samples: list[Sample]) -> None:
    right = defects(samples)
    other = {"crack": "stain", "dent": "crack", "stain": "dent"}
    wrong = replace(right[0], label=other[right[0].label])
    unmarked = replace(right[1], mask_path=None)
    blank = write(right[2].path.parent / "blank.png", np.zeros((50, 80), np.uint8))
    emptied = replace(right[2], mask_path=blank)
    of_another = replace(right[3], mask_path=None, boxes=(Box(other[right[3].label], 1, 1, 5, 5),))
    boxed = replace(right[4], mask_path=None, boxes=(Box(right[4].label, 1, 1, 5, 5),))
    good = replace(right[5], label="good")
    given_samples = [wrong, unmarked, emptied, of_another, boxed, good, *right[6:]]
    found = select_samples(classifier, given_samples)
    assert list(found.samples) == [boxed, *right[6:]]
    assert found.left_out == {"good part": 1, "defect not marked": 3, "misclassified": 1}


def test_a_limit_draws_evenly_over_the_classes(classifier: DefectClassifier, samples: list[Sample]) -> None:
    right = defects(samples)
    available = Counter(sample.label for sample in right)
    limit = 2 * len(available)
    found = select_samples(classifier, samples, limit=limit, seed=1)
    counts = Counter(sample.label for sample in found.samples)
    assert len(found.samples) == limit
    assert all(counts[label] >= min(2, there) for label, there in available.items())
    assert list(found.samples) == [sample for sample in samples if sample in found.samples]
    assert found.left_out["over the limit"] == len(right) - limit
    assert found == select_samples(classifier, samples, limit=limit, seed=1)
    assert any(found != select_samples(classifier, samples, limit=limit, seed=seed) for seed in (2, 3, 4))
    assert len(select_samples(classifier, samples, limit=1000).samples) == len(right)


def test_choosing_tells_how_far_it_is(classifier: DefectClassifier, samples: list[Sample]) -> None:
    told: list[tuple[int, int]] = []
    select_samples(classifier, samples, progress=lambda done, total: told.append((done, total)))
    total = len(defects(samples))
    assert told == [(number, total) for number in range(1, total + 1)]


def test_nothing_to_measure_says_why(classifier: DefectClassifier, samples: list[Sample]) -> None:
    right = defects(samples)
    with pytest.raises(MetricError, match="has a mask or a box"):
        select_samples(classifier, [replace(sample, mask_path=None) for sample in right])
    with pytest.raises(MetricError, match="has a mask or a box"):
        select_samples(classifier, [replace(sample, label="good") for sample in right])
    shifted = {"crack": "stain", "dent": "crack", "stain": "dent"}
    with pytest.raises(MetricError, match=f"none of the {len(right)} images"):
        select_samples(classifier, [replace(sample, label=shifted[sample.label]) for sample in right])
    with pytest.raises(MetricError, match="class 'rust'"):
        select_samples(classifier, [replace(right[0], label="rust")])
    with pytest.raises(MetricError, match="limit"):
        select_samples(classifier, samples, limit=0)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.sampled_from(["letterbox", "resize"]),
    st.integers(0, 10_000),
)
def test_truth_goes_through_the_same_window_as_the_image(size: tuple[int, int], mode: str, seed: int) -> None:
    """A picture that is white on its defect and black elsewhere comes out white where the truth does."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(size, bool)
    top, left = rng.integers(size[0]), rng.integers(size[1])
    truth[top : top + rng.integers(1, size[0] + 1), left : left + rng.integers(1, size[1] + 1)] = True
    preprocessing = Preprocessing(mode=mode, size=(32, 40), mean=(0.0,) * 3, std=(1.0,) * 3)  # type: ignore[arg-type]
    white, _ = preprocessing.fit(np.repeat(truth[:, :, None], 3, axis=2).astype(np.uint8) * 255)
    found = truth_on_grid(truth, preprocessing)
    assert found.any()
    if white.max() >= 127.5:
        unsure = np.abs(white[..., 0] - 127.5) <= 1
        assert (found == (white[..., 0] >= 127.5))[~unsure].all()
    else:
        assert white[..., 0][found].min() >= white.max() - 1


def test_padding_is_never_defective_and_a_speck_is_not_lost() -> None:
    full = truth_on_grid(np.ones((50, 200), bool), LETTERBOX)
    placement = LETTERBOX.placement((50, 200))
    assert full.sum() == placement.content_size[0] * placement.content_size[1]
    speck = np.zeros((500, 500), bool)
    speck[203, 307] = True
    found = truth_on_grid(speck, LETTERBOX)
    assert found.sum() == 1
    [[row, column]] = np.argwhere(found)
    y, x = LETTERBOX.placement((500, 500)).points_to_network(np.array([307.5, 203.5]))[::-1]
    assert (row, column) == (int(y), int(x))
    assert not truth_on_grid(np.zeros((9, 9), bool), LETTERBOX).any()


def rng_noise(size: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 127, size)


def test_masks_of_every_kind_and_boxes_of_the_class_mark_the_defect(tmp_path: Path) -> None:
    truth = np.zeros((20, 30), bool)
    truth[3:7, 10:22] = True
    one = truth.astype(np.uint8)
    alpha = np.full((20, 30), 255, np.uint8)
    palette = Image.fromarray(one, mode="P")
    palette.putpalette([0, 0, 0, 90, 0, 0])
    soft = np.where(truth, 240, rng_noise(truth.shape)).astype(np.uint8)
    forms = {
        "soft": Image.fromarray(soft),
        "deep and soft": Image.fromarray(np.where(truth, 60_000, 900).astype(np.uint16)),
        "classes": Image.fromarray(np.where(truth, np.arange(30) % 3 + 1, 0).astype(np.uint8)),
        "grey": Image.fromarray(one),
        "bits": Image.fromarray(truth),
        "deep": Image.fromarray(one.astype(np.uint16)),
        "colour": Image.fromarray(np.stack([0 * one, one * 9, 0 * one], axis=2)),
        "alpha": Image.fromarray(np.stack([one, one, one, alpha], axis=2)),
        "palette": palette,
    }
    for name, image in forms.items():
        image.save(tmp_path / f"{name}.png")
        sample = Sample(tmp_path / "x.png", "crack", "", "", mask_path=tmp_path / f"{name}.png")
        assert (truth_of(sample, (20, 30)) == truth).all(), name
    boxes = (Box("crack", 10, 3, 12, 4), Box("stain", 0, 0, 30, 20))
    assert (truth_of(Sample(tmp_path / "x.png", "crack", "", "", boxes=boxes), (20, 30), "crack") == truth).all()
    with pytest.raises(DatasetError, match="30 x 20 pixels and its image"):
        truth_of(Sample(tmp_path / "x.png", "crack", "", "", mask_path=tmp_path / "grey.png"), (30, 20))
    (tmp_path / "torn.png").write_bytes((tmp_path / "grey.png").read_bytes()[:40])
    with pytest.raises(DatasetError, match=r"torn\.png: the mask cannot be read"):
        truth_of(Sample(tmp_path / "x.png", "crack", "", "", mask_path=tmp_path / "torn.png"), (20, 30))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("turned", ["image and mask", "image", "mask"])
def test_a_mask_is_turned_as_its_own_tag_says(
    classifier: DefectClassifier, tmp_path: Path, suffix: str, turned: str
) -> None:
    """Orientation 6: what is stored is shown turned by a quarter to the right."""
    shown = np.full((50, 80, 3), 40, np.uint8)
    truth = np.zeros((50, 80), np.uint8)
    shown[4:12, 60:76], truth[4:12, 60:76] = 220, 255
    tag = Image.Exif()
    tag[ExifTags.Base.Orientation] = 6
    for name, pixels in (("image", shown), ("mask", truth)):
        if name in turned:
            Image.fromarray(np.rot90(pixels).copy()).save(tmp_path / f"{name}.{suffix}", exif=tag)
        else:
            Image.fromarray(pixels).save(tmp_path / f"{name}.{suffix}")
    sample = Sample(tmp_path / f"image.{suffix}", "crack", "", "", mask_path=tmp_path / f"mask.{suffix}")
    assert (truth_of(sample, (50, 80)) == (truth > 0)).all()
    case = prepare_case(classifier, sample)
    assert case.inputs[:, case.truth].min() > 0 > case.inputs[:, ~case.truth].mean()


def test_any_damage_to_a_mask_is_told_of(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.png", rng_noise((20, 30)).astype(np.uint8))
    sound = path.read_bytes()
    length = sound.index(b"IDAT") - 4
    # Of a chunk that ends too early Pillow says SyntaxError.
    path.write_bytes(sound[:length] + (5).to_bytes(4, "big") + sound[length + 4 :])
    with pytest.raises(DatasetError, match=r"mask\.png: the mask cannot be read"):
        truth_of(Sample(tmp_path / "x.png", "crack", "", "", mask_path=path), (20, 30))


def test_a_mask_that_is_gone_is_told_as_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"mask\.png: the mask is missing; put it back, or leave its image out$"):
        truth_of(Sample(tmp_path / "x.png", "crack", "", "", mask_path=tmp_path / "mask.png"), (20, 30))


def test_a_mask_is_not_blamed_for_a_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_image: Image.Image) -> None:
        raise MemoryError

    path = write(tmp_path / "mask.png", np.ones((20, 30), np.uint8))
    monkeypatch.setattr(ImageOps, "exif_transpose", exhausted)
    with pytest.raises(MemoryError):
        truth_of(Sample(tmp_path / "x.png", "crack", "", "", mask_path=path), (20, 30))


def literal_figures(classifier: DefectClassifier, sample: Sample, attribution_map: np.ndarray) -> dict[str, float]:
    """AP and EBPG and Drop worked out anew, with the picture's own preprocessing."""
    case = prepare_case(classifier, sample)
    truth, values = case.truth.numpy(), attribution_map.astype(np.float64)
    count = round(0.15 * values.size)
    assert len(np.unique(values[values >= np.sort(values.ravel())[-count]])) > 1
    with torch.no_grad():
        whole = classifier.network(case.inputs[None]).double().softmax(dim=1)[0, case.target].item()
    return {
        "ap": average_precision_score(truth.ravel(), values.ravel()),
        "ebpg": values[truth].sum() / values.sum(),
        "confidence": whole,
    }


def test_a_report_holds_the_figures_of_every_method_and_image(
    classifier: DefectClassifier, samples: list[Sample]
) -> None:
    told: list[tuple[str, int, int]] = []
    state = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    report = evaluate_explanations(
        classifier,
        samples,
        EvaluationSettings(methods=("sise", "uniform", "local-contrast"), limit=5, steps=4),
        progress=lambda *event: told.append(event),
    )
    assert all(torch.equal(value, state[name]) for name, value in classifier.network.state_dict().items())
    by_name = {sample.path.name: sample for sample in samples}
    assert len(report.images) == 5
    assert told[-1] == ("explaining", 15, 15)
    for image in report.images:
        sample = by_name[image.file]
        assert (image.label, image.sha256) == (sample.label, sample.sha256)
        assert [one.method for one in image.maps] == ["sise", "uniform", "local-contrast"]
        case = prepare_case(classifier, sample)
        explained = attribute(classifier.network, case.inputs[None], torch.tensor([case.target]))
        expected = literal_figures(classifier, sample, explained.map[0].numpy())
        assert image.confidence == pytest.approx(expected["confidence"], abs=1e-6)
        assert image.maps[0].values["ap"] == pytest.approx(expected["ap"], abs=1e-6)
        assert image.maps[0].values["ebpg"] == pytest.approx(expected["ebpg"], abs=1e-6)
        assert image.maps[0].masks_scored == int(explained.masks_scored[0])
        # The uniform map is flat on the picture and zero on its padding, so it finds the defect's share of the picture.
        share = case.truth.sum().item() / np.prod(case.placement.content_size)
        assert image.maps[1].values["ap"] == pytest.approx(share)
        assert image.maps[1].values["pointing"] == pytest.approx(share)
        assert image.maps[1].masks_scored == 0
        for one in image.maps:
            assert set(one.values) == {metric.key for metric in METRICS}
            assert all(0 <= value <= 1 for key, value in one.values.items() if key != "seconds")
            assert one.values["seconds"] > 0


def test_rows_can_be_recomputed_from_the_report_of_the_images(
    classifier: DefectClassifier, samples: list[Sample]
) -> None:
    chosen = EvaluationSettings(methods=("local-contrast", "sise"), steps=2, seed=9)
    report = evaluate_explanations(classifier, defects(samples)[:9], chosen)
    stored = json.loads(json.dumps(report.to_dict()))
    assert stored == report.to_dict()
    assert report.baseline == "sise"
    ap = np.array([[one["values"]["ap"] for one in image["maps"]] for image in stored["images"]])
    control, sise = report.rows
    assert control.figures["ap"] == mean_interval(ap[:, 0], seed=9)
    assert control.differences is not None
    assert control.differences["ap"] == mean_interval(ap[:, 0] - ap[:, 1], seed=9)
    assert sise.differences is None
    small = [image["defect_share"] < 0.01 for image in stored["images"]]
    assert 0 < sum(small) < len(small)
    assert report.small[0].figures["ap"] == mean_interval(ap[small, 0], seed=9)
    assert stored["settings"]["options"]["sise"]["mu"] == 0


def test_without_the_papers_method_there_is_nothing_to_differ_from(
    classifier: DefectClassifier, samples: list[Sample]
) -> None:
    large = [sample for sample in defects(samples) if prepare_case(classifier, sample).defect_share >= 0.01][:2]
    report = evaluate_explanations(classifier, large, EvaluationSettings(methods=("uniform",), steps=1))
    assert report.baseline is None
    assert report.rows[0].differences is None
    assert report.small == ()


def test_every_method_and_control_there_is_takes_part(
    classifier: DefectClassifier, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "METHODS", {name: METHODS[name] for name in ("sise",)})
    assert method_names() == ("sise", *CONTROLS)
    monkeypatch.undo()
    assert method_names() == (*METHODS, *CONTROLS)
    report = evaluate_explanations(classifier, samples, EvaluationSettings(limit=1, steps=1))
    assert [row.method for row in report.rows] == [*METHODS, *CONTROLS]


def test_unknown_and_repeated_methods_are_refused() -> None:
    with pytest.raises(MetricError, match="no method 'magic'; there are quorum, sise"):
        EvaluationSettings(methods=("magic",))
    for names in ((), ("sise", "sise")):
        with pytest.raises(MetricError, match="once"):
            EvaluationSettings(methods=names)


def test_the_part_is_that_of_the_training(classifier: DefectClassifier, tmp_path: Path) -> None:
    dataset = load_dataset(image_folder(tmp_path, dict.fromkeys(CLASSES, 12)))
    training = {"data_sha256": dataset.sha256, "seed": 4, "settings": {"validation": 0.2, "test": 0.25}}
    card = replace(classifier.card, training=training)
    split = split_dataset(dataset, validation=0.2, test=0.25, seed=4)
    assert split != split_dataset(dataset)
    for part in ("test", "validation", "train"):
        chosen = choose_part(card, dataset, part)  # type: ignore[arg-type]
        assert chosen.samples == getattr(split, part)
        assert chosen.notes == ()
    everything = choose_part(card, dataset, "all")
    assert everything.samples == dataset.samples
    assert "may have been trained on" in everything.notes[0]
    elsewhere = choose_part(replace(card, training={**training, "data_sha256": "0" * 64}), dataset, "test")
    assert elsewhere.samples == split.test
    assert "not the data set of the model's card" in elsewhere.notes[0]
    [note] = choose_part(classifier.card, dataset, "test").notes
    assert "records no split" in note
    assert choose_part(classifier.card, dataset, "test").samples == split_dataset(dataset).test


def test_a_data_set_that_does_not_fit_the_model_is_refused(classifier: DefectClassifier, tmp_path: Path) -> None:
    strange = load_dataset(image_folder(tmp_path / "strange", {"good": 3, "rust": 3}))
    with pytest.raises(MetricError, match="class 'rust'"):
        choose_part(classifier.card, strange, "all")
    few = load_dataset(image_folder(tmp_path / "few", {"good": 3, "crack": 2}))
    with pytest.raises(DatasetError, match="or take all images"):
        choose_part(classifier.card, few, "test")


def test_every_class_of_an_image_is_checked_against_the_model(classifier: DefectClassifier, tmp_path: Path) -> None:
    """The model says which class is good, so it alone can say what contradicts it."""
    known = load_dataset(image_folder(tmp_path, dict.fromkeys(CLASSES, 3)), good_class="")
    first, *others = known.samples
    for also, error, told in (
        (("rust",), MetricError, "the class 'rust'"),
        (("good",), DatasetError, rf"{first.path.name} is labelled 'good' and '{first.label}' at once"),
    ):
        changed = replace(known, samples=(replace(first, also=also), *others))
        assert first.label != "good"
        with pytest.raises(error, match=told):
            choose_part(classifier.card, changed, "all")


def test_of_an_image_in_tiles_the_most_convinced_tile_that_shows_the_defect_is_measured(
    classifier: DefectClassifier, tmp_path: Path
) -> None:
    tiled = classifier.with_settings(tiling=Tiling((48, 48), 12))
    photographs = [photograph(tmp_path, number, size=(90, 140)) for number in range(60)]
    decided = [tiled.predict([read_image(sample.path).pixels])[0].label for sample in photographs]
    found = [replace(sample, label=label) for sample, label in zip(photographs, decided, strict=True)]
    sample = next(sample for sample in found if sample.label != "good")
    case = prepare_case(tiled, sample)
    pixels = read_image(sample.path).pixels
    truth = truth_of(sample, (90, 140))
    shown = {}
    for tile in Tiling((48, 48), 12).tiles((90, 140)):
        inputs, _ = LETTERBOX.apply(np.ascontiguousarray(tile.cut(pixels)))
        if torch.equal(inputs, case.inputs):
            measured = tile
        with torch.inference_mode():
            logits = classifier.network(inputs[None])[0]
        shown[tile] = (int(tile.cut(truth).sum()), float(logits[case.target] - logits[CLASSES.index("good")]))
    most = max(pixels for pixels, _ in shown.values())
    enough = {tile: margin for tile, (pixels, margin) in shown.items() if 2 * pixels >= most}
    assert measured in enough
    assert case.defect_share == pytest.approx(tile_share(truth, measured))
    assert np.array_equal(case.truth.numpy(), truth_on_grid(measured.cut(truth), LETTERBOX))
    report = evaluate_explanations(tiled, [sample], EvaluationSettings(methods=("quorum", "uniform")))
    assert report.settings["tiling"]["size"] == (48, 48)


def tile_share(truth: np.ndarray, tile: Tile) -> float:
    return float(tile.cut(truth).mean())
