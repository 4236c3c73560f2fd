"""The table of region-overlap."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import machine_line

_WAYS = {"map": "map, cut at {threshold}", "snapped": "snapped", "learned": "head, {masks} masks"}
_SIZES = {"all": "all", "large": "over 5 % of the picture", "small": "under 1 %"}


def region_table(report: dict[str, Any]) -> str:
    """One row a way of drawing, one column a size of defects."""
    sizes = report["sizes"]
    heads = [
        f"{name}: {sizes[key]['images']} defects, {sizes[key]['groups']} groups" if sizes[key]["images"] else name
        for key, name in _SIZES.items()
    ]
    lines = [f"| | {' | '.join(heads)} |", "|---|---|---|---|"]
    thresholds = " / ".join(f"{value:g}" for value in sorted(set(report["thresholds"])))
    for way, name in _WAYS.items():
        title = name.format(threshold=thresholds, masks=report["masks"])
        lines.append(f"| {title} | {' | '.join(_cell(sizes[key], way) for key in _SIZES)} |")
    note = (
        f"Mean intersection over union, mean of {len(report['seeds'])} trainings [95 % interval over groups]; then "
        "what it is more than the map's."
    )
    return "\n".join([*lines, "", note, "", machine_line(report["machine"])])


def _cell(size: dict[str, Any], way: str) -> str:
    if not size["images"]:
        return "–"
    more = size["more_than_the_map"].get(way)
    added = "" if more is None else f", {more['value']:+.3f} [{more['low']:.3f}, {more['high']:.3f}]"
    value = size["ways"][way]
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]{added}"
