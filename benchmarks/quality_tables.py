"""The tables of explanation-quality: one that fits the README, and every figure for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.tables import machine_line

if TYPE_CHECKING:
    from collections.abc import Iterable

_OWN = "quorum"
_LOCALISATION = (
    ("ap", "AP"),
    ("ebpg", "EBPG"),
    ("ebpg_ranked", "EBPG, ranks"),
    ("miou", "mIoU"),
    ("bbox", "Bbox"),
    ("pointing", "pointing"),
)
_FAITHFULNESS = (
    ("drop_mean", "Drop ↓, mean"),
    ("drop_blur", "Drop ↓, blur"),
    ("increase_mean", "Increase, mean"),
    ("increase_blur", "Increase, blur"),
    ("insertion_mean", "insertion, mean"),
    ("insertion_blur", "insertion, blur"),
    ("deletion_mean", "deletion ↓, mean"),
    ("deletion_blur", "deletion ↓, blur"),
)
_LOWER_IS_BETTER = ("drop_mean", "drop_blur", "deletion_mean", "deletion_blur")
# What the method is held to: to be first, or tied for first, on each.
_HELD_TO = ("ap", "ebpg", "miou", "bbox", "drop_mean", "drop_blur", "insertion_mean", "insertion_blur")
_TITLES = dict((*_LOCALISATION, *_FAITHFULNESS))


def summary(report: dict[str, Any]) -> str:
    """AP of every method in every case, and on what the product's method is ahead, tied and behind."""
    cases = report["cases"]
    methods = [row["method"] for row in cases[0]["rows"]]
    headings = [f"{case['data']}, {case['network']}" for case in cases]
    lines = [f"| AP | {' | '.join(headings)} |", "|---" * (len(cases) + 1) + "|"]
    for place, method in enumerate(methods):
        cells = [_figure(case["own_against"], case["rows"][place], "ap") for case in cases]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines.append("")
    lines += [f"* {heading}: {standing(case)}" for heading, case in zip(headings, cases, strict=True)]
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
            if key in _LOWER_IS_BETTER:
                low, high = -high, -low
            if high < 0:
                better.append(method)
            level = level or low <= 0
        title = _TITLES[key].replace(" ↓", "")
        if better:
            behind.append(f"{title} (to {', '.join(better)})")
        else:
            (tied if level else ahead).append(title)
    groups = (("first", ahead), ("tied for first", tied), ("behind", behind))
    return "; ".join(f"{name} on {', '.join(titles)}" for name, titles in groups if titles)


def everything(report: dict[str, Any]) -> str:
    """Three tables a case: where the maps point, also of small defects, and what the network makes of them."""
    parts: list[str] = []
    for case in report["cases"]:
        accuracy = ", ".join(f"{100 * value:.0f}" for value in case["balanced_accuracy"])
        height, width = case["input"]
        parts += [
            f"**{case['data']}, {case['network']}**, {height} × {width}: {case['images']} defects of {case['groups']} "
            f"groups, {case['small_defects']} under 1 % of the picture; balanced accuracy of the trainings "
            f"{accuracy} %. Quorum: {standing(case)}.",
            "",
            *_table(case["rows"], case["own_against"], _LOCALISATION),
            *_table(case["rows"], case["own_against"], _FAITHFULNESS),
        ]
        if case["rows_small"]:
            parts += ["Defects under 1 % of the picture:", ""]
            parts += _table(case["rows_small"], case["own_against_small"], _LOCALISATION)
    return "\n".join([*parts, machine_line(report["machine"])])


def _table(rows: list[dict[str, Any]], against: dict[str, Any], figures: Iterable[tuple[str, str]]) -> list[str]:
    keys = [key for key, _ in figures]
    lines = ["| method | " + " | ".join(_TITLES[key] for key in keys) + " |", "|---" * (len(keys) + 1) + "|"]
    lines += [f"| {row['method']} | " + " | ".join(_figure(against, row, key) for key in keys) + " |" for row in rows]
    return [*lines, ""]


def _figure(against: dict[str, Any], row: dict[str, Any], key: str) -> str:
    """The figure in per cent, with what the product's method has more of it, as an interval."""
    value = f"{100 * row['figures'][key]['value']:.1f}"
    if row["method"] == _OWN:
        return f"**{value}**"
    difference = against[row["method"]][key]
    return f"{value} [{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"
