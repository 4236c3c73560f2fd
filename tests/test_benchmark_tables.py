"""The documents' tables are those of the reports in benchmarks/results, and say what the reports say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.documents import RESULTS, TABLES
from benchmarks.speed_tables import speed_table
from benchmarks.tables import replaced, write_tables

MACHINE = {"cpu": "A processor", "threads": 2, "packages": {"torch": "2.13.0", "onnxruntime": "1.32.0"}}


def ratio(median: float) -> dict[str, float]:
    return {"median": median, "lowest": median - 0.5, "highest": median + 0.25}


@pytest.mark.parametrize("document", TABLES, ids=lambda document: document.name)
def test_documents_hold_the_tables_of_the_reports(document: Path, tmp_path: Path) -> None:
    assert [name for name in TABLES[document] if not (RESULTS / f"{name}.json").is_file()] == []
    copy = tmp_path / document.name
    shutil.copyfile(document, copy)
    write_tables(copy, RESULTS, TABLES[document])
    assert copy.read_text(encoding="utf-8") == document.read_text(encoding="utf-8")


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


def test_a_readme_without_marks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no <!-- attribution-speed -->"):
        replaced("nothing here", "attribution-speed", "a table")
    assert replaced("a\n<!-- x -->\nold\n<!-- /x -->\nz", "x", r"new \1") == "a\n<!-- x -->\nnew \\1\n<!-- /x -->\nz"
