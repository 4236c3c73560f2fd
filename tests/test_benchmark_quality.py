"""The tables of explanation-quality say what its report says, and what the product's method is behind on."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.explanation_quality import Case, pooled
from benchmarks.quality_tables import everything, standing, summary
from inspection_models.metrics.report import METRICS, ImageFigures, MapFigures

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
    assert "behind on Drop, mean (to sise)" in said
    assert not said.startswith("first on")


def test_first_needs_all_intervals_above_zero() -> None:
    images = [image(str(n), str(n), 0.5, quorum=0.6 + n / 100, sise=0.2, rise=0.1) for n in range(5)]
    alone = pooled(CASE, report(images))
    assert standing(alone).startswith("first on AP, EBPG, mIoU, Bbox, insertion, mean, insertion, blur; behind on Drop")
    assert alone["rows_small"] == [] and alone["small_defects"] == 0
    text = everything({"cases": [alone], "machine": MACHINE})
    assert "under 1 % of the picture:" not in text


def test_the_tables_hold_every_method_and_its_difference(case: dict[str, Any]) -> None:
    text = summary({"cases": [case, case], "machine": MACHINE})
    assert text.splitlines()[0] == "| AP | tiles, lite | tiles, lite |"
    difference = case["own_against"]["sise"]["ap"]
    interval = f"[{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"
    assert f"| sise | 20.0 {interval} | 20.0 {interval} |" in text
    assert text.endswith("*A processor, 2 threads; torch 2.13.0.*")
    every = everything({"cases": [case], "machine": MACHINE})
    assert "**tiles, lite**, 224 × 224: 8 defects of 3 groups, 8 under 1 % of the picture" in every
    assert "Defects under 1 % of the picture:" in every
    assert all(metric.title.split(",")[0] in every for metric in METRICS if metric.key != "seconds")


def test_reports_are_what_evaluations_write() -> None:
    fields = image("a", "b", 0.1, sise=0.5)
    maps = tuple(MapFigures(**one) for one in fields["maps"])
    assert ImageFigures(**{**fields, "maps": maps}).group == "b"
