"""The table of release-gate."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import machine_line


def gate_table(report: dict[str, Any]) -> str:
    """One row a rule, one column a comparison: what the rule said, and the figure with its bounds."""
    compared = report["comparisons"]
    heads = [
        f"{one['candidate']} against {one['service']}, on {one['images']} ({one['defective']} defective)"
        for one in compared
    ]
    lines = [f"| rule | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for place, rule in enumerate(compared[0]["rules"]):
        lines.append(f"| `{rule['rule']}` | {' | '.join(_cell(one['rules'][place]) for one in compared)} |")
    verdicts = " | ".join(f"**{one['verdict']}**" for one in compared)
    lines.append(f"| verdict | {verdicts} |")
    seconds = " / ".join(f"{one['seconds']:.0f}" for one in compared)
    note = f"Per cent: the figure [its bounds]. Each comparison, its page included, took {seconds} s."
    return "\n".join([*lines, "", note, "", machine_line(report["machine"])])


def _cell(rule: dict[str, Any]) -> str:
    if rule["measured"] is None:
        return str(rule["outcome"])
    value, low, high = (f"{100 * rule['measured'][name]:.1f}" for name in ("value", "low", "high"))
    more = f", {rule['further_parts']} parts more" if rule["further_parts"] else ""
    return f"{rule['outcome']}: {value} [{low}, {high}]{more}"
