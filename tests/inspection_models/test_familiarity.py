"""Familiarity: distances are scikit-learn's, and an image unlike all training images is left to a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from inspection_models import DefectClassifier
from inspection_models.data import Sample
from inspection_models.deciding import decide
from inspection_models.familiarity import FAMILIAR_FILE, MOST_REMEMBERED, Familiarity, entering, line_of
from inspection_models.model_card import ModelError, Thresholds
from inspection_models.networks import build_network
from inspection_models.preprocessing import Preprocessing
from inspection_models.tiling import Tiling
from inspection_models.training.lines import with_familiarity


def strips(root: Path, seed: int, count: int) -> list[Sample]:
    """Grey pictures with soft noise, alike as photographs of one part are."""
    rng, made = np.random.default_rng(seed), []
    root.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = root / f"{seed}-{number}.png"
        Image.fromarray(np.clip(rng.normal(120 + rng.normal(0, 10), 12, (48, 48)), 0, 255).astype(np.uint8)).save(path)
        made.append(Sample(path, "good", str(number), f"{number:064x}"))
    return made


def plain(architecture: str = "shufflenet_v2_x0_5") -> DefectClassifier:
    torch.manual_seed(3)
    return DefectClassifier.assemble(
        build_network(architecture, 2, pretrained=architecture == "efficientnet-lite0"),
        name="tiny",
        architecture=architecture,
        classes=("good", "pit"),
        good_class="good",
        preprocessing=Preprocessing("letterbox", (64, 64), (127.0,) * 3, (128.0,) * 3),
    )


@pytest.fixture(scope="module")
def familiar(tmp_path_factory: pytest.TempPathFactory) -> DefectClassifier:
    root = tmp_path_factory.mktemp("strips")
    return with_familiarity(plain("efficientnet-lite0"), strips(root, 0, 30), strips(root, 1, 20))


def test_a_distance_is_the_mean_of_the_nearest_by_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    features, asked = rng.normal(0, 1, (200, 16)).astype(np.float32), rng.normal(0, 1, (9, 16)).astype(np.float32)
    oracle = NearestNeighbors(n_neighbors=5, metric="cosine").fit(features)
    expected = oracle.kneighbors(asked)[0].mean(axis=1)
    found = [Familiarity.of(features).distance(one) for one in asked]
    np.testing.assert_allclose(found, expected, atol=1e-3)  # kept in half precision


def test_few_features_and_empty_ones_have_a_distance_and_many_are_thinned() -> None:
    two = Familiarity.of(np.eye(3, dtype=np.float32)[:2])
    assert two.distance(np.array([1, 0, 0], np.float32)) == pytest.approx(0.5)
    assert two.distance(np.zeros(3, np.float32)) == 1
    assert two.distance(np.array([-1, -1, 0], np.float32)) == pytest.approx(1 + np.sqrt(0.5), abs=1e-3)
    many = Familiarity.of(np.ones((3 * MOST_REMEMBERED, 4), np.float32))
    assert len(many.content) < MOST_REMEMBERED * 4 * 2 + 200


def test_the_line_is_that_of_the_parts_furthest_images() -> None:
    assert line_of([0.1, 0.5, 0.2, 0.3], ["a", "a", "b", "c"]) == (0.5, 3)
    distances = list(np.arange(200) / 200)
    line, parts = line_of(distances, [str(number) for number in range(200)])
    assert parts == 200
    # The 199th of 200: ceil(201 x 0.99).
    assert line == distances[198]


def test_on_average_one_part_in_a_hundred_is_above_the_line() -> None:
    rng, above = np.random.default_rng(1), []
    for _ in range(2000):
        drawn = rng.random(150)
        above.append(1 - line_of(list(drawn), [str(n) for n in range(150)])[0])
    assert 0.004 < np.mean(above) <= 0.01 + 3 * np.std(above) / np.sqrt(2000)


@pytest.mark.parametrize("architecture", ["shufflenet_v2_x0_5", "squeezenet1_1", "mobilenet_v3_large"])
def test_what_enters_the_last_layer_is_caught_and_the_logits_keep_their_bits(architecture: str) -> None:
    classifier, image = plain(architecture), np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    before = classifier.predict([image])[0]
    with entering(classifier.network) as features:
        during = classifier.predict([image, image])
    assert len(features) == 2
    assert features[0].ndim == 1
    np.testing.assert_array_equal(features[0], features[1])
    assert during[0].logits.tobytes() == before.logits.tobytes()
    classifier.predict([image])
    assert len(features) == 2


@pytest.mark.slow
def test_what_is_like_the_training_is_decided_and_what_is_not_goes_to_review(
    familiar: DefectClassifier, tmp_path: Path
) -> None:
    settings = familiar.card.familiarity
    assert settings is not None
    assert settings.parts == 20
    alike = [np.repeat(np.asarray(Image.open(s.path))[..., None], 3, axis=2) for s in strips(tmp_path, 2, 30)]
    decided = familiar.predict(alike)
    assert sum(one.verdict == "review" for one in decided) <= 6
    colourful = np.zeros((48, 48, 3), np.uint8)
    colourful[::4, :, 0] = colourful[:, ::3, 1] = 255
    for strange in (colourful, np.zeros((48, 48, 3), np.uint8)):
        prediction = familiar.predict([strange])[0]
        assert prediction.distance is not None
        assert prediction.distance > settings.line
        assert prediction.verdict == "review"
        assert prediction.label in familiar.classes
    # By logits alone nothing is known of the image, and nothing said.
    assert decide(familiar.card, prediction.logits).verdict != "review"


def test_it_is_kept_with_the_model_and_part_of_its_version(familiar: DefectClassifier, tmp_path: Path) -> None:
    familiar.save(tmp_path / "model")
    loaded = DefectClassifier.load(tmp_path / "model")
    image = np.random.default_rng(5).integers(0, 256, (50, 40, 3), np.uint8)
    assert loaded.card == familiar.card
    assert loaded.predict([image])[0].distance == familiar.predict([image])[0].distance is not None
    assert familiar.card.fingerprint != plain().card.fingerprint
    changed = familiar.with_settings(thresholds=Thresholds(decision=0.4))
    assert changed.predict([image])[0].distance == familiar.predict([image])[0].distance
    forgetful = familiar.with_settings(familiarity=None)
    assert forgetful.predict([image])[0].distance is None
    forgetful.save(tmp_path / "forgetful")
    assert not (tmp_path / "forgetful" / FAMILIAR_FILE).exists()


def test_missing_changed_and_foreign_features_are_refused(familiar: DefectClassifier, tmp_path: Path) -> None:
    familiar.save(tmp_path / "model")
    path = tmp_path / "model" / FAMILIAR_FILE
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"familiar\.safetensors: was changed or damaged"):
        DefectClassifier.load(tmp_path / "model")
    path.unlink()
    with pytest.raises(ModelError, match=r"familiar\.safetensors: cannot be read"):
        DefectClassifier.load(tmp_path / "model")
    with pytest.raises(ModelError, match="remembered features are not those"):
        DefectClassifier(familiar.network, familiar.card, familiarity=Familiarity.of(np.ones((2, 3), np.float32)))
    with pytest.raises(ValueError, match="no remembered features"):
        Familiarity(b"nonsense")


def test_a_model_that_looks_at_tiles_tells_none_apart(tmp_path: Path) -> None:
    tiled = plain().with_settings(tiling=Tiling((64, 64), 16))
    assert with_familiarity(tiled, strips(tmp_path, 0, 3), strips(tmp_path, 1, 3)) is tiled
