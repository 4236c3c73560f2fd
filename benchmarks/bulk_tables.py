"""The table of predicting-in-bulk."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import machine_line

_PEER = "Label Studio's own action"
_NAMES = {"push": "`inspection predict --push`", "retrieve": "`inspection predict`", _PEER: "*Retrieve predictions*"}


def bulk_table(report: dict[str, Any]) -> str:
    """One row a way: what the tasks have in the end, how fast, and how long Label Studio let anybody wait."""
    heads = (
        "", "tasks with one prediction", "with none", "with several", "seconds", "tasks a second",
        "× Label Studio's action", "slowest answer, s", "list of tasks meanwhile, s: median (slowest)",
    )  # fmt: skip
    ways = report["ways"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join([_NAMES[name], *_cells(way, ways[_PEER])])} |" for name, way in ways.items()]
    killed = ", ".join(
        f"{_NAMES[name]} when {way['predicted_when_killed']} were predicted"
        for name, way in ways.items()
        if name != _PEER
    )
    error = ways[_PEER]["error"]
    said = "told success" if error is None else f"ended with: {error}"
    note = (
        f"{report['tasks']} tasks that show {report['pictures']} pictures, each. Killed: {killed}. "
        f"Label Studio's action {said}."
    )
    return "\n".join([*lines, "", note, "", machine_line(report["machine"])])


def _cells(way: dict[str, Any], peer: dict[str, Any]) -> list[str]:
    rate, peers = way["tasks_per_second"], peer["tasks_per_second"]
    return [
        *(str(way[f"tasks_with_{often}"]) for often in ("one", "none", "several")),
        f"{way['seconds']:.0f}",
        f"{rate:.1f}",
        f"{rate / peers:.1f}" if peers else "–",
        f"{way['slowest_answer_seconds']:.1f}",
        f"{way['median_page_seconds']:.2f} ({way['slowest_page_seconds']:.1f})",
    ]
