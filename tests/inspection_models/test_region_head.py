"""The head that draws regions: learned to the bit, kept with its hash, refused where it does not belong."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch.nn import functional

from inspection_models.classifier import DefectClassifier, ModelError
from inspection_models.data import Sample
from inspection_models.model_card import CARD_FILE
from inspection_models.networks import build_network
from inspection_models.preprocessing import Preprocessing
from inspection_models.region_drawing import draw_regions, mask_of
from inspection_models.region_features import Evidence, PixelFeatures, Sight
from inspection_models.region_head import HEAD_FILE, Photograph, RegionHead, RegionHeadError, _loss, _window, fit_head
from inspection_models.region_learning import (
    FEWEST_TO_JUDGE,
    FEWEST_TO_LEARN,
    LIT_GOOD_SHARE,
    _to_learn_from,
    head_maps_of,
    learn_regions,
    marked_images,
)
from inspection_models.region_settings import RegionDrawing, RegionHeadSettings
from inspection_models.risk import RiskError


@pytest.fixture(scope="module")
def classifier() -> DefectClassifier:
    torch.manual_seed(0)
    return DefectClassifier.assemble(
        build_network("squeezenet1_1", 2, pretrained=False),
        name="tiny",
        architecture="squeezenet1_1",
        classes=("good", "stain"),
        good_class="good",
        preprocessing=Preprocessing("letterbox", (64, 64), (127.0,) * 3, (128.0,) * 3),
    )


def part(seed: int, *, stained: bool) -> tuple[np.ndarray, np.ndarray]:
    """A grey part of 60 x 80 pixels, with or without a dark ellipse, and where that is."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((60, 80), np.uint8)
    if stained:
        centre, axes = (int(rng.integers(15, 65)), int(rng.integers(15, 45))), (int(rng.integers(6, 13)), 7)
        cv2.ellipse(truth, centre, axes, 0, 0, 360, 1, -1)
    grey = 150 - 70.0 * truth + rng.normal(0, 6, truth.shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2), truth > 0


def evidence_of(truth: np.ndarray, seed: int) -> Evidence:
    """A map that says little: brightest somewhere in the defect, whatever its shape."""
    rng = np.random.default_rng(seed)
    seen = np.zeros(truth.shape, np.float32)
    there = np.argwhere(truth) if truth.any() else np.argwhere(~truth)
    row, column = there[rng.integers(len(there))]
    seen[row, column] = 1
    return Evidence("stain", cv2.GaussianBlur(seen, (0, 0), 9))


def learned(classifier: DefectClassifier, seed: int = 0) -> RegionHead:
    features = PixelFeatures(classifier)
    shown = []
    for number in range(30):
        pixels, truth = part(number, stained=number % 3 > 0)
        shown.append(Photograph.of(features, pixels, evidence_of(truth, number), truth))
    return fit_head(shown, seed=seed)


def foreign_head() -> RegionHead:
    """A head for a network whose places have five features."""
    places = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij"), dim=-1)
    sight = Sight((torch.randn(1, 2, 8, 8),), torch.randn(2, 8, 8), torch.ones(1), places)
    return fit_head([Photograph(sight, (torch.arange(64) % 2).float().reshape(8, 8))])


@pytest.fixture(scope="module")
def head(classifier: DefectClassifier) -> RegionHead:
    return learned(classifier)


@pytest.mark.slow
def test_a_head_draws_what_it_was_shown_and_nothing_on_good_parts(
    classifier: DefectClassifier, head: RegionHead
) -> None:
    features, overlaps = PixelFeatures(classifier), []
    for number in range(100, 112):
        pixels, truth = part(number, stained=True)
        drawn = head.draw(features, pixels, evidence_of(truth, number))
        assert drawn.shape == truth.shape and drawn.dtype == np.float32 and 0 <= drawn.min() <= drawn.max() <= 1
        overlaps.append(((drawn >= 0.5) & truth).sum() / ((drawn >= 0.5) | truth).sum())
        pixels, nowhere = part(number, stained=False)
        assert (head.draw(features, pixels, evidence_of(nowhere, number)) >= 0.5).mean() < 0.02
    assert np.mean(overlaps) > 0.6


@pytest.mark.slow
def test_the_same_places_and_seed_give_the_same_head(classifier: DefectClassifier, head: RegionHead) -> None:
    torch.manual_seed(77)
    before = torch.random.get_rng_state()
    assert learned(classifier).weights == head.weights
    assert torch.equal(torch.random.get_rng_state(), before)
    assert learned(classifier, seed=1).weights_sha256 != head.weights_sha256


def test_nothing_is_lost_of_a_speck_and_a_head_needs_both_sides(classifier: DefectClassifier) -> None:
    pixels, _ = part(0, stained=False)
    speck = np.zeros((60, 80), np.bool_)
    speck[30, 41] = True
    features = PixelFeatures(classifier)
    one = Photograph.of(features, pixels, evidence_of(speck, 0), speck)
    assert one.covered.shape == one.sight.shape
    assert float(one.covered.max()) == 1.0 and int((one.covered > 0).sum()) <= 4
    none = Photograph.of(features, pixels, evidence_of(speck, 0), ~speck & speck)
    assert not none.covered.any()
    with pytest.raises(RegionHeadError, match="with and without"):
        fit_head([none])
    with pytest.raises(RegionHeadError, match="with and without"):
        fit_head([])


def test_what_is_read_of_a_window_is_the_first_layer_on_its_places(classifier: DefectClassifier) -> None:
    features = PixelFeatures(classifier)
    pixels, truth = part(3, stained=True)
    sight = features.of(pixels, evidence_of(truth, 3))
    rows, columns = sight.shape
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    whole = sight.at(down.flatten(), across.flatten()).reshape(-1, rows, columns)
    assert whole.shape[0] == features.dimensions and whole.dtype == torch.float32
    assert whole[-2:].flatten(1).T.unique(dim=0).tolist() == [[0.0, 1.0]]

    torch.manual_seed(1)
    head = RegionHead(whole.mean(dim=(1, 2)), whole.std(dim=(1, 2)) + 1e-3).eval()
    scaled = ((whole - head.mean[:, None, None]) / head.spread[:, None, None]).double()
    weight, bias = head.reading.weight.double(), head.reading.bias.double()
    expected = torch.einsum("kc,crs->krs", weight, scaled) + bias[:, None, None]
    torch.testing.assert_close(head.read(sight).double(), expected, atol=1e-3, rtol=1e-3)
    window = head.read(sight, slice(3, 9), slice(5, 20))
    torch.testing.assert_close(window.double(), expected[:, 3:9, 5:20], atol=1e-3, rtol=1e-3)
    off = (head.read(sight.shortened()).double() - expected).detach().abs().mean()
    # A network that begins at random, whose features hardly differ from place to place, is the hardest case.
    assert float(off) < 0.05 * float(expected.detach().abs().mean())
    huge = replace(sight, blocks=tuple(1e9 * maps for maps in sight.blocks))
    assert bool(torch.isfinite(huge.shortened().weighted(torch.ones(1, len(whole)))).all())
    assert sight.shortened().nbytes < 0.7 * sight.nbytes


@pytest.mark.parametrize("size", [(112, 112), (40, 112), (30, 20), (1, 112), (90, 70)])
def test_windows_lie_in_the_photograph_and_what_is_read_in_them_belongs_to_what_is_wanted(
    size: tuple[int, int],
) -> None:
    rows, columns = size
    numbers = torch.arange(rows * columns, dtype=torch.float32).reshape(rows, columns)
    covered = torch.zeros(rows, columns)
    covered[rows // 3, columns // 2] = 1
    # The one feature of a place is its number, and the head hands it on.
    sight = Sight((), numbers[None], torch.zeros(0), torch.zeros(rows, columns, 2))
    photograph = Photograph(sight, covered * (numbers + 1))
    head = RegionHead(torch.zeros(1), torch.ones(1)).eval()
    with torch.no_grad():
        head.reading.weight.fill_(1)
        head.reading.bias.fill_(1)
    rng, window, hits = np.random.default_rng(0), (64, 64), 0
    for _ in range(60):
        read, wanted = _window(head, photograph, window, rng)
        assert read.shape == (32, *window) and wanted.shape == window
        inside = wanted >= 0
        assert int(inside.sum()) == min(rows, 64) * min(columns, 64)
        assert torch.equal(read[0][wanted > 0], wanted[wanted > 0])
        assert len(read[0][inside].unique()) == int(inside.sum())
        assert not read[0][~inside].any()
        hits += bool((wanted > 0).any())
    assert hits >= 35


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 3), (2, 2)])
def test_any_picture_can_be_drawn_on(classifier: DefectClassifier, head: RegionHead, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    drawn = head.draw(PixelFeatures(classifier), pixels, Evidence("stain", np.zeros(size, np.float32)))
    assert drawn.shape == size and 0 <= drawn.min() <= drawn.max() <= 1


def test_what_is_beyond_a_photograph_counts_for_nothing() -> None:
    judged, wanted = torch.randn(3, 6, 9), (torch.rand(3, 6, 9) > 0.7).float()
    wanted[2] = 0
    padded = functional.pad(judged, (0, 4, 0, 2), value=7.0), functional.pad(wanted, (0, 4, 0, 2), value=-1.0)
    found = float(_loss(*padded))
    assert found == pytest.approx(float(_loss(judged, wanted)), abs=1e-5)

    p, t = 1 / (1 + np.exp(-judged.double().numpy())), wanted.double().numpy()
    entropy = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
    dice = [1 - (2 * (p[n] * t[n]).sum() + 1) / (p[n].sum() + t[n].sum() + 1) for n in (0, 1)]
    assert found == pytest.approx(entropy + np.mean(dice), abs=1e-5)


def test_a_model_keeps_its_head_and_refuses_another(
    classifier: DefectClassifier, head: RegionHead, tmp_path: Path
) -> None:
    drawing = RegionDrawing("learned", RegionHeadSettings(head.weights_sha256, 0.4), origin={"images": 20})
    drawn = classifier.with_head(classifier.card.with_settings(regions=drawing), head)
    assert drawn.version.fingerprint != classifier.version.fingerprint
    told = drawn.card.with_settings(regions=replace(drawing, origin={}))
    assert told.fingerprint == drawn.card.fingerprint
    drawn.save(tmp_path / "model")
    again = DefectClassifier.load(tmp_path / "model")
    assert again.card == drawn.card
    assert again.region_head is not None and again.region_head.weights == head.weights
    pixels, truth = part(5, stained=True)
    features = PixelFeatures(again)
    shown = again.region_head.draw(features, pixels, evidence_of(truth, 5))
    assert shown.tobytes() == head.draw(PixelFeatures(classifier), pixels, evidence_of(truth, 5)).tobytes()
    assert again.with_settings(name="other").region_head is again.region_head

    path = tmp_path / "model" / HEAD_FILE
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"regions\.head\.weights_sha256"):
        DefectClassifier.load(tmp_path / "model")
    path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        DefectClassifier.load(tmp_path / "model")
    with pytest.raises(ModelError, match="not the one that the card states"):
        classifier.with_head(drawn.card, None)
    with pytest.raises(ModelError, match="not the one that the card states"):
        classifier.with_head(classifier.card, head)


@pytest.mark.slow
def test_a_head_of_another_network_or_a_damaged_one_is_refused(classifier: DefectClassifier) -> None:
    foreign = foreign_head()
    pixels, truth = part(5, stained=True)
    with pytest.raises(RegionHeadError, match="another network"):
        foreign.draw(PixelFeatures(classifier), pixels, evidence_of(truth, 5))
    with pytest.raises(RegionHeadError, match="cannot be used"):
        RegionHead.of_weights(b"nothing of the kind")
    former = safetensors.torch.save({"mean": torch.zeros(5), "spread": torch.ones(5), "layers.0.weight": torch.ones(1)})
    with pytest.raises(RegionHeadError, match="another version of this program"):
        RegionHead.of_weights(former)


@pytest.mark.slow
def test_a_head_that_cannot_be_used_is_refused_when_the_model_is_read(
    classifier: DefectClassifier, head: RegionHead, tmp_path: Path
) -> None:
    def stated(found: RegionHead, folder: Path) -> Path:
        drawing = RegionDrawing("learned", RegionHeadSettings(found.weights_sha256))
        classifier.with_head(classifier.card.with_settings(regions=drawing), found).save(folder)
        return folder

    newer, older = stated(head, tmp_path / "newer"), stated(learned(classifier, seed=1), tmp_path / "older")
    (newer / HEAD_FILE).write_bytes((older / HEAD_FILE).read_bytes())
    with pytest.raises(ModelError, match=rf"newer/{HEAD_FILE}: its sha256 is .* changed or damaged"):
        DefectClassifier.load(newer)

    foreign = foreign_head()
    with pytest.raises(ModelError, match=rf"foreign/{HEAD_FILE}: .* learned on another network"):
        DefectClassifier.load(stated(foreign, tmp_path / "foreign"))

    content = (older / HEAD_FILE).read_bytes()[:100]
    (older / HEAD_FILE).write_bytes(content)
    drawing = RegionDrawing("learned", RegionHeadSettings(hashlib.sha256(content).hexdigest()))
    card = classifier.card.with_settings(regions=drawing)
    (older / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    with pytest.raises(ModelError, match=rf"older/{HEAD_FILE}: .* cannot be used"):
        DefectClassifier.load(older)


def samples(folder: Path, stained: int, good: int, first: int, *, masks: bool = True) -> list[Sample]:
    found = []
    for number in range(first, first + stained + good):
        is_stained = number < first + stained
        pixels, truth = part(number, stained=is_stained)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        mask = None
        if is_stained and masks:
            mask = folder / f"{number}_mask.png"
            Image.fromarray(truth.astype(np.uint8) * 255).save(mask)
        found.append(Sample(path, "stain" if is_stained else "good", str(number), f"{number:064}", mask_path=mask))
    return found


@pytest.mark.slow
def test_what_is_learned_depends_on_what_is_there_and_says_so(classifier: DefectClassifier, tmp_path: Path) -> None:
    bare = learn_regions(
        classifier, samples(tmp_path, 3, 2, 0, masks=False), samples(tmp_path, 2, 6, 10), data_sha256="d" * 64
    ).classifier
    assert bare.region_head is None and bare.card.regions.drawn_by == "snapped"
    assert bare.thresholds.region == classifier.thresholds.region
    assert bare.card.regions.origin["marked_images"] == {"train": 0, "validation": 2}

    train = samples(tmp_path, FEWEST_TO_LEARN, 4, 100)
    validation = samples(tmp_path, FEWEST_TO_JUDGE, 10, 200)
    found = learn_regions(classifier, train, validation, data_sha256="d" * 64)
    regions = found.classifier.card.regions
    assert found.classifier.region_head is not None and regions.head is not None
    assert set(found.overlaps) == {"map", "snapped", "learned"}
    assert found.overlaps[regions.drawn_by].value == max(one.value for one in found.overlaps.values())
    assert regions.origin["data_sha256"] == "d" * 64
    assert regions.origin["marked_images"] == {"train": FEWEST_TO_LEARN, "validation": FEWEST_TO_JUDGE}
    assert regions.lit_from is not None
    lit = [
        float(classifier.predict([part(number, stained=False)[0]])[0].probabilities[1]) >= regions.lit_from
        for number in range(200 + FEWEST_TO_JUDGE, 200 + FEWEST_TO_JUDGE + 10)
    ]
    assert sum(lit) <= LIT_GOOD_SHARE * 10


@pytest.mark.slow
def test_regions_keep_to_a_stated_coverage_or_are_refused(classifier: DefectClassifier, tmp_path: Path) -> None:
    train, validation = samples(tmp_path, FEWEST_TO_LEARN, 4, 100), samples(tmp_path, 20, 2, 200)
    found = learn_regions(classifier, train, validation, data_sha256="d" * 64, coverage=0.8).classifier
    regions = found.card.regions
    assert regions.drawn_by in ("map", "learned") and regions.origin["coverage"] == 0.8
    images = marked_images(found, validation)
    masks = [
        mask_of(
            draw_regions(one.pixels, one.attribution_map, found.thresholds.region, regions, head_map=drawn),
            (one.truth.shape[0], one.truth.shape[1]),
        )
        for one, drawn in zip(images, head_maps_of(found, images), strict=True)
    ]
    left_out = [float((one.truth & ~mask).sum() / one.truth.sum()) for one, mask in zip(images, masks, strict=True)]
    assert (sum(left_out) + 1) / 21 <= 0.2
    with pytest.raises(RiskError, match="99 are needed"):
        learn_regions(classifier, train, validation, data_sha256="d" * 64, coverage=0.99)


def test_as_many_images_are_learned_from_as_memory_holds(
    classifier: DefectClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = samples(tmp_path, 2 * FEWEST_TO_LEARN, 20, 100)
    pixels, truth = part(0, stained=True)
    each = PixelFeatures(classifier).of(pixels, evidence_of(truth, 0)).shortened().nbytes
    for room, kept in ((1000, (40, 20)), (45, (30, 15)), (10, (FEWEST_TO_LEARN, 3))):
        monkeypatch.setattr("inspection_models.region_learning._MEMORY_BYTES", room * each)
        marked, good = _to_learn_from(classifier, train, seed=0)
        assert (len(marked), len(good)) == kept
        assert {one.label for one in marked} == {"stain"} and {one.label for one in good} == {"good"}
