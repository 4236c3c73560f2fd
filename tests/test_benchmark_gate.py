"""What release-gate says of its comparisons, by hand."""

from __future__ import annotations

from typing import Any

from benchmarks.gate_tables import gate_table


def rule(name: str, outcome: str, measured: dict[str, float] | None = None, more: int | None = None) -> dict[str, Any]:
    return {
        "rule": name,
        "says": "",
        "outcome": outcome,
        "because": "",
        "measured": measured,
        "further_parts": more,
    }


def test_each_comparison_has_a_column_with_its_verdict_and_every_rule_a_row() -> None:
    shared = {"candidate": 120, "service": 30, "seconds": 61.2}
    released = shared | {
        "images": 1120,
        "defective": 960,
        "verdict": "release",
        "rules": [
            rule("data.unseen", "pass"),
            rule("escapes.at_most", "pass", {"value": 0.001, "low": 0.0, "high": 0.0049}),
        ],
    }
    small = shared | {
        "images": 112,
        "defective": 96,
        "verdict": "do not release",
        "rules": [
            rule("data.unseen", "pass"),
            rule("escapes.at_most", "cannot tell", {"value": 0.0, "low": 0.0, "high": 0.031}, 53),
        ],
    }
    machine = {"cpu": "A processor", "threads": 1, "packages": {"torch": "2.13.0"}}
    lines = gate_table({"machine": machine, "comparisons": [released, small]}).splitlines()
    assert lines[:2] == [
        "| rule | 120 against 30, on 1120 (960 defective) | 120 against 30, on 112 (96 defective) |",
        "|---|---|---|",
    ]
    assert lines[2:5] == [
        "| `data.unseen` | pass | pass |",
        "| `escapes.at_most` | pass: 0.1 [0.0, 0.5] | cannot tell: 0.0 [0.0, 3.1], 53 parts more |",
        "| verdict | **release** | **do not release** |",
    ]
    assert lines[-1] == "*A processor, 1 thread; torch 2.13.0.*"
