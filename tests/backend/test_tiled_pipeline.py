"""Large images at the desk: judged in tiles, explained where it matters, recorded so that the map can be made again."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from backend.cli.program import application
from backend.decider import Decider
from backend.pipeline import DecisionPipeline
from db.engine import Database
from db.records import Decision
from inspection_models import stitching
from inspection_models.attribution import render_map
from inspection_models.classifier import DefectClassifier
from inspection_models.model_card import ExplanationSettings, RegionThresholds, Thresholds
from inspection_models.regions import regions
from inspection_models.stitching import ExplainedTile, stitch
from inspection_models.tile_explanations import choose_tiles, tile_probabilities
from inspection_models.tiling import Tile, Tiling
from tests.backend import desks

TILING = Tiling((64, 64), 16)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desks.write_model(tmp_path_factory.mktemp("models") / "tiny")


def pipeline(directory: Path, tiling: Tiling | None = TILING, method: str = "quorum") -> DecisionPipeline:
    settings = ExplanationSettings(method, {})
    thresholds = Thresholds(region=RegionThresholds(relative=0.2))
    classifier = DefectClassifier.load(directory)
    return DecisionPipeline(classifier.with_settings(tiling=tiling, explanation=settings, thresholds=thresholds))


def test_an_image_of_one_tile_is_explained_to_the_bit_as_without_tiling(directory: Path) -> None:
    plain, tiled = (pipeline(directory, tiling).explain(desks.png(60, 64)) for tiling in (None, TILING))
    assert tiled.prediction.logits.tobytes() == plain.prediction.logits.tobytes()
    for one, other in zip(tiled.explanations, plain.explanations, strict=True):
        assert one.tiles is None
        assert one.attribution_map.tobytes() == other.attribution_map.tobytes()
        assert [region.box for region in one.regions] == [region.box for region in other.regions]


@pytest.mark.slow
def test_a_large_image_gets_one_map_in_its_own_pixels(directory: Path) -> None:
    explained = pipeline(directory).explain(desks.png(300, 200))
    [first, *_] = explained.explanations
    assert first.label == "crack" and first.tiles is not None
    assert first.attribution_map.shape == (200, 300) and first.attribution_map.dtype == np.float32
    assert first.attribution_map.max() == 1.0 and first.attribution_map.min() >= 0
    views = TILING.views((200, 300))
    assert first.tiles.looked_at == len(views) and first.tiles.worthy >= len(first.tiles.shown)
    assert len(first.tiles.shown) == len(first.attribution.map) <= 12
    assert all(region.mask.shape == region.box[:1:-1] for region in first.regions)
    again = pipeline(directory).explain(desks.png(300, 200))
    assert again.explanations[0].attribution_map.tobytes() == first.attribution_map.tobytes()


@pytest.mark.slow
def test_a_speck_is_one_of_what_the_network_saw_not_of_a_huge_photograph(directory: Path) -> None:
    """0.05 % of a large photograph would be more than the defects that tiles are there for."""
    [first, *_] = pipeline(directory).explain(desks.png(900, 700), classes=["crack"]).explanations
    smallest = 0.01
    of_the_image = regions(first.attribution_map, 0.2, minimum_area=smallest)
    of_a_tile = regions(first.attribution_map, 0.2, minimum_area=smallest * 64 * 64 / (900 * 700))
    assert len(of_a_tile) > len(of_the_image)
    line = pipeline(directory)
    thresholds = Thresholds(region=RegionThresholds(relative=0.2, minimum_area=smallest))
    line.classifier = line.classifier.with_settings(thresholds=thresholds)
    [found] = line.explain(desks.png(900, 700), classes=["crack"]).explanations
    assert [region.box for region in found.regions] == [region.box for region in of_a_tile]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "gate"), [("quorum", "product"), ("sise", "hard")])
def test_the_record_of_a_tiled_decision_renders_again_to_the_bit(
    directory: Path, own_database: Database, method: str, gate: str
) -> None:
    line = pipeline(directory, method=method)
    decision = Decider(line, own_database).decide(desks.png(150, 100))
    assert decision.settings.batch_shape == (8, 3, 64, 64)
    assert decision.settings.explanation["tiling"]["size"] == [64, 64]
    assert decision.settings.explanation["gate"] == gate
    for explanation in decision.explanations:
        rendered = replayed(decision, line, explanation.rank)
        assert hashlib.sha256(rendered.astype("<f4").tobytes()).hexdigest() == explanation.map_sha256
        assert rendered.shape == (explanation.height, explanation.width) == (100, 150)


def replayed(decision: Decision, line: DecisionPipeline, rank: int) -> np.ndarray:
    """The stitched map from nothing but the record and the model's card."""
    explanation = decision.explanations[rank - 1]
    assert explanation.tiles is not None
    shown = [
        ExplainedTile(Tile(one["top"], one["left"], one["height"], one["width"]), one["probability"])
        for one in explanation.tiles["shown"]
    ]
    grids = [
        np.frombuffer(one.grid, "<f4").reshape(len(shown), one.height // len(shown), one.width)
        for one in explanation.visualization_maps
    ]
    maps, _ = render_map(grids, (64, 64), decision.settings.explanation["gate"])
    recorded = decision.settings.explanation["tiling"]
    tiling = Tiling(tuple(recorded["size"]), recorded["overlap"], recorded["overview"], recorded["growth"])
    size = (decision.image_height, decision.image_width)
    return stitch(maps, shown, tiling, line.classifier.preprocessing, size)


@pytest.mark.slow
def test_maps_of_huge_images_have_coarser_cells_and_regions_in_pixels(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = pipeline(directory).explain(desks.png(300, 200)).explanations[0]
    monkeypatch.setattr(stitching, "MAP_PIXELS", 300 * 200 // 4)
    coarse = pipeline(directory).explain(desks.png(300, 200)).explanations[0]
    assert coarse.attribution_map.shape == (100, 150)
    means = fine.attribution_map.reshape(100, 2, 150, 2).mean(axis=(1, 3))
    assert np.corrcoef(means.ravel(), coarse.attribution_map.ravel())[0, 1] > 0.98
    boxes = np.array([region.box for region in coarse.regions])
    assert (boxes % 2 == 0).all() and (boxes[:, 0] + boxes[:, 2]).max() > 150


def test_the_tiles_scores_are_on_the_images_scale(directory: Path) -> None:
    """The worst tile alone would be called as the image is."""
    classifier = pipeline(directory, Tiling((64, 64), 16, growth=0.4)).classifier
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    prediction = classifier.predict([pixels])[0]
    assert prediction.tile_logits is not None
    tiles = tile_probabilities(classifier, prediction.tile_logits)
    good = classifier.classes.index("good")
    assert tiles[:, good].min() >= prediction.probabilities[good] - 1e-6
    assert tiles[:, 1].max() == pytest.approx(prediction.probabilities[1], abs=0.15)


def test_of_several_defects_each_is_explained_before_any_is_explained_again() -> None:
    views = Tiling((64, 64), 16).views((64, 400))
    assert len(views) == 8
    probabilities = np.array([0.9, 0.8, 0.05, 0.3, 0.2, 0.05, 0.05, 0.6])
    assert choose_tiles(views, probabilities, 3) == (0, 7, 3)
    assert choose_tiles(views, probabilities, 5) == (0, 1, 7, 3, 4)
    assert choose_tiles(views, np.full(8, 0.01), 12) == (0,)


@pytest.mark.slow
def test_explain_says_which_tiles_it_looked_at(directory: Path, tmp_path: Path) -> None:
    model = tmp_path / "tiled"
    pipeline(directory).classifier.save(model)
    photograph = tmp_path / "large.png"
    Image.open(io.BytesIO(desks.png(300, 200))).save(photograph)
    out = tmp_path / "out"
    result = CliRunner().invoke(application, ["explain", str(model), str(photograph), "--out", str(out)])
    assert result.exit_code == 0, result.output
    record = json.loads((out / "large.json").read_text())
    assert record["tiles"]["looked_at"] == len(TILING.views((200, 300)))
    assert {"top", "left", "height", "width", "probability"} == set(record["tiles"]["shown"][0])
    assert record["map_step"] == 1
    assert np.load(out / "large.npy").shape == (200, 300)
