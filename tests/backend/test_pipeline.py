"""One pipeline: what it explains, and that its record says what was computed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.decider import Decider
from backend.pipeline import ClassChoiceError, DecisionPipeline
from db.engine import Database
from inspection_models.attribution import render_map
from inspection_models.attribution.fusion import Gate
from inspection_models.classifier import DefectClassifier
from inspection_models.decision_lines import ReviewLines
from inspection_models.images import ImageError
from inspection_models.model_card import ExplanationSettings, Thresholds
from inspection_models.regions import regions
from tests.backend import desks


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> DecisionPipeline:
    return DecisionPipeline(DefectClassifier.load(desks.write_model(tmp_path_factory.mktemp("m") / "tiny")))


@pytest.mark.slow
def test_the_predicted_defect_comes_first_then_probable_ones_never_good(pipeline: DecisionPipeline) -> None:
    explained = pipeline.explain(desks.png())
    labels = [one.label for one in explained.explanations]
    assert labels[0] == explained.prediction.label == "crack"
    assert "good" not in labels
    for one in explained.explanations[1:]:
        assert one.probability >= 0.10
    assert set(explained.timings_ms) == {"decode", "classify", "attribute", "regions"}


@pytest.mark.slow
def test_of_a_part_left_to_a_person_the_likeliest_defect_is_explained(tmp_path: Path) -> None:
    classifier = DefectClassifier.load(desks.write_model(tmp_path / "good", favourite="good"))
    sure = DecisionPipeline(classifier).explain(desks.png())
    lines = Thresholds(decision=0.99, review=ReviewLines(good_below=0.0))
    doubtful = DecisionPipeline(classifier.with_settings(thresholds=lines)).explain(desks.png())
    assert (sure.prediction.verdict, doubtful.prediction.verdict) == ("good", "review")
    scores = dict(zip(classifier.classes, doubtful.prediction.probabilities, strict=True))
    assert doubtful.explanations[0].label == max(("crack", "stain"), key=lambda name: scores[name])


@pytest.mark.slow
def test_every_decided_class_is_explained_the_most_probable_first(pipeline: DecisionPipeline) -> None:
    # Below the probability from which a class is explained that was not decided.
    lines = Thresholds(decision=0.001, classes={"stain": 0.001, "crack": 0.001})
    several = pipeline.classifier.with_settings(activation="sigmoid", thresholds=lines)
    explained = DecisionPipeline(several).explain(desks.png())
    assert explained.prediction.labels == ("crack", "stain")
    assert [one.label for one in explained.explanations] == ["crack", "stain"]


@pytest.mark.slow
def test_classes_are_explained_together_and_each_as_if_alone(pipeline: DecisionPipeline) -> None:
    both = pipeline.explain(desks.png(), classes=["crack", "stain"])
    assert [one.label for one in both.explanations] == ["crack", "stain"]
    assert both.masks_scored == int(both.explanations[1].attribution.masks_scored[0]) > 0
    for one in both.explanations:
        alone = pipeline.explain(desks.png(), classes=[one.label])
        np.testing.assert_allclose(one.attribution_map, alone.explanations[0].attribution_map, atol=1e-5)
        assert alone.masks_scored < both.masks_scored


def test_regions_of_another_method_are_cut_where_suits_its_maps(pipeline: DecisionPipeline) -> None:
    [explanation] = pipeline.explain(desks.png(), classes=["crack"], method="quorum").explanations
    assert explanation.attribution.settings == {"method": "quorum", "mirrored": True, "activation": "softmax"}
    expected = regions(explanation.attribution_map, 0.08, minimum_area=0.0005)
    assert [region.box for region in explanation.regions] == [region.box for region in expected]


def test_an_unknown_class_is_refused_before_work(pipeline: DecisionPipeline) -> None:
    with pytest.raises(ClassChoiceError, match="good, crack, stain"):
        pipeline.explain(b"no image at all", classes=["rust"])
    with pytest.raises(ImageError):
        pipeline.explain(b"no image at all")


@pytest.mark.slow
@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_are_in_the_image_as_it_is_shown(pipeline: DecisionPipeline, orientation: int) -> None:
    upright = pipeline.explain(turned(1))
    shown = pipeline.explain(turned(orientation))
    assert shown.image.exif_orientation == orientation
    assert shown.image.pixels.shape == upright.image.pixels.shape
    assert np.array_equal(shown.image.pixels, upright.image.pixels)
    assert np.array_equal(shown.explanations[0].attribution_map, upright.explanations[0].attribution_map)


def turned(orientation: int) -> bytes:
    """The same picture as it is shown, stored turned, with the tag that turns it back."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    picture = Image.open(io.BytesIO(desks.png(61, 40)))
    stored = picture.transpose(undo[orientation]) if orientation != 1 else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, format="PNG", exif=exif)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "gate", "levels"), [("sise", "soft", 4), ("quorum", "product", 5)])
def test_a_decision_is_recorded_once_and_its_maps_render_again_to_the_bit(
    pipeline: DecisionPipeline, own_database: Database, method: str, gate: Gate, levels: int
) -> None:
    options: dict[str, bool | int | float | str] = {"gate": gate} if method == "sise" else {}
    settings = ExplanationSettings(method, options)
    pipeline = DecisionPipeline(pipeline.classifier.with_settings(explanation=settings))
    decider = Decider(pipeline, own_database)
    first = decider.decide(desks.png())
    assert decider.decide(desks.png()) == first
    explanation = first.explanations[0]
    grids = [
        np.frombuffer(one.grid, dtype="<f4").reshape(1, one.height, one.width) for one in explanation.visualization_maps
    ]
    recorded = first.settings.explanation
    assert (recorded["gate"], recorded["revision"]) == (gate, 1)
    assert len(grids) == levels and (first.masks_scored > 0) == (method == "sise")
    again, _ = render_map(grids, (explanation.height, explanation.width), recorded["gate"])
    shown = pipeline.explain(desks.png()).explanations[0]
    assert again.tobytes() == np.asarray(shown.attribution.map).tobytes()
    import hashlib

    assert hashlib.sha256(again.tobytes()).hexdigest() == explanation.map_sha256
    logits = np.frombuffer(first.logits, dtype="<f4")
    probabilities = torch.softmax(torch.from_numpy(logits.copy()), 0).numpy()
    assert np.allclose(probabilities, [first.scores[name] for name in desks.CLASSES], atol=1e-6)


@pytest.mark.slow
def test_another_model_decides_anew(pipeline: DecisionPipeline, own_database: Database, tmp_path: Path) -> None:
    first = Decider(pipeline, own_database).decide(desks.png())
    other = DecisionPipeline(DefectClassifier.load(desks.write_model(tmp_path / "other", seed=1)))
    second = Decider(other, own_database).decide(desks.png())
    assert first.decision_id != second.decision_id
    assert first.image_sha256 == second.image_sha256
