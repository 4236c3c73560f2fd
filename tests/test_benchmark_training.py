"""What training-accuracy says of its trainings, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.training_accuracy import Case, pooled
from benchmarks.training_tables import training_table

CASE = Case("tiles by parts", "magnetic-tile", epochs=3)
LABELS = [0, 0, 0, 0, 1, 1]


def training(decided: list[int], **changes: Any) -> dict[str, Any]:
    return {
        "classes": ["good", "pit"],
        "good_class": "good",
        "groups": ["a", "a", "b", "b", "c", "c"],
        "labels": LABELS,
        "logits": [[1.0, 0.0] if place == 0 else [0.0, 1.0] for place in decided],
        "calibration_error": 0.05,
        "validation_balanced_accuracy": 0.9,
        "counts": {"train": {"good": 40, "pit": 20}},
        "threads": 2,
        "wall_minutes": 4.0,
        "core_minutes": 7.25,
        "continued_after": [],
    } | changes


def test_trainings_are_put_together_each_with_its_own_test_part() -> None:
    other = training([0, 0, 1, 1], labels=[0, 0, 1, 1], groups=["d", "e", "f", "f"])
    case = pooled(CASE, [training([0, 0, 0, 1, 1, 0]), other])
    figures = case["figures"]
    assert figures["balanced_accuracy"]["by_training"] == [pytest.approx(0.625), 1.0]
    assert figures["balanced_accuracy"]["mean"] == pytest.approx(0.8125)
    assert figures["accuracy"]["by_training"] == [pytest.approx(4 / 6, abs=1e-4), 1.0]
    assert figures["escapes"]["by_training"] == [0.5, 0.0]
    assert figures["overkill"]["by_training"] == [0.25, 0.0]
    assert (case["test_images"], case["test_groups"]) == ([6, 4], [3, 3])
    assert case["right"] == {"good": ["3 of 4", "2 of 2"], "pit": ["1 of 2", "2 of 2"]}
    # No resample of the first test part has less than half right, b's and c's share; the other's are all right.
    assert figures["accuracy"]["low"] >= 0.75
    assert figures["accuracy"]["high"] <= 1.0


def test_data_without_a_good_class_have_no_escapes_and_the_table_says_so() -> None:
    case = pooled(CASE, [training([0, 0, 0, 1, 1, 0], good_class=None)] * 2)
    assert "escapes" not in case["figures"]
    machine = {"cpu": "A processor", "threads": 2, "packages": {"torch": "2.13.0"}}
    table = training_table({"machine": machine, "cases": [case]})
    (row,) = [line for line in table.splitlines() if line.startswith("| tiles by parts")]
    assert row.startswith("| tiles by parts | 60 / 60 | 6 (3) / 6 (3) | 62.5 (")
    assert row.endswith("| – | – | 0.050 / 0.050 | 7.2 / 7.2 |")
    assert table.endswith("*A processor, 2 threads; torch 2.13.0.*")
