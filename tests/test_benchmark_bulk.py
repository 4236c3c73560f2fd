"""What predicting-in-bulk says of its ways, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.bulk_tables import bulk_table


def way(one: int, rate: float, **further: Any) -> dict[str, Any]:
    return {
        "tasks_with_one": one,
        "tasks_with_none": 2000 - one,
        "tasks_with_several": 0,
        "seconds": 200.2,
        "tasks_per_second": rate,
        "slowest_answer_seconds": 1.26,
        "slowest_page_seconds": 2.04,
        "median_page_seconds": 0.125,
        **further,
    }


@pytest.mark.parametrize(
    ("one", "rate", "error", "times", "said"),
    [
        (2000, 5.0, None, "2.0", "Label Studio's action told success."),
        (0, 0.0, "no answer in time", "–", "Label Studio's action ended with: no answer in time."),
    ],
)
def test_each_way_has_a_row_beside_label_studios_own(
    one: int, rate: float, error: str | None, times: str, said: str
) -> None:
    ways = {
        "push": way(2000, 10.0, predicted_when_killed=1004),
        "retrieve": way(2000, 10.0, predicted_when_killed=1000),
        "Label Studio's own action": way(one, rate, error=error),
    }
    machine = {"cpu": "A processor", "threads": 1, "packages": {"torch": "2.13.0"}}
    lines = bulk_table({"machine": machine, "tasks": 2000, "pictures": 20, "ways": ways}).splitlines()
    assert lines[2] == f"| `inspection predict --push` | 2000 | 0 | 0 | 200 | 10.0 | {times} | 1.3 | 0.12 (2.0) |"
    assert lines[4].startswith(f"| *Retrieve predictions* | {one} | {2000 - one} | 0 | 200 | {rate} |")
    assert "`inspection predict` when 1000 were predicted" in lines[6]
    assert lines[6].endswith(said)
    assert lines[-1] == "*A processor, 1 thread; torch 2.13.0.*"
