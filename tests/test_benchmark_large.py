"""What large-images and defect-size say of their models, by hand."""

from __future__ import annotations

from typing import Any

from benchmarks.large_tables import large_table, size_table

MACHINE = {"cpu": "A processor", "threads": 1, "packages": {"torch": "2.13.0"}}


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def model(auroc: float, **changes: Any) -> dict[str, Any]:
    return {
        "auroc": figure(auroc),
        "escapes": figure(0.125),
        "overkill": figure(0.1),
        "hit": figure(0.75),
        "excess": 1.31,
        "seconds_deciding": 3.2,
        "seconds_explaining_a_called_one": 8.5,
    } | changes


def test_both_models_stand_side_by_side_and_what_was_not_measured_is_a_dash() -> None:
    report = {
        "machine": MACHINE,
        "image_size": [3000, 4000],
        "tiles_an_image": 165,
        "test": {"good": 20, "defective": 24},
        "models": {
            "tiles": model(0.987),
            "whole": model(0.55, excess=None, seconds_explaining_a_called_one=None, hit=figure(0.05)),
        },
        "times_slower": {"deciding": {"median": 25.0, "lowest": 20.5, "highest": 31.0}},
    }
    lines = large_table(report).splitlines()
    assert lines[0] == "| 24 defective and 20 good photographs of 4000 × 3000 | in 165 tiles | resized whole |"
    assert lines[2] == "| AUROC, good against defective | 0.987 [0.937, 1.037] | 0.550 [0.500, 0.600] |"
    assert lines[3] == "| defects called good, % | 12.5 [7.5, 17.5] | 12.5 [7.5, 17.5] |"
    assert "| area of the regions, in defects (median) | 1.31 | – |" in lines
    assert lines[-3].endswith("In tiles, against whole, deciding: 25 times as long (20.5–31).")
    assert lines[-1] == "*A processor, 1 thread; torch 2.13.0.*"


def test_each_range_of_sizes_has_a_row() -> None:
    rows = [{"from": 2, "below": 4, "defects": 31, "auroc": figure(0.6)}]
    report = {
        "machine": MACHINE,
        "network": "efficientnet-lite0",
        "epochs": 4,
        "good": 330,
        "trained_on": {"good": 300, "inclusion": 100},
        "rows": rows,
    }
    lines = size_table(report).splitlines()
    assert lines[2] == "| 2 to 4 | 31 | 0.600 [0.550, 0.650] |"
    assert "on 400 pictures; against 330 good ones" in lines[4]
