"""The README's tables are those of the reports in benchmarks/results, and say what the reports say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.tables import README, README_TABLES, quality_table, replaced, speed_table, write_tables

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
MACHINE = {"cpu": "A processor", "threads": 2, "packages": {"torch": "2.13.0", "onnxruntime": "1.32.0"}}


def ratio(median: float) -> dict[str, float]:
    return {"median": median, "lowest": median - 0.5, "highest": median + 0.25}


def test_the_readme_holds_the_tables_of_the_reports(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    shutil.copyfile(README, copy)
    assert (RESULTS / "attribution-speed.json").is_file()
    write_tables(copy, RESULTS, README_TABLES)
    assert copy.read_text(encoding="utf-8") == README.read_text(encoding="utf-8")


def test_speed_is_said_with_its_spread_and_left_out_where_there_is_nothing_to_compare() -> None:
    sise = {
        "masks": 500,
        "seconds": 4.321,
        "faster_than_straightforward": ratio(2.5),
        "faster_than_score_cam": None,
        "faster_than_score_cam_a_mask": ratio(3.0),
    }
    table = speed_table({"machine": MACHINE, "cases": [{"network": "resnet18", "contestants": {"sise": sise}}]})
    assert "| resnet18 | sise | 500 | 4.32 | 2.5 (2.0–2.8) | – | 3.0 (2.5–3.2) |" in table
    assert table.endswith("*A processor, 2 threads; torch 2.13.0, onnxruntime 1.32.0.*")


def test_quality_is_said_with_what_quorum_has_more() -> None:
    keys = ("ap", "ebpg", "miou", "bbox", "drop_mean", "drop_blur", "insertion_blur")
    rows = [
        {"method": method, "figures": {key: {"value": value} for key in keys}}
        for method, value in (("quorum", 0.605), ("sise", 0.277))
    ]
    case = {
        "data": "tiles",
        "network": "lite",
        "images": 31,
        "small_defects": 17,
        "balanced_accuracy": [0.78, 0.8],
        "rows": rows,
        "rows_small": rows[:1],
        "own_against": {"sise": {key: {"low": 0.24, "high": 0.416} for key in keys}},
    }
    table = quality_table({"machine": MACHINE, "cases": [case]})
    assert (
        "**tiles, lite** (31 defects, 17 of them under 1 % of the picture; balanced accuracy by seed 78, 80 %)" in table
    )
    assert "| quorum | **60.5** |" in table and "| sise | 27.7 [+24, +42] |" in table
    assert table.splitlines()[5].endswith("| – |") and table.splitlines()[4].endswith("| 60.5 |")


def test_a_readme_without_marks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no <!-- attribution-speed -->"):
        replaced("nothing here", "attribution-speed", "a table")
    assert replaced("a\n<!-- x -->\nold\n<!-- /x -->\nz", "x", r"new \1") == "a\n<!-- x -->\nnew \\1\n<!-- /x -->\nz"
