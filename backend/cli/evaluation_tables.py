"""An evaluation as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.table import Table

from inspection_models.metrics.report import FAITHFULNESS, LOCALISATION, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from inspection_models.metrics import ExplanationReport, Interval, MethodRow
    from inspection_models.training import Evaluation

_FEW = 20
_FILLS = {"mean": "filled with the training mean", "blur": "filled with the blurred image"}


def print_explanations(report: ExplanationReport, part: str, console: Console) -> None:
    """Print what was measured, the figures with their intervals, and their differences to the baseline."""
    left_out = "; ".join(f"{count} {reason}" for reason, count in report.left_out.items()) or "none"
    console.print(
        f"{report.model['name']} {report.model['version']}, {part} part: the true class explained on "
        f"{len(report.images)} rightly decided images with a marked defect; left out: {left_out}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        "per cent, with 95 % bootstrap intervals below, groups of alike images resampled whole; ↑ higher is better, "
        "↓ lower is better",
        highlight=False,
        soft_wrap=True,
    )
    _warn_of_few(report.rows, console)
    _print_rows("where the maps point", report.rows, LOCALISATION, console, cost=_medians(report))
    for fill, metrics in FAITHFULNESS.items():
        _print_rows(f"what the network makes of them, {_FILLS[fill]}", report.rows, metrics, console)
    share = report.settings["small_defect"]
    if report.small:
        found = report.small[0].figures["ap"].of
        _warn_of_few(report.small, console)
        _print_rows(
            f"where the maps point, defects under {share:.0%} of the picture ({found} images)",
            report.small,
            LOCALISATION,
            console,
        )
    else:
        console.print(f"no defect is under {share:.0%} of the picture", highlight=False)


def _warn_of_few(rows: Sequence[MethodRow], console: Console) -> None:
    counted = rows[0].figures["ap"]
    if counted.groups < _FEW:
        console.print(
            f"note: intervals of only {counted.groups} groups ({counted.of} images) are too narrow",
            style="yellow",
            highlight=False,
        )


def _print_rows(
    title: str,
    rows: Sequence[MethodRow],
    metrics: Sequence[Metric],
    console: Console,
    cost: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    table = _table(title, metrics)
    for heading in ("seconds", "masks") if cost else ():
        table.add_column(heading, justify="right")
    for row in rows:
        spent = [f"{cost[row.method][0]:.3f}", f"{cost[row.method][1]:,.0f}"] if cost else []
        table.add_row(row.method, *(_figure(row.figures[metric.key]) for metric in metrics), *spent)
    console.print(table)
    if any(row.differences for row in rows):
        baseline = next(row.method for row in rows if row.differences is None)
        compared = _table(f"{title}: difference to {baseline} on the same images (* not zero)", metrics)
        for row in rows:
            if row.differences is not None:
                compared.add_row(row.method, *(_difference(row.differences[metric.key]) for metric in metrics))
        console.print(compared)


def _table(title: str, metrics: Sequence[Metric]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("method")
    for metric in metrics:
        table.add_column(f"{metric.title} {'↑' if metric.better == 'higher' else '↓'}", justify="right")
    return table


def _medians(report: ExplanationReport) -> dict[str, tuple[float, float]]:
    """Median seconds and mean masks an image by method; the first image may wait for what the others find ready."""
    return {
        row.method: (
            float(np.median([image.maps[place].values["seconds"] for image in report.images])),
            row.masks_scored,
        )
        for place, row in enumerate(report.rows)
    }


def _figure(interval: Interval) -> str:
    return f"{100 * interval.value:.1f}\n[dim]{100 * interval.low:.1f} … {100 * interval.high:.1f}[/dim]"


def _difference(interval: Interval) -> str:
    mark = "*" if interval.excludes_zero else " "
    return f"{100 * interval.value:+.1f}{mark}\n[dim]{100 * interval.low:+.1f} … {100 * interval.high:+.1f}[/dim]"


def print_decisions(evaluation: Evaluation, part: str, console: Console) -> None:
    """Print figures by class, the confusions, escapes and overkill."""
    table = Table(title=f"{part} part", title_justify="left")
    for column in ("class", "precision", "recall", "F1", "images"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for label, one in evaluation.per_class.items():
        table.add_row(label, *map(_share, (one.precision, one.recall, one.f1)), str(one.support))
    console.print(table)
    confusion = Table(title="confusion (rows: true, columns: decided)", title_justify="left")
    confusion.add_column("")
    for label in evaluation.classes:
        confusion.add_column(label, justify="right", overflow="fold")
    for label, counts in zip(evaluation.classes, evaluation.confusion, strict=True):
        confusion.add_row(label, *(str(count) if count else "·" for count in counts))
    console.print(confusion)
    for what, rate in (
        ("escapes (defects called good)", evaluation.escapes),
        ("overkill (good called defective)", evaluation.overkill),
    ):
        if rate is not None:
            console.print(f"{what}: {rate.count} of {rate.of}", highlight=False)
    console.print(
        f"balanced accuracy {evaluation.balanced_accuracy:.1%}, accuracy {evaluation.accuracy:.1%} on "
        f"{evaluation.images} images; calibration error {evaluation.calibration_error:.3f}",
        highlight=False,
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
