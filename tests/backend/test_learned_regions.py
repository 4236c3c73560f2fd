"""Regions that a head draws: from the pipeline to the record, and from the record to Label Studio."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from backend import decision_regions
from backend.decider import Decider
from backend.label_studio.binding import bind
from backend.label_studio.labeling_config import parse
from backend.label_studio.results import ExplainedVerdict, to_prediction, validate
from backend.pipeline import DecisionPipeline
from db import decisions
from db.engine import Database
from inspection_models.classifier import DefectClassifier
from inspection_models.region_features import Evidence, PixelFeatures
from inspection_models.region_head import Photograph, fit_head
from inspection_models.region_settings import RegionDrawing, RegionHeadSettings
from tests.backend import desks

SIZE = (64, 96)
SPOTS = ((12, 12), (30, 66))


def spotted(seed: int, corners: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    """A dark part [64, 96, 3] with bright squares at these rows and columns, and where those are."""
    truth = np.zeros(SIZE, np.bool_)
    for row, column in corners:
        truth[row : row + 18, column : column + 18] = True
    grey = 70 + 120.0 * truth + np.random.default_rng(seed).normal(0, 5, SIZE)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2), truth


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DefectClassifier:
    """A model whose head draws bright squares, whatever the map says."""
    classifier = DefectClassifier.load(desks.write_model(tmp_path_factory.mktemp("m") / "tiny"))
    features, rng, shown = PixelFeatures(classifier), np.random.default_rng(0), []
    for number in range(16):
        corner = (int(rng.integers(0, SIZE[0] - 18)), int(rng.integers(0, SIZE[1] - 18)))
        pixels, truth = spotted(number, (corner,))
        coarse = rng.random((int(rng.integers(2, 9)), int(rng.integers(2, 9))), np.float32)
        anything = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
        shown.append(Photograph.of(features, pixels, Evidence("crack", anything), truth))
    head = fit_head(shown)
    drawing = RegionDrawing("learned", RegionHeadSettings(head.weights_sha256))
    return classifier.with_head(classifier.card.with_settings(regions=drawing), head)


@pytest.fixture(scope="module")
def photograph() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(spotted(99, SPOTS)[0]).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def half_supported(drawn: DefectClassifier, photograph: bytes) -> DefectClassifier:
    """The same model with a line between the evidence of the two regions, so that only one has enough."""
    [shown] = DecisionPipeline(drawn).explain(photograph, classes=["crack"]).explanations
    first, second = (region.evidence for region in shown.regions)
    assert first > second
    regions = replace(drawn.card.regions, least_evidence=(first + second) / 2)
    return drawn.with_settings(regions=regions)


@pytest.mark.slow
def test_the_pipeline_shows_what_the_head_draws_and_says_where_the_map_does_not_agree(
    half_supported: DefectClassifier, photograph: bytes
) -> None:
    [shown] = DecisionPipeline(half_supported).explain(photograph, classes=["crack"]).explanations
    assert [region.drawn_by for region in shown.regions] == ["learned", "learned"]
    assert [region.has_evidence for region in shown.regions] == [True, False]
    found, (_, truth) = np.zeros(SIZE, np.bool_), spotted(99, SPOTS)
    for region in shown.regions:
        x, y, width, height = region.box
        found[y : y + height, x : x + width] |= region.mask
        under = shown.attribution_map[y : y + height, x : x + width][region.mask].sum()
        assert region.evidence == pytest.approx(under / shown.attribution_map.sum(), rel=1e-4)
    assert (found & truth).sum() / (found | truth).sum() > 0.6


@pytest.mark.slow
def test_regions_of_another_method_are_not_the_heads(drawn: DefectClassifier, photograph: bytes) -> None:
    [shown] = DecisionPipeline(drawn).explain(photograph, classes=["crack"], method="quorum").explanations
    assert shown.regions
    assert "learned" not in {region.drawn_by for region in shown.regions}


@pytest.mark.slow
def test_the_record_keeps_who_drew_and_label_studio_is_told(
    half_supported: DefectClassifier, photograph: bytes, database: Database
) -> None:
    pipeline = DecisionPipeline(half_supported)
    decided = Decider(pipeline, database).decide(photograph)
    with database.read() as session:
        kept = decisions.find_by_key(session, decided.decision_key)
    assert kept is not None
    of_crack = [record for record in kept.regions if record["class"] == "crack"]
    assert [(record["drawn_by"], record["has_evidence"]) for record in of_crack] == [
        ("learned", True),
        ("learned", False),
    ]
    [computed] = pipeline.explain(photograph, classes=["crack"]).explanations
    back = [decision_regions.from_record(record) for record in of_crack]
    for one, region in zip(back, computed.regions, strict=True):
        assert (one.drawn_by, one.has_evidence, one.box) == (region.drawn_by, region.has_evidence, region.box)
        assert np.array_equal(one.mask, region.mask) and np.array_equal(one.polygon, region.polygon)

    config = parse(desks.CONFIG)
    binding = bind(config, desks.CLASSES, "good")
    verdict = ExplainedVerdict("crack", 0.9, str(kept.decision_id), SIZE, tuple(back), "tiny-1")
    prediction = to_prediction(verdict, binding)
    assert validate(prediction, config) == ()
    supported, unsupported = [item["meta"]["text"] for item in prediction["result"] if "meta" in item]
    assert supported[0].startswith("crack: ") and "drawn from learned masks" in supported[0]
    assert unsupported[0].startswith("NO EVIDENCE UNDER IT: crack: ") and "drawn from learned masks" in unsupported[0]


@pytest.mark.slow
def test_a_saved_model_draws_the_same_to_the_bit(
    half_supported: DefectClassifier, photograph: bytes, tmp_path: Path
) -> None:
    half_supported.save(tmp_path / "model")
    again = DecisionPipeline(DefectClassifier.load(tmp_path / "model"))
    one, other = (
        pipeline.explain(photograph, classes=["crack"]).explanations[0].regions
        for pipeline in (DecisionPipeline(half_supported), again)
    )
    assert [region.mask.tobytes() for region in one] == [region.mask.tobytes() for region in other]
    assert [region.evidence for region in one] == [region.evidence for region in other]
