"""Both models' maps of the same images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from inspection_models.data import Box, Sample
from inspection_models.gate import ComparedModel, Evidence, compare_explanations
from inspection_models.gate.explanations import DIFFERENT, OVER_LIMIT, UNMARKED, Explainer, figures_of
from inspection_models.gate.golden import GoldenSet
from tests.inspection_models.gate_material import answer, golden, image, model

SIZE = (40, 60)


def perfect(sample: Sample, label: str) -> Evidence:
    inside = np.zeros(SIZE, np.bool_)
    for box in sample.boxes:
        if box.label == label:
            inside[box.y : box.y + box.height, box.x : box.x + box.width] = True
    return Evidence(inside.astype(np.float32), inside)


def blind(sample: Sample, label: str) -> Evidence:
    return Evidence(np.ones(SIZE, np.float32), np.zeros(SIZE, np.bool_))


def material(labels: list[str], said: list[str], *, marked: bool = True) -> tuple[GoldenSet, ComparedModel]:
    images = [image(n, label) for n, label in enumerate(labels)]
    boxes = [
        (Box(label, 5 + n % 20, 7, 12, 9),) if marked and label != "good" else () for n, label in enumerate(labels)
    ]
    samples = tuple(
        Sample(Path(one.file), label, one.group, one.sha256, boxes=box)
        for one, label, box in zip(images, labels, boxes, strict=True)
    )
    return golden(images, samples=samples), model([answer(label) for label in said])


def test_the_better_map_wins_on_the_same_images() -> None:
    labels = ["crack"] * 20 + ["pit"] * 20 + ["good"] * 5
    chosen, side = material(labels, labels)
    found = compare_explanations(chosen, (side, perfect), (side, blind), limit=30, seed=1)
    assert (found.marked, found.left_out) == (40, {OVER_LIMIT: 10})
    assert [one.label for one in found.images].count("crack") == 15
    assert found.figures["ap"].candidate.value == 1
    assert found.figures["ap"].service.value == pytest.approx(12 * 9 / (40 * 60))
    assert found.figures["region_iou"].candidate.value == 1
    assert found.figures["region_iou"].service.value == 0
    assert found.figures["ebpg"].difference.low > 0.9
    mirrored = compare_explanations(chosen, (side, blind), (side, perfect), limit=30, seed=1)
    assert mirrored.figures["ap"].difference.high == pytest.approx(-found.figures["ap"].difference.low)
    again = compare_explanations(chosen, (side, perfect), (side, blind), limit=30, seed=1)
    assert again == found
    assert compare_explanations(chosen, (side, perfect), (side, blind), limit=30, seed=2).images != found.images


def test_only_marked_defects_that_both_decide_rightly_are_explained() -> None:
    labels = ["crack", "crack", "pit", "good"]
    chosen, right = material(labels, labels)
    _, wrong = material(labels, ["crack", "good", "crack", "good"])

    def never(sample: Sample, label: str) -> Evidence:
        assert sample.path.name == "0.png"
        return perfect(sample, label)

    explainers: tuple[Explainer, Explainer] = (never, never)
    found = compare_explanations(chosen, (right, explainers[0]), (wrong, explainers[1]), limit=9)
    assert [one.place for one in found.images] == [0]
    assert (found.marked, found.left_out) == (3, {DIFFERENT: 2})
    plain, side = material(labels, labels, marked=False)
    nothing = compare_explanations(plain, (side, never), (side, never), limit=9)
    assert (nothing.marked, nothing.figures) == (0, {})


def test_a_mask_that_marks_nothing_is_left_out(tmp_path: Path) -> None:
    chosen, side = material(["crack"], ["crack"])
    buffer = io.BytesIO()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(buffer, "PNG")
    (tmp_path / "mask.png").write_bytes(buffer.getvalue())
    empty = Sample(Path("0.png"), "crack", "0", "0", mask_path=tmp_path / "mask.png")
    found = compare_explanations(golden(chosen.images, samples=(empty,)), (side, blind), (side, blind), limit=9)
    assert (found.left_out, found.images, found.figures) == ({UNMARKED: 1}, (), {})


def test_figures_are_taken_on_the_pictures_own_pixels_and_large_ones_are_shrunk() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((50, 70), np.bool_)
    truth[10:30, 20:40] = True
    values = rng.random((50, 70)).astype(np.float32) + truth
    found = figures_of(Evidence(values, truth), truth)
    assert found["ap"] == pytest.approx(average_precision_score(truth.ravel(), values.ravel()))
    assert found["ebpg"] == pytest.approx(float(values[truth].sum() / values.sum()), rel=1e-5)
    large = np.zeros((3000, 900), np.bool_)
    large[5:7, 5:7] = True
    small = figures_of(Evidence(large.astype(np.float32), large), large)
    assert small["ap"] == 1, "a defect of less than a pixel is still found where it is"
