"""What `inspection train --dry-run` shows of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

_LISTED = 10


def print_data(summary: dict[str, Any], console: Console) -> None:
    """Print a data set's summary as tables and lines."""
    console.print(
        f"{summary['root']}: layout {summary['layout']}, {summary['images']} images in {summary['groups']} groups",
        highlight=False,
    )
    console.print(_classes(summary))
    console.print(
        f"sizes: width {_range(summary['width'])}, height {_range(summary['height'])} pixels", highlight=False
    )
    console.print(f"files: {_counts(summary['formats'])}; {_counts(summary['pixel_types'])}", highlight=False)
    twins = summary["twins"]
    console.print(
        f"twins: {twins['images']} images in {twins['families']} families, the largest of {twins['largest']}"
        if twins["families"]
        else "twins: none",
        highlight=False,
    )
    for family in twins["examples"]:
        console.print(f"  {', '.join(family[:4])}{' …' if len(family) > 4 else ''}", highlight=False, markup=False)
    if summary["turned_by_exif"]:
        console.print(f"turned by their EXIF orientation: {summary['turned_by_exif']}", highlight=False)
    for note in summary["notes"]:
        console.print(f"note: {note}", style="yellow", highlight=False, markup=False)
    ignored = summary["ignored"]
    for name in ignored[:_LISTED]:
        console.print(f"left out: {name}", style="yellow", highlight=False, markup=False)
    if len(ignored) > _LISTED:
        console.print(f"left out: {len(ignored) - _LISTED} more; --json lists them", style="yellow", highlight=False)


def _classes(summary: dict[str, Any]) -> Table:
    table = Table()
    table.add_column("class")
    for heading in ("images", *summary["parts"], "marked", "defect, % of the image"):
        table.add_column(heading, justify="right")
    for label in summary["classes"]:
        name = f"{label} (good)" if label == summary["good_class"] else label
        counts = [str(part[label]) for part in summary["parts"].values()]
        marks = summary["marks"].get(label)
        marked = f"{marks['marked']} {_kinds(marks)}".strip() if marks else "–"
        share = marks and marks["defect_share"]
        shares = " – ".join(_percent(share[key]) for key in ("min", "median", "max")) if share else "–"
        table.add_row(name, str(summary["counts"][label]), *counts, marked, shares)
    return table


def _kinds(marks: dict[str, Any]) -> str:
    return f"({', '.join(marks['kinds'])})" if marks["kinds"] else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"


def _range(found: dict[str, float] | None) -> str:
    if found is None:
        return "–"
    if found["min"] == found["max"]:
        return f"{found['min']:g}"
    return f"{found['min']:g} to {found['max']:g} (median {found['median']:g})"


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items())
