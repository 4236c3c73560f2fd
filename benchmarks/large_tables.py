"""The tables of docs/large-images.md: judged in tiles and resized whole, and how small a defect is still seen."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import machine_line

_FIGURES = (
    ("auroc", "AUROC, good against defective", 1, 3),
    ("escapes", "defects called good, %", 100, 1),
    ("overkill", "good parts called defective, %", 100, 1),
    ("hit", "defects of which a region covers half or more, %", 100, 1),
)


def large_table(report: dict[str, Any]) -> str:
    """A row a figure, with its 95 % interval, and a column each for the model with tiles and the one without."""
    height, width = report["image_size"]
    tiles, whole = report["models"]["tiles"], report["models"]["whole"]
    lines = [
        f"| {report['test']['defective']} defective and {report['test']['good']} good photographs of "
        f"{width} × {height} | in {report['tiles_an_image']} tiles | resized whole |",
        "|---|---|---|",
    ]
    for name, title, scale, digits in _FIGURES:
        lines.append(f"| {title} | {_cell(tiles[name], scale, digits)} | {_cell(whole[name], scale, digits)} |")
    lines.append(
        f"| area of the regions, in defects (median) | {_plain(tiles, 'excess')} | {_plain(whole, 'excess')} |"
    )
    for name, title in (
        ("seconds_deciding", "seconds to decide"),
        ("seconds_explaining_a_called_one", "seconds to decide and explain one that is called defective"),
    ):
        lines.append(f"| {title} (median) | {_plain(tiles, name)} | {_plain(whole, name)} |")
    slower = "; ".join(
        f"{what}: {found['median']:g} times as long ({found['lowest']:g}–{found['highest']:g})"
        for what, found in report["times_slower"].items()
    )
    note = f"In brackets 95 % intervals over photographs. In tiles, against whole, {slower}."
    return "\n".join([*lines, "", note, "", machine_line(report["machine"])])


def size_table(report: dict[str, Any]) -> str:
    """A row a range of sizes: how well defects of that size are told from good pictures."""
    lines = ["| side of the defect, network pixels | defects | AUROC, 95 % interval |", "|---|---|---|"]
    for row in report["rows"]:
        lines.append(f"| {row['from']} to {row['below']} | {row['defects']} | {_cell(row['auroc'], 1, 3)} |")
    trained = sum(report["trained_on"].values())
    note = (
        f"{report['network']}, {report['epochs']} epochs on {trained} pictures; against {report['good']} good ones, "
        "no training picture among them."
    )
    return "\n".join([*lines, "", note, "", machine_line(report["machine"])])


def _cell(figure: dict[str, Any] | None, scale: float, digits: int) -> str:
    if figure is None:
        return "–"
    value, low, high = (f"{scale * figure[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _plain(model: dict[str, Any], name: str) -> str:
    return "–" if model[name] is None else f"{model[name]:g}"
