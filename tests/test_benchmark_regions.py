"""What region-overlap says of its trainings: by hand, and with a model that is not one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import region_overlap
from benchmarks.documents import PUBLISHED
from benchmarks.region_overlap import Case, measured, pooled, with_masks
from benchmarks.region_tables import region_table
from inspection_models.data import Sample
from inspection_models.region_learning import MarkedImage
from inspection_models.region_settings import RegionDrawing, RegionHeadSettings

MACHINE = {"cpu": "A processor", "threads": 2, "packages": {"torch": "2.13.0"}}


def training(
    cut: list[float], snapped: list[float], learned: list[float] | None = None, **changes: Any
) -> dict[str, Any]:
    return {
        "balanced_accuracy": 0.8,
        "threshold": 0.08,
        "head_threshold": 0.4,
        "chosen": "snapped",
        "masks": 100,
        "groups": ["a", "a", "b", "c"],
        "labels": ["pit", "pit", "pit", "fray"],
        "shares": [0.002, 0.004, 0.03, 0.2],
        "right": [True, True, False, True],
        "overlaps": {"map": cut, "snapped": snapped} | ({} if learned is None else {"learned": learned}),
    } | changes


ONE = training([0.1, 0.1, 0.2, 0.4], [0.2, 0.2, 0.3, 0.5], [0.3, 0.5, 0.4, 0.8])
OTHER = training([0.3, 0.3, 0.2, 0.2], [0.4, 0.4, 0.3, 0.3], [0.5, 0.3, 0.6, 0.6], head_threshold=0.6)


def test_a_photograph_counts_once_and_each_size_by_itself() -> None:
    found = pooled([ONE, OTHER])
    everything, small, large = (found["sizes"][name] for name in ("all", "small", "large"))
    assert [(one["images"], one["groups"]) for one in (everything, small, large)] == [(4, 3), (2, 1), (1, 1)]
    assert everything["ways"]["map"]["value"] == pytest.approx(0.225)
    assert everything["ways"]["map"]["by_training"] == [0.2, 0.25]
    assert everything["ways"]["map"]["of"] == 4
    assert small["ways"]["learned"]["value"] == pytest.approx(0.4)
    assert large["ways"]["learned"]["value"] == pytest.approx(0.7)
    # Snapped has 0.1 more on every photograph of every training: the same of all is no matter of chance.
    gain = everything["more_than_the_map"]["snapped"]
    assert (gain["value"], gain["low"], gain["high"]) == (0.1, 0.1, 0.1)
    assert everything["learned_more_than_snapped"]["value"] == pytest.approx((0.1 + 0.1 + 0.2 + 0.3) / 4)
    assert found["by_class"]["pit"]["map"] == pytest.approx(0.2)
    assert (found["head_thresholds"], found["decided_rightly"]) == ([0.4, 0.6], [3, 3])


def test_groups_are_resampled_whole() -> None:
    groups = ["a"] * 20 + ["b"] * 20
    wide = training([0.0] * 20 + [1.0] * 20, [0.5] * 40, [0.5] * 40, groups=groups)
    wide |= {"labels": ["pit"] * 40, "shares": [0.2] * 40, "right": [True] * 40}
    value = pooled([wide])["sizes"]["all"]["ways"]["map"]
    assert (value["low"], value["value"], value["high"]) == (0.0, 0.5, 1.0)


def test_trainings_that_cannot_be_put_together_are_refused() -> None:
    with pytest.raises(ValueError, match="different images"):
        pooled([ONE, training([0.1] * 4, [0.1] * 4, [0.1] * 4, groups=["a", "b", "c", "d"])])
    with pytest.raises(ValueError, match="no regions that are learned"):
        pooled([ONE, training([0.1] * 4, [0.1] * 4)])


def test_the_table_says_the_figures_and_where_there_is_none() -> None:
    small = pooled([one | {"shares": [0.002, 0.004, 0.03, 0.04]} for one in (ONE, OTHER)])
    table = region_table({"machine": MACHINE, "masks": 100, "seeds": [1, 2], **small})
    head, _, cut, snapped, learned, *_ = table.splitlines()
    assert head == "| | all: 4 defects, 3 groups | over 5 % of the picture | under 1 %: 2 defects, 1 groups |"
    assert cut.startswith("| map, cut at 0.08 | 0.225 [") and cut.endswith("| – | 0.200 [0.200, 0.200] |")
    assert snapped.endswith("| – | 0.300 [0.300, 0.300], +0.100 [0.100, 0.100] |")
    assert learned.startswith("| head, 100 masks | 0.500 [")
    assert "mean of 2 trainings" in table and table.endswith("*A processor, 2 threads; torch 2.13.0.*")


def samples(count: int) -> list[Sample]:
    found = []
    for number in range(count):
        label = "good" if number % 3 == 0 else "pit"
        mask = Path(f"{number}.png") if label == "pit" and number != 1 else None
        found.append(Sample(Path(f"{number}.jpg"), label, str(number), f"{number:064}", mask_path=mask))
    return found


def test_as_many_masks_are_drawn_as_asked_for_and_others_are_not_seen() -> None:
    every = samples(30)
    drawn = with_masks(every, 5, "good", seed=1)
    assert [one for one in drawn if one.label == "good"] == [one for one in every if one.label == "good"]
    masked = [one for one in drawn if one.label == "pit"]
    assert len(masked) == 5 and all(one.mask_path for one in masked)
    assert with_masks(every, 5, "good", seed=1) == drawn != with_masks(every, 5, "good", seed=2)
    assert len([one for one in with_masks(every, 100, "good", seed=1) if one.label == "pit"]) == 19


def test_one_training_is_measured_once_on_the_test_part_and_its_head_sees_the_masks_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"train": samples(60), "validation": samples(9), "test": samples(6)}
    card = SimpleNamespace(metrics={"test": {"balanced_accuracy": 0.75}})
    explanation = SimpleNamespace(method="quorum")
    stub = SimpleNamespace(card=card, good_class="good", explanation=explanation)
    seen: dict[str, Any] = {"learned": 0}

    def learn(classifier: Any, train: list[Sample], validation: list[Sample], **_: Any) -> Any:
        seen["learned"] += 1
        seen["masks"] = sum(one.mask_path is not None for one in train)
        assert validation == parts["validation"]
        origin = {"marked_images": {"train": seen["masks"], "validation": 5}}
        drawing = RegionDrawing("learned", RegionHeadSettings("0" * 64, 0.3), origin=origin)
        return SimpleNamespace(classifier=SimpleNamespace(card=SimpleNamespace(regions=drawing)))

    def marked(_: Any, chosen: list[Sample]) -> list[MarkedImage]:
        assert chosen == parts["test"]
        rows = np.arange(64)[:, None] * np.ones(64)
        truth, heat = rows < 16, np.where(rows < 32, 1.0, 0.01).astype(np.float32)
        grey = np.full((64, 64, 3), 128, np.uint8)
        return [MarkedImage("g", "pit", grey, heat, truth, True)]

    half = [np.where(np.arange(64)[:, None] * np.ones(64) < 8, 0.9, 0.1).astype(np.float32)]
    monkeypatch.setattr(region_overlap, "as_image_folder", lambda _folder: tmp_path)
    monkeypatch.setattr(region_overlap, "_trained", lambda *_: stub)
    monkeypatch.setattr(region_overlap, "load_dataset", lambda _: SimpleNamespace(sha256="d" * 64))
    monkeypatch.setattr(region_overlap, "choose_part", lambda _card, _data, part: SimpleNamespace(samples=parts[part]))
    monkeypatch.setattr(region_overlap, "learn_regions", learn)
    monkeypatch.setattr(region_overlap, "marked_images", marked)
    monkeypatch.setattr(region_overlap, "head_maps_of", lambda _classifier, _images: half)

    case = Case(masks=12)
    found = measured(case, 1, tmp_path)
    assert seen == {"learned": 1, "masks": 12}
    # The map lights up twice the defect, the head half of it; a photograph without edges leaves snapping to the map.
    assert found["overlaps"] == {"map": [0.5], "snapped": [0.5], "learned": [0.5]}
    assert found["shares"] == [0.25] and found["masks"] == 12 and found["threshold"] == 0.08
    assert measured(case, 1, tmp_path) == found and seen["learned"] == 1
    measured(replace(case, masks=20), 1, tmp_path)
    measured(case, 2, tmp_path)
    assert seen["learned"] == 3


def test_no_document_waits_for_a_report_that_was_not_made() -> None:
    assert ("region-overlap" in PUBLISHED) == (region_overlap_report().is_file())


def region_overlap_report() -> Path:
    from benchmarks.documents import RESULTS

    return RESULTS / "region-overlap.json"
