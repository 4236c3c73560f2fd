"""The tables of explanation-quality say what its report says, and what the product's method is behind on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.explanation_quality import STEEL, Case, kept_as, pooled
from benchmarks.imitated_weights import Imitation
from benchmarks.quality_tables import everything, standing, summary
from inspection_models.metrics.report import METRICS

MACHINE = {"cpu": "A processor", "threads": 2, "packages": {"torch": "2.13.0"}}
CASE = Case("tiles", "lite", epochs=1, limit=1)


def image(name: str, group: str, share: float, **by_method: float) -> dict[str, Any]:
    """An image as a report holds it, where a method has one value for every figure."""
    return {
        "file": f"{name}.png",
        "sha256": name,
        "group": group,
        "label": "crack",
        "defect_share": share,
        "confidence": 0.9,
        "maps": [
            {"method": method.replace("_", "-"), "values": {metric.key: value for metric in METRICS}, "masks_scored": 0}
            for method, value in by_method.items()
        ],
    }


def report(*trainings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"balanced_accuracy": 0.8, "left_out": {}, "images": images} for images in trainings]


@pytest.fixture
def case() -> dict[str, Any]:
    first = [image(f"a{n}", f"tile {n // 3}", 0.005, quorum=0.6 + n / 100, sise=0.2, rise=0.5) for n in range(6)]
    second = [image(f"a{n}", f"tile {n // 3}", 0.005, quorum=0.7 + n / 100, sise=0.2, rise=0.9) for n in range(5, 8)]
    return pooled(CASE, report(first, second))


def test_a_photograph_of_two_trainings_counts_once(case: dict[str, Any]) -> None:
    assert (case["images"], case["groups"], case["small_defects"]) == (8, 3, 8)
    quorum = case["rows"][0]
    assert quorum["method"] == "quorum"
    twice = (0.65 + 0.75) / 2
    expected = (sum(0.6 + n / 100 for n in range(5)) + twice + 0.76 + 0.77) / 8
    assert quorum["figures"]["ap"]["value"] == pytest.approx(expected)


def test_what_is_lower_is_better_is_read_the_other_way_round(case: dict[str, Any]) -> None:
    said = standing(case)
    assert "tied for first on AP" in said
    assert "behind on Drop (mean) (to sise)" in said
    assert not said.startswith("first on")


def test_first_needs_all_intervals_above_zero() -> None:
    images = [image(str(n), str(n), 0.5, quorum=0.6 + n / 100, sise=0.2, rise=0.1) for n in range(5)]
    alone = pooled(CASE, report(images))
    assert standing(alone).startswith(
        "first on AP, EBPG, mIoU, Bbox, insertion (mean), insertion (blur); behind on Drop"
    )
    assert alone["rows_small"] == [] and alone["small_defects"] == 0
    assert "under 1 % of the picture" not in everything({"cases": [alone], "machine": MACHINE})


def test_one_group_proves_nothing() -> None:
    images = [image(str(n), "tile", 0.5, quorum=0.6, sise=0.2, rise=0.1) for n in range(5)]
    assert standing(pooled(CASE, report(images))).startswith("tied for first on AP, EBPG")


def test_the_tables_hold_every_method_and_its_difference(case: dict[str, Any]) -> None:
    text = summary({"cases": [case, case], "machine": MACHINE})
    assert text.splitlines()[0] == "| AP | tiles, lite | tiles, lite |"
    assert text.splitlines()[2] == "| | 8 defects, 3 groups | 8 defects, 3 groups |"
    difference = case["own_against"]["sise"]["ap"]
    interval = f"[{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"
    assert f"| sise | 20.0 {interval} | 20.0 {interval} |" in text
    assert f"AP of the 8 defects under 1 % of the picture: 66.6, sise 20.0 {interval}" in text
    assert text.endswith("*A processor, 2 threads; torch 2.13.0.*")
    every = everything({"cases": [case], "machine": MACHINE})
    assert "**tiles, lite**, 224 × 224, balanced accuracy by training 80, 80 %: 8 defects of 3 groups." in every
    assert "Defects under 1 % of the picture (8 of 3 groups):" in every
    headings = [line for line in every.splitlines() if line.startswith("| method")]
    assert headings[1].count("|") == 10 and "| Drop (mean) ↓ |" in headings[1] and "| Increase (blur) |" in headings[1]


def test_boxes_that_measure_no_explanation_are_in_the_documentation_alone(case: dict[str, Any]) -> None:
    boxes = {**case, "data": "neu-det"}
    assert "neu-det" not in summary({"cases": [case, boxes], "machine": MACHINE})
    assert "8 defects of 3 groups.\n" in everything({"cases": [boxes], "machine": MACHINE})


def test_another_recipe_or_setting_is_kept_under_another_name() -> None:
    names = {
        kept_as(CASE, 1),
        kept_as(CASE, 2),
        kept_as(replace(CASE, epochs=2), 1),
        kept_as(replace(CASE, begins_with=Imitation((("tiles", 1.0),), views=32)), 1),
        kept_as(replace(CASE, begins_with=Imitation((("tiles", 1.0),), views=32, revision=2)), 1),
        kept_as(CASE, 1, 9),
    }
    assert len(names) == 6
    assert kept_as(replace(CASE, limit=7, seeds=(5,)), 1) == kept_as(CASE, 1)


def test_what_is_kept_keeps_its_name() -> None:
    """A name that changes unseen has everything trained and measured anew."""
    assert kept_as(STEEL, 1) == "synthetic-steel-efficientnet-lite0-1-ee24b5e5"
