"""The tables of explanation-quality: one that fits the README, and every figure for the documentation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from benchmarks.explanation_quality import NO_PROOF, OWN, PAPER
from benchmarks.tables import machine_line
from inspection_models.metrics.report import FAITHFULNESS, LOCALISATION, Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the method is held to: to be first, or tied for first, on each.
_HELD_TO = ("ap", "ebpg", "miou", "bbox", "drop_mean", "drop_blur", "insertion_mean", "insertion_blur")
_TITLES = {metric.key: metric.title for metric in LOCALISATION} | {
    metric.key: f"{metric.title} ({fill})" for fill, metrics in FAITHFULNESS.items() for metric in metrics
}
_FAITHFULNESS = tuple(metric for metrics in FAITHFULNESS.values() for metric in metrics)
_LOWER_IS_BETTER = {metric.key for metric in _FAITHFULNESS if metric.better == "lower"}


def summary(report: dict[str, Any]) -> str:
    """AP of every method in every case that measures explanations, and on what the product's is ahead, tied, behind."""
    cases = [case for case in report["cases"] if case["data"] not in NO_PROOF]
    methods = [row["method"] for row in cases[0]["rows"]]
    headings = [f"{case['data']}, {case['network']}" for case in cases]
    counts = [f"{case['images']} defects, {case['groups']} groups" for case in cases]
    lines = [f"| AP | {' | '.join(headings)} |", "|---" * (len(cases) + 1) + "|"]
    lines.append(f"| | {' | '.join(counts)} |")
    for place, method in enumerate(methods):
        cells = [_figure(case["own_against"], case["rows"][place], "ap") for case in cases]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines.append("")
    lines += [
        f"* {heading} ({_accuracies(case)}): {standing(case)}{_small(case)}"
        for heading, case in zip(headings, cases, strict=True)
    ]
    return "\n".join([*lines, "", machine_line(report["machine"])])


def standing(case: dict[str, Any]) -> str:
    """On which figures the product's method is ahead of all others, ahead or tied, and behind whom."""
    ahead: list[str] = []
    tied: list[str] = []
    behind: list[str] = []
    for key in _HELD_TO:
        better: list[str] = []
        level = False
        for method, differences in case["own_against"].items():
            low, high = differences[key]["low"], differences[key]["high"]
            if differences[key]["groups"] < 2:
                low, high = -math.inf, math.inf
            if key in _LOWER_IS_BETTER:
                low, high = -high, -low
            if high < 0:
                better.append(method)
            level = level or low <= 0
        title = _TITLES[key]
        if better:
            behind.append(f"{title} (to {', '.join(better)})")
        else:
            (tied if level else ahead).append(title)
    groups = (("first", ahead), ("tied for first", tied), ("behind", behind))
    return "; ".join(f"{name} on {', '.join(titles)}" for name, titles in groups if titles)


def everything(report: dict[str, Any]) -> str:
    """Tables of each case: where the maps point, also of small defects, and what the network makes of them."""
    parts: list[str] = []
    for case in report["cases"]:
        height, width = case["input"]
        read = "" if case["data"] in NO_PROOF else f" Quorum: {standing(case)}."
        parts += [
            f"**{case['data']}, {case['network']}**, {height} × {width}, {_accuracies(case)}: {case['images']} defects "
            f"of {case['groups']} groups.{read}",
            "",
            *_table(case["rows"], case["own_against"], LOCALISATION),
            *_table(case["rows"], case["own_against"], _FAITHFULNESS),
        ]
        if case["rows_small"]:
            counts = f"{case['small_defects']} of {case['small_groups']} groups"
            parts += [f"Defects under 1 % of the picture ({counts}):", ""]
            parts += _table(case["rows_small"], case["own_against_small"], LOCALISATION)
    return "\n".join([*parts, machine_line(report["machine"])])


def _small(case: dict[str, Any]) -> str:
    """What the method has more than the paper's on small defects, where there are any."""
    if not case["rows_small"]:
        return ""
    found = {row["method"]: row["figures"]["ap"]["value"] for row in case["rows_small"]}
    more = case["own_against_small"][PAPER]["ap"]
    return (
        f". AP of the {case['small_defects']} defects under 1 % of the picture: {100 * found[OWN]:.1f}, "
        f"{PAPER} {100 * found[PAPER]:.1f} [{100 * more['low']:+.1f}, {100 * more['high']:+.1f}]"
    )


def _accuracies(case: dict[str, Any]) -> str:
    values = ", ".join(f"{100 * value:.0f}" for value in case["balanced_accuracy"])
    return f"balanced accuracy by training {values} %"


def _table(rows: list[dict[str, Any]], against: dict[str, Any], metrics: Sequence[Metric]) -> list[str]:
    titles = [_TITLES[metric.key] + (" ↓" if metric.better == "lower" else "") for metric in metrics]
    lines = [f"| method | {' | '.join(titles)} |", "|---" * (len(metrics) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row['method']} | {' | '.join(_figure(against, row, metric.key) for metric in metrics)} |")
    return [*lines, ""]


def _figure(against: dict[str, Any], row: dict[str, Any], key: str) -> str:
    """The figure in per cent, with what the product's method has more of it, as an interval."""
    value = f"{100 * row['figures'][key]['value']:.1f}"
    if row["method"] == OWN:
        return f"**{value}**"
    difference = against[row["method"]][key]
    return f"{value} [{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"
