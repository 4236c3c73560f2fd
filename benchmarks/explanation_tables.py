"""The tables of docs/explanations.md: what Quorum's parts are worth, and sanity checks."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import machine_line

_PARTS = (("ap", "AP"), ("ebpg", "EBPG"), ("ebpg_ranked", "EBPG, ranks"), ("ap_small", "AP, small"))
_STAGE_TITLES = ("a third random", "two thirds", "all")


def parts_table(report: dict[str, Any]) -> str:
    """A table a data set: Quorum, what is left without a part, and references; in brackets what Quorum has more."""
    seeds = ", ".join(map(str, report["seeds"]))
    parts = []
    for case in report["cases"]:
        accuracy = ", ".join(f"{100 * value:.0f}" for value in case["balanced_accuracy"])
        parts += [
            f"**{case['data']}, {case['network']}**: {case['images']} defects of {case['groups']} groups, "
            f"{case['small_defects']} under 1 % of the picture; trainings {seeds}, balanced accuracy {accuracy} %",
            "",
            "| | " + " | ".join(title for _, title in _PARTS) + " |",
            "|---" * (len(_PARTS) + 1) + "|",
        ]
        for row in case["rows"]:
            parts.append(f"| {row['method']} | " + " | ".join(_part(row[key]) for key, _ in _PARTS) + " |")
        parts.append("")
    return "\n".join([*parts, machine_line(report["machine"])])


def sanity_table(report: dict[str, Any]) -> str:
    """A row a method: rank correlation with its 95 % interval, and SSIM, of maps that should differ."""
    titles = [*_STAGE_TITLES, "labels shuffled", "second class"]
    trained, permuted = (100 * report[which]["balanced_accuracy"] for which in ("trained", "permuted"))
    lines = [
        f"**{report['data']}, {report['network']}**: {report['images']} pictures, RISE with "
        f"{report['options']['rise']['masks']} masks. Balanced accuracy {trained:.0f} %, and {permuted:.0f} % of the "
        "network that was trained on shuffled labels.",
        "",
        "| method | " + " | ".join(titles) + " |",
        "|---" * (len(titles) + 1) + "|",
    ]
    for row in report["rows"]:
        cells = [_alike(one) for one in (*row["stages"], row["labels"], row["classes"])]
        lines.append(f"| {row['method']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", machine_line(report["machine"])])


def _part(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "–"
    value, more = f"{100 * figure['value']:.1f}", figure["quorum_has_more"]
    if more is None:
        return f"**{value}**"
    return f"{value} [{100 * more['low']:+.1f}, {100 * more['high']:+.1f}]"


def _alike(similarity: dict[str, Any]) -> str:
    rank = similarity["spearman"]
    return f"{rank['value']:.2f} [{rank['low']:.2f}, {rank['high']:.2f}]; {similarity['ssim']['value']:.2f}"
