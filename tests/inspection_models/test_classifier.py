"""The classifier: decisions follow the card, the directory is whole or refused."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inspection_models import DefectClassifier
from inspection_models.classifier import ModelError, check_target
from inspection_models.decision_lines import LineOrigin
from inspection_models.images import ImageError
from inspection_models.model_card import Calibration, ExplanationSettings, ModelCard, RegionThresholds, Thresholds
from inspection_models.networks import build_network
from inspection_models.preprocessing import Preprocessing

PREPROCESSING = Preprocessing("letterbox", (64, 64), (127.0,) * 3, (128.0,) * 3)
CLASSES = ("crack", "good", "pit")


def make(**fields: Any) -> DefectClassifier:
    torch.manual_seed(3)
    network = build_network("shufflenet_v2_x0_5", 3)
    defaults = {
        "name": "tiny",
        "architecture": "shufflenet_v2_x0_5",
        "classes": CLASSES,
        "good_class": "good",
        "preprocessing": PREPROCESSING,
    }
    return DefectClassifier.assemble(network, **defaults | fields)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    make(metrics={"test": {"accuracy": 0.5}}).save(directory)
    return directory


def images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (int(h), int(w), 3), np.uint8) for h, w in rng.integers(20, 150, (count, 2))]


def test_a_saved_model_decides_as_before(saved: Path) -> None:
    classifier, loaded = make(metrics={"test": {"accuracy": 0.5}}), DefectClassifier.load(saved)
    assert loaded.card == classifier.card
    assert loaded.version == classifier.version
    assert (loaded.classes, loaded.good_class, loaded.temperature) == (CLASSES, "good", 1.0)
    assert not loaded.network.training
    for one, other in zip(classifier.predict(images(4)), loaded.predict(images(4)), strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        assert one.label == other.label


def test_an_image_is_decided_alike_whatever_its_neighbours(saved: Path) -> None:
    classifier = DefectClassifier.load(saved)
    batch = images(5)
    together = classifier.predict(batch)
    for prediction, image in zip(together, batch, strict=True):
        alone = classifier.predict([image])[0]
        assert alone.logits.tobytes() == prediction.logits.tobytes()
        assert alone.probabilities.tobytes() == prediction.probabilities.tobytes()
    assert classifier.predict([]) == []


def test_a_prediction_is_the_calibrated_softmax_of_the_network(saved: Path) -> None:
    classifier = DefectClassifier.load(saved).with_settings(calibration=Calibration(temperature=2.5))
    image = images(1)[0]
    prediction = classifier.predict([image])[0]
    inputs, _ = PREPROCESSING.apply(image)
    with torch.inference_mode():
        logits = classifier.network(inputs.unsqueeze(0))[0]
    np.testing.assert_allclose(prediction.probabilities, torch.softmax(logits.double() / 2.5, 0), rtol=1e-6)
    assert prediction.index == int(logits.argmax())
    assert prediction.label == CLASSES[prediction.index]
    assert prediction.probability == float(prediction.probabilities[prediction.index])
    assert prediction.is_defect == (prediction.label != "good")


def logits_for(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities, np.float64)).astype(np.float32)


@pytest.mark.parametrize(
    ("threshold", "probabilities", "label"),
    [
        (None, (0.3, 0.4, 0.3), "good"),
        (0.7, (0.3, 0.4, 0.3), "good"),
        (0.5, (0.29, 0.4, 0.31), "pit"),
        (0.1, (0.06, 0.89, 0.05), "crack"),
        (0.1, (0.05, 0.91, 0.04), "good"),
    ],
)
def test_the_decision_threshold_is_on_the_probability_of_any_defect(
    threshold: float | None, probabilities: tuple[float, ...], label: str
) -> None:
    classifier = make(thresholds=Thresholds(decision=threshold))
    prediction = classifier.decide(logits_for(*probabilities))
    assert prediction.label == label
    assert prediction.is_defect == (label != "good")
    assert prediction.probability == pytest.approx(probabilities[CLASSES.index(label)], abs=1e-6)


def test_without_a_good_class_every_decision_is_a_defect() -> None:
    classifier = make(good_class=None)
    assert classifier.decide(logits_for(0.1, 0.8, 0.1)).is_defect


def test_logits_that_are_not_finite_are_no_decision() -> None:
    with pytest.raises(RuntimeError, match="not finite"):
        make().decide(np.array([0.0, np.nan, 1.0], np.float32))


def test_what_is_no_image_is_refused(saved: Path) -> None:
    with pytest.raises(ImageError):
        DefectClassifier.load(saved).predict([np.zeros((5, 5), np.uint8)])


def test_the_fingerprint_changes_with_all_that_a_decision_depends_on_and_nothing_else() -> None:
    card = make().card
    changes: dict[str, Any] = {
        "architecture": "resnet18",
        "classes": ("crack", "good", "scratch"),
        "good_class": None,
        "preprocessing": dataclasses.replace(PREPROCESSING, size=(96, 96)),
        "weights_sha256": "0" * 64,
        "calibration": Calibration(temperature=1.5),
        "activation": "sigmoid",
        "thresholds": Thresholds(region=RegionThresholds(relative=0.4)),
        "explanation": ExplanationSettings("sise", {"mu": 0.1}),
    }
    prints = {card.fingerprint} | {card.with_settings(**{key: value}).fingerprint for key, value in changes.items()}
    assert len(prints) == len(changes) + 1
    origin = LineOrigin("escapes", 0.01, 0.95, 0.2, 0, 300, 400, 0.01, "0" * 64)
    for change in (
        {"name": "other"},
        {"version": "7"},
        {"origins": (origin,)},
        {"metrics": {"a": 1}},
        {"training": {"seed": 1}},
    ):
        assert card.with_settings(**change).fingerprint == card.fingerprint
    assert card.version == card.fingerprint[:12]
    assert str(card.with_settings(version="7").model_version) == "tiny 7"


def test_a_changed_byte_in_the_weights_is_refused(saved: Path, tmp_path: Path) -> None:
    weights = bytearray((saved / "weights.safetensors").read_bytes())
    (tmp_path / "model.json").write_bytes((saved / "model.json").read_bytes())
    for position in (0, 100, len(weights) // 2, len(weights) - 1):
        changed = weights.copy()
        changed[position] ^= 1
        (tmp_path / "weights.safetensors").write_bytes(changed)
        with pytest.raises(ModelError, match=r"weights\.safetensors: its sha256 .* changed or damaged"):
            DefectClassifier.load(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors: cannot be read"):
        DefectClassifier.load(tmp_path)


def paths_of(document: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in document.items():
        found.append((*prefix, key))
        if isinstance(value, dict):
            found += paths_of(value, (*prefix, key))
    return found


def edited(saved: Path, target: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    document = json.loads((saved / "model.json").read_text())
    edit(document)
    (target / "model.json").write_text(json.dumps(document))
    weights = target / "weights.safetensors"
    if not weights.exists():
        weights.write_bytes((saved / "weights.safetensors").read_bytes())
    return target


def test_every_missing_field_is_refused_by_name(saved: Path, tmp_path: Path) -> None:
    for path in paths_of(json.loads((saved / "model.json").read_text())):

        def remove(document: dict[str, Any], path: tuple[str, ...] = path) -> None:
            for key in path[:-1]:
                document = document[key]
            del document[path[-1]]

        informative = path[0] in ("metrics", "training", "explanation") and len(path) > 1
        expected = "card_sha256|fingerprint|explanation" if informative else path[-1]
        with pytest.raises(ModelError, match=rf"model\.json: .*({expected})"):
            DefectClassifier.load(edited(saved, tmp_path, remove))


def lines(good_below: float, defect_from: float) -> dict[str, float | None]:
    return {"good_below": good_below, "defect_from": defect_from, "sure_from": None}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(format_version=1), "format_version"),
        (lambda d: d.update(format="other"), "'format'"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["preprocessing"].update(size=[64.5, 64]), r"preprocessing\.size"),
        (lambda d: d["preprocessing"].update(mode="crop"), r"preprocessing\.mode"),
        (lambda d: d["calibration"].update(temperature=0.0), "temperature"),
        (lambda d: d["calibration"].update(temperature="1"), r"calibration\.temperature"),
        (lambda d: d["calibration"].update(temperature=1.01), "fingerprint"),
        (lambda d: d["thresholds"].update(decision=1.5), "decision threshold"),
        (lambda d: d["thresholds"]["region"].update(relative=0), "region threshold"),
        (lambda d: d["classes"].reverse(), "fingerprint"),
        (lambda d: d.update(classes=["a", "a", "b"]), "different names"),
        (lambda d: d.update(good_class="absent"), "absent"),
        (lambda d: d.update(activation="tanh"), "activation"),
        (lambda d: d.update(activation="sigmoid"), "fingerprint"),
        (lambda d: d["calibration"].update(class_temperatures=[1.0, 1.0, 2.0]), "for sigmoid"),
        (lambda d: d["thresholds"].update(classes={"dent": 0.5}), "'dent', which is not one"),
        (lambda d: d["thresholds"].update(classes={"pit": 0.0}), "threshold of class 'pit'"),
        (lambda d: d["thresholds"]["review"].update(good_below=0.2), "need a decision threshold"),
        (lambda d: d["thresholds"]["review"].update(sure_from=1.2), "review line sure_from"),
        (lambda d: d["thresholds"]["review"].update(sure_from=0.9), "without a good class"),
        (lambda d: d["thresholds"].update(decision=0.5, review=lines(0.6, 0.9)), "does not lie between"),
        (lambda d: d["thresholds"].update(decision=0.95, review=lines(0.6, 0.9)), "does not lie between"),
        (lambda d: d["metrics"]["test"].update(accuracy=0.99), "card_sha256"),
        (lambda d: d.update(name="renamed"), "card_sha256"),
        (lambda d: d.update(name=" "), "name is empty"),
    ],
)
def test_changed_or_impossible_fields_are_refused_by_name(
    saved: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(ModelError, match=rf"model\.json: .*{message}"):
        DefectClassifier.load(edited(saved, tmp_path, edit))


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "[" * 100_000])
def test_what_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json"):
        DefectClassifier.load(tmp_path)
    with pytest.raises(ModelError, match="not a model directory"):
        DefectClassifier.load(tmp_path / "absent")


def rewritten(saved: Path, target: Path, card: ModelCard, weights: bytes | None = None) -> Path:
    (target / "model.json").write_text(card.to_json())
    (target / "weights.safetensors").write_bytes(weights or (saved / "weights.safetensors").read_bytes())
    return target


def test_consistent_cards_that_do_not_fit_their_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    card = DefectClassifier.load(saved).card
    with pytest.raises(ModelError, match=r"model\.json: field 'architecture': there is no network"):
        DefectClassifier.load(rewritten(saved, tmp_path, card.with_settings(architecture="resnet1")))
    with pytest.raises(ModelError, match=r"weights\.safetensors: does not fit field 'architecture'"):
        DefectClassifier.load(rewritten(saved, tmp_path, card.with_settings(architecture="squeezenet1_1")))
    nonsense = b"nonsense"
    card = card.with_settings(weights_sha256=hashlib.sha256(nonsense).hexdigest())
    with pytest.raises(ModelError, match=r"weights\.safetensors: does not fit"):
        DefectClassifier.load(rewritten(saved, tmp_path, card, nonsense))


def test_saving_replaces_a_model_only_when_allowed_and_nothing_else_ever(tmp_path: Path) -> None:
    classifier, target = make(), tmp_path / "deep" / "model"
    classifier.save(target, attachments={"note.txt": b"one"})
    with pytest.raises(ModelError, match="holds a model already"):
        classifier.save(target)
    changed = classifier.with_settings(name="second")
    changed.save(target, overwrite=True)
    assert DefectClassifier.load(target).version.name == "second"
    assert sorted(p.name for p in target.iterdir()) == ["MODEL_CARD.md", "model.json", "weights.safetensors"]
    assert [p.name for p in target.parent.iterdir()] == ["model"]
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "one.png").write_bytes(b"x")
    for overwrite in (False, True):
        with pytest.raises(ModelError, match="not a model directory"):
            classifier.save(photographs, overwrite=overwrite)
    assert (photographs / "one.png").exists()
    with pytest.raises(ModelError, match="not a model directory"):
        check_target(photographs / "one.png", overwrite=True)


def test_a_failed_save_leaves_the_former_model_and_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model"
    make(name="first").save(target)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        make(name="second").save(target, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert DefectClassifier.load(target).version.name == "first"


def test_weights_changed_behind_the_card_are_not_saved(tmp_path: Path) -> None:
    classifier = make()
    with torch.no_grad():
        next(m for m in classifier.network.modules() if isinstance(m, nn.Linear)).weight.add_(1)
    with pytest.raises(ModelError, match="changed since"):
        classifier.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_equal_models_are_written_to_equal_bytes(saved: Path, tmp_path: Path) -> None:
    DefectClassifier.load(saved).save(tmp_path / "again")
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()
