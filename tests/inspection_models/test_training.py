"""Training: repeatable to the bit, honest in its figures, and good enough on the demonstration set."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inspection_models import DefectClassifier
from inspection_models.data import DatasetError, Sample, load_dataset, split_dataset
from inspection_models.data.dataset import file_sha256, make_dataset
from inspection_models.images import read_image
from inspection_models.metrics import choose_part
from inspection_models.model_card import ModelError
from inspection_models.networks import NetworkError
from inspection_models.preprocessing import Preprocessing
from inspection_models.training import TrainingError, TrainingEvent, TrainingReport, TrainingRequest, evaluate, train
from inspection_models.training.augmentation import Augmentation
from inspection_models.training.batches import FittedImages, class_weights, draw_epoch
from inspection_models.training_record import seen_images
from tests.inspection_models.data_files import image_folder


def two_shades(root: Path) -> Path:
    """Thirty dark and twenty bright images: as easy as can be."""
    rng = np.random.default_rng(0)
    for label, level, count in (("good", 60, 30), ("bright", 190, 20)):
        (root / label).mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(rng.normal(level, 12, (40, 48)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{index}.png")
    return root


def quick(data: Path, output: Path, **changes: Any) -> TrainingRequest:
    fields = {"architecture": "shufflenet_v2_x0_5", "size": (48, 48), "epochs": 2, "batch_size": 8, "seed": 7}
    return TrainingRequest(data=data, output=output, **fields | changes)


LITE: dict[str, Any] = {"architecture": "efficientnet-lite0", "size": (48, 48), "epochs": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_shades(tmp_path_factory.mktemp("shades"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingReport, list[TrainingEvent]]:
    """The pretrained network's head alone and one epoch of its deeper layers."""
    events: list[TrainingEvent] = []
    output = tmp_path_factory.mktemp("models") / "shades"
    request = quick(data, output, **LITE)
    return train(request, events.append), events


@pytest.mark.slow
def test_an_easy_task_is_learnt_and_the_directory_says_how(trained: tuple[TrainingReport, list[TrainingEvent]]) -> None:
    report, _ = trained
    assert report.test.balanced_accuracy == 1.0
    loaded = DefectClassifier.load(report.output)
    assert loaded.card == report.classifier.card
    assert (loaded.classes, loaded.good_class, loaded.version.name) == (("bright", "good"), "good", "shades")
    assert loaded.card.training["counts"] == {
        "train": {"bright": 14, "good": 21},
        "validation": {"bright": 3, "good": 5},
        "test": {"bright": 3, "good": 4},
    }
    assert loaded.card.metrics["test"]["balanced_accuracy"] == 1.0
    assert loaded.card.calibration.temperature == loaded.temperature != 1.0
    summary = json.loads((report.output / "training_summary.json").read_text())
    assert summary["test"]["confusion"] == [[3, 0], [0, 4]]
    assert summary["model"]["fingerprint"] == loaded.version.fingerprint
    for name in ("confusion_matrix.png", "reliability.png"):
        with Image.open(report.output / name) as picture:
            assert min(picture.size) > 200
    assert not list(report.output.parent.glob(".*.training"))
    assert sorted(path.name for path in report.output.iterdir()) == [
        "MODEL_CARD.md",
        "confusion_matrix.png",
        "familiar.safetensors",
        "learning_curves.csv",
        "learning_curves.png",
        "model.json",
        "reliability.png",
        "training_images.csv",
        "training_summary.json",
        "weights.safetensors",
    ]


@pytest.mark.slow
def test_the_model_card_names_the_data(trained: tuple[TrainingReport, list[TrainingEvent]], data: Path) -> None:
    training = trained[0].classifier.card.training
    assert training["data_sha256"] == load_dataset(data).sha256
    assert training["layout"] == "image-folder"
    split = split_dataset(load_dataset(data), seed=7)
    seen = seen_images(trained[0].output, trained[0].classifier.card)
    assert seen == {sample.sha256 for sample in (*split.train, *split.validation)}
    assert training["versions"]["torch"].startswith(torch.__version__.split("+")[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "settings", "share"),
    [
        ({}, ("quorum", {"mirrored": True}), 0.08),
        ({"flips": False}, ("quorum", {"mirrored": False}), 0.08),
        ({"explanation": "sise"}, ("sise", {}), 0.35),
    ],
)
def test_the_model_card_says_how_decisions_are_explained(
    data: Path, tmp_path: Path, changes: dict[str, Any], settings: tuple[str, dict[str, bool]], share: float
) -> None:
    card = train(quick(data, tmp_path / "model", epochs=1, **changes)).classifier.card
    assert (card.explanation.method, card.explanation.options) == settings
    assert card.thresholds.region.relative == share


@pytest.mark.slow
def test_trainings_of_other_seeds_can_share_a_split(data: Path, tmp_path: Path) -> None:
    card = train(quick(data, tmp_path / "model", seed=1, split_seed=7, epochs=1)).classifier.card
    dataset = load_dataset(data)
    assert choose_part(card, dataset, "test").samples == split_dataset(dataset, seed=7).test
    assert split_dataset(dataset, seed=7).test != split_dataset(dataset, seed=1).test


def test_an_unknown_explanation_is_refused_before_the_work(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no attribution method 'magic'; there are quorum, sise"):
        quick(data, tmp_path / "model", explanation="magic")


def test_events_go_from_reading_to_testing_and_every_phase_ends(
    trained: tuple[TrainingReport, list[TrainingEvent]],
) -> None:
    _, events = trained
    phases = list(dict.fromkeys(event.phase for event in events))
    assert phases == ["read", "head", "epoch", "lines", "regions", "test"]
    for phase in phases:
        last = [event for event in events if event.phase == phase][-1]
        assert last.done == last.total
    assert all(0 <= event.done <= event.total for event in events)
    assert [event.epoch for event in events if event.balanced_accuracy is not None] == [0, 1]


@pytest.mark.slow
def test_the_same_request_gives_the_same_weights_to_the_bit(
    trained: tuple[TrainingReport, list[TrainingEvent]], data: Path, tmp_path: Path
) -> None:
    first, _ = trained
    torch.manual_seed(99)  # what the process did before must not matter
    again = train(quick(data, tmp_path / "again", name="shades", **LITE))
    hashes = [hashlib.sha256((r.output / "weights.safetensors").read_bytes()).hexdigest() for r in (first, again)]
    assert hashes[0] == hashes[1]
    assert (first.output / "model.json").read_bytes() == (again.output / "model.json").read_bytes()


@pytest.mark.slow
def test_a_network_from_scratch_repeats_and_follows_its_seed(data: Path, tmp_path: Path) -> None:
    reports = [train(quick(data, tmp_path / f"{n}", epochs=1, seed=seed)) for n, seed in enumerate((7, 7, 8))]
    hashes = [report.classifier.version.weights_sha256 for report in reports]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.slow
def test_training_leaves_the_process_as_it_was(data: Path, tmp_path: Path) -> None:
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(quick(data, tmp_path / "model", epochs=1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.are_deterministic_algorithms_enabled() == was_deterministic


@pytest.mark.slow
def test_all_epochs_are_passed_and_the_last_ones_weights_are_kept_however_good_another_was(
    data: Path, tmp_path: Path
) -> None:
    report = train(quick(data, tmp_path / "model", epochs=6, learning_rate=3e-3))
    assert [one.epoch for one in report.epochs] == list(range(1, 7))
    assert report.validation.balanced_accuracy == report.epochs[-1].balanced_accuracy


def test_metrics_are_those_of_the_saved_model_on_the_test_part(
    trained: tuple[TrainingReport, list[TrainingEvent]], data: Path
) -> None:
    report, _ = trained
    split = split_dataset(load_dataset(data), seed=7)
    assert evaluate(DefectClassifier.load(report.output), split.test) == report.test


@pytest.mark.slow
def test_the_validation_part_is_judged_by_distance_too_as_in_service(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A line that every image is beyond, so that all go to review.
    monkeypatch.setattr("inspection_models.training.lines.line_of", lambda *_: (0.0, 8))
    report = train(quick(data, tmp_path / "model", **LITE | {"epochs": 0}))
    for found in (report.test, report.validation):
        assert (found.alone.review.count, found.alone.errors.of) == (found.images, 0)
    split = split_dataset(load_dataset(data), seed=7)
    assert evaluate(report.classifier, split.validation).alone == report.validation.alone


@pytest.mark.slow
def test_what_must_be_known_of_data_and_split_is_kept_with_the_model(data: Path, tmp_path: Path) -> None:
    source = tmp_path / "data"
    shutil.copytree(data, source)
    files = sorted(path.relative_to(source) for path in source.rglob("*.png"))
    parts = ["test", *["train"] * 4]
    rows = [f"{path.as_posix()},{path.parent.name},{parts[n % 5]}" for n, path in enumerate(files)]
    (source / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    report = train(quick(source, tmp_path / "model", epochs=0, layout="csv"))
    expected = split_dataset(load_dataset(source, layout="csv"), seed=7).notes
    assert any("own split is used" in note for note in report.notes)
    assert set(expected) <= set(report.notes)
    assert json.loads((report.output / "training_summary.json").read_text())["notes"] == list(report.notes)
    assert report.classifier.card.training["lines_from"] == "validation part, which calibrated the model, too"


def test_a_taken_output_is_found_before_the_work(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    events: list[TrainingEvent] = []
    with pytest.raises(ModelError, match="left untouched"):
        train(quick(data, tmp_path), events.append)
    assert events == []


@pytest.mark.slow
def test_bad_requests_and_data_are_refused_with_what_to_change(data: Path, tmp_path: Path) -> None:
    request = quick(data, tmp_path / "model")
    for changes, error, message in (
        ({"data": tmp_path / "absent"}, DatasetError, "not a directory"),
        ({"architecture": "resnet19"}, NetworkError, "did you mean"),
        ({"architecture": "inception_v3"}, TrainingError, "use a larger size"),
        ({"good_class": "fine"}, DatasetError, "'fine'"),
        (
            {"learning_rate": 1e12, "architecture": "alexnet", "size": (64, 64)},
            TrainingError,
            "lower the learning rate",
        ),
    ):
        with pytest.raises(error, match=message):
            train(replace(request, **changes))
    for changes in ({"epochs": -1}, {"batch_size": 1}, {"learning_rate": 0.0}, {"size": (16, 64)}):
        with pytest.raises(TrainingError, match=next(iter(changes))):
            quick(data, tmp_path, **changes)
    assert not (tmp_path / "model").exists()


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    image_folder(tmp_path / "data", {"good": 5, "pit": 5})
    (tmp_path / "data" / "pit" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with pytest.raises(DatasetError, match=r"003\.png: the image is damaged.*export or upload it again"):
        train(quick(tmp_path / "data", tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def test_evaluating_on_nothing_or_on_foreign_classes_is_refused(
    trained: tuple[TrainingReport, list[TrainingEvent]], data: Path
) -> None:
    classifier = trained[0].classifier
    with pytest.raises(ValueError, match="no images"):
        evaluate(classifier, [])
    sample = replace(load_dataset(data).samples[0], label="rust")
    with pytest.raises(ValueError, match="does not know the class 'rust'"):
        evaluate(classifier, [sample])


def test_an_epoch_is_drawn_by_root_of_count_and_uses_images_up_before_repeating() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    weights = class_weights(labels, 2)
    assert weights[1] / weights[0] == pytest.approx(3.0)
    assert weights[labels].mean() == pytest.approx(1.0)
    drawn = np.concatenate([draw_epoch(labels, 2, 25, np.random.default_rng(seed)).ravel() for seed in range(40)])
    assert (labels[drawn] == 1).mean() == pytest.approx(0.25, abs=0.02)
    one = draw_epoch(labels, 2, 25, np.random.default_rng(0))
    assert one.shape == (4, 25)
    for label in (0, 1):
        counts = np.bincount(one[labels[one] == label], minlength=100)[labels == label]
        assert counts.max() - counts.min() <= 1


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    batch_size=st.integers(2, 16),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_the_classes_an_epoch_is_whole_batches_and_repeats_nobody_early(
    labels: list[int], batch_size: int, seed: int
) -> None:
    known = np.array(labels)
    drawn = draw_epoch(known, 6, batch_size, np.random.default_rng(seed))
    assert drawn.shape == (max(1, round(len(labels) / batch_size)), batch_size)
    counts = np.bincount(drawn.ravel(), minlength=len(labels))
    for label in set(labels):
        of_class = counts[known == label]
        assert of_class.max() - of_class.min() <= 1


def test_augmentation_follows_its_chance_keeps_the_picture_and_flips_only_when_told() -> None:
    picture = np.full((64, 64, 3), 60, np.uint8)
    picture[8:24, 8:24] = 200  # top left
    for flips in (False, True):
        change = Augmentation(flips=flips, fill=(127.0,) * 3)
        corners = []
        for seed in range(60):
            changed, _ = change(picture, None, np.random.default_rng(seed))
            np.testing.assert_array_equal(changed, change(picture, None, np.random.default_rng(seed))[0])
            assert changed.shape == picture.shape
            assert changed.dtype == np.uint8
            middle = changed[6:-6, 6:-6, 1].astype(float)
            y, x = np.argwhere(middle > (middle.min() + middle.max()) / 2).mean(axis=0)
            corners.append((bool(y < 26), bool(x < 26)))
        assert (set(corners) == {(True, True)}) != flips


def test_marks_move_with_what_they_mark() -> None:
    picture = np.full((64, 48, 3), 40, np.uint8)
    picture[10:30, 8:20] = 220
    marks = np.zeros((64, 48, 2), np.uint8)
    marks[..., 1] = picture[..., 0] > 100
    change = Augmentation(flips=True, fill=(40.0,) * 3)
    overlaps = []
    for seed in range(40):
        changed, moved = change(picture, marks, np.random.default_rng(seed))
        assert moved is not None
        assert moved.shape == marks.shape
        assert not moved[..., 0].any()
        values = changed[..., 0].astype(float)
        seen, marked = values > (values.min() + values.max()) / 2, moved[..., 1] > 0
        overlaps.append((seen & marked).sum() / (seen | marked).sum())
    assert min(overlaps) > 0.8


def test_an_image_is_read_once_and_fitted_as_in_service(data: Path) -> None:
    samples = load_dataset(data).samples[:3]
    preprocessing = Preprocessing("letterbox", (48, 48), (127.0,) * 3, (128.0,) * 3)
    part = FittedImages(samples, ("bright", "good"), preprocessing)
    batch = part.batch([0, 2])
    assert batch.targets.tolist() == [[1, 0], [1, 0]]
    with Image.open(samples[2].path) as image:
        expected, _ = preprocessing.apply(np.repeat(np.asarray(image)[..., None], 3, axis=2))
    torch.testing.assert_close(batch.inputs[1], expected, rtol=0, atol=0)
    samples[2].path.rename(samples[2].path.with_suffix(".away"))
    try:
        torch.testing.assert_close(part.batch([2]).inputs[0], expected, rtol=0, atol=0)
    finally:
        samples[2].path.with_suffix(".away").rename(samples[2].path)


@pytest.mark.slow
def test_images_of_several_classes_are_learned_with_a_sigmoid_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    samples = []
    for index, shown in enumerate(((), ("left",), ("right",), ("left", "right")) * 14):
        pixels = rng.normal(90, 6, (40, 40))
        for label, columns in (("left", slice(0, 16)), ("right", slice(24, 40))):
            if label in shown:
                pixels[:, columns] += 90 if label == "left" else -80
        path = folder / f"{index:02d}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        first, *also = shown or ("good",)
        samples.append(Sample(path, first, str(index), file_sha256(path), also=tuple(also)))
    dataset = make_dataset(folder, samples, "made-up")
    monkeypatch.setattr("inspection_models.training.trainer.load_dataset", lambda *_, **__: dataset)
    request = quick(folder, tmp_path / "model", **LITE | {"epochs": 4, "learning_rate": 4e-3, "flips": False})
    report = train(request)
    assert report.classifier.card.activation == "sigmoid"
    decided = {
        sample.labels: set(report.classifier.predict([read_image(sample.path).pixels])[0].labels)
        for sample in samples[:4]
    }
    assert decided == {labels: set(labels) for labels in decided}
    assert report.epochs[-1].balanced_accuracy > 0.9


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["auto", "float16", "float32"])
def test_on_a_gpu_it_learns_in_every_precision_and_repeats(data: Path, tmp_path: Path, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    reports = [train(quick(data, tmp_path / f"{n}", **LITE, device="cuda", precision=precision)) for n in range(2)]
    assert reports[0].test.balanced_accuracy == 1.0
    hashes = {report.classifier.version.weights_sha256 for report in reports}
    assert len(hashes) == 1


def test_learning_curves_tell_the_course(trained: tuple[TrainingReport, list[TrainingEvent]]) -> None:
    report, _ = trained
    with (report.output / "learning_curves.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["stage"]) for row in rows] == [("0", "head"), ("1", "deep")]
    assert [float(row["balanced_accuracy"]) for row in rows] == [e.balanced_accuracy for e in report.epochs]
    assert [row["marks_loss"] for row in rows] == ["", ""]
    assert float(rows[1]["learning_rate"]) == pytest.approx(1e-3, rel=0.2)
    with Image.open(report.output / "learning_curves.png") as picture:
        assert min(picture.size) > 600


@pytest.mark.parametrize(
    ("network", "pretrained", "weights", "at_random"),
    [
        ("efficientnet-lite0", True, None, False),
        ("efficientnet-lite0", False, None, True),
        ("efficientnet-lite0", False, Path("weights.pth"), False),
        ("resnet18", True, None, True),
        ("resnet18", True, Path("weights.pth"), False),
    ],
)
def test_who_begins_at_random(network: str, pretrained: bool, weights: Path | None, at_random: bool) -> None:
    request = TrainingRequest(Path("data"), Path("model"), architecture=network, pretrained=pretrained, weights=weights)
    assert request.begins_at_random == at_random
