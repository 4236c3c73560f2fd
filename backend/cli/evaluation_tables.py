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
    from inspection_models.model_card import ModelCard
    from inspection_models.training import Evaluation
    from inspection_models.training.evaluation import Rate
    from inspection_models.training.recalibration import Offer

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
    """Print figures by class, the confusions, escapes, overkill, what goes to review, and how good the scores are."""
    console.print(_classes(evaluation, part))
    if evaluation.confusion:
        confusion = Table(title="confusion (rows: true, columns: called)", title_justify="left")
        confusion.add_column("")
        for label in evaluation.classes:
            confusion.add_column(label, justify="right", overflow="fold")
        for label, counts in zip(evaluation.classes, evaluation.confusion, strict=True):
            confusion.add_row(label, *(str(count) if count else "·" for count in counts))
        console.print(confusion)
    console.print(_rates(evaluation))
    console.print(_scores(evaluation))
    right = "all classes right in" if evaluation.mean_average_precision is not None else "accuracy"
    precision = evaluation.mean_average_precision
    ranked = "" if precision is None else f", mean average precision {precision:.1%}"
    console.print(
        f"balanced accuracy {evaluation.balanced_accuracy:.1%}, {right} {evaluation.accuracy:.1%} on "
        f"{evaluation.images} images{ranked}",
        highlight=False,
    )


def _classes(evaluation: Evaluation, part: str) -> Table:
    table = Table(title=f"{part} part", title_justify="left")
    several = evaluation.mean_average_precision is not None
    columns = ("class", "precision", "recall", "F1", *(("AP",) if several else ()), "images")
    for column in columns:
        table.add_column(column, justify="left" if column == "class" else "right")
    for label, one in evaluation.per_class.items():
        figures = (one.precision, one.recall, one.f1, *((one.average_precision,) if several else ()))
        table.add_row(label, *map(_share, figures), str(one.support))
    return table


def _rates(evaluation: Evaluation) -> Table:
    table = Table(title="95 % intervals, of parts where several images are of one", title_justify="left")
    for column in ("", "images", "parts", "share", "interval"):
        table.add_column(column, justify="right" if column else "left")
    alone = evaluation.alone
    for what, rate in (
        ("escapes: defects called good", evaluation.escapes),
        ("overkill: good ones called defective", evaluation.overkill),
        ("sent to review", alone.review),
        ("decided alone: wrong class", alone.errors),
        ("decided alone: escapes", alone.escapes),
        ("decided alone: overkill", alone.overkill),
    ):
        if rate is not None:
            table.add_row(what, *rate_cells(rate))
    return table


def rate_cells(rate: Rate) -> tuple[str, str, str, str]:
    """A rate as images, parts, share in per cent and its interval."""
    count, of = (rate.count, rate.of) if rate.parts is None else (rate.parts, rate.of_parts or 0)
    return (
        f"{rate.count} of {rate.of}",
        "–" if rate.parts is None else f"{rate.parts} of {rate.of_parts}",
        f"{count / of:.1%}" if of else "–",
        f"{rate.low:.1%} … {rate.high:.1%}" if of else "–",
    )


def print_lines(card: ModelCard, console: Console) -> None:
    """Print where a model draws its lines and what shows that they hold."""
    from inspection_models.risk import percent  # noqa: PLC0415

    review = card.thresholds.review
    if card.good_class is None:
        console.print(f"a class stands alone from probability {review.sure_from:.6g}", highlight=False)
    else:
        console.print(
            f"by probability of any defect: good below {review.good_below:.6g}, defective from "
            f"{review.defect_from:.6g}, review between; called defective from {card.thresholds.decision:.6g}",
            highlight=False,
        )
    for origin in card.origins:
        on = f"{origin.failures} of {origin.parts} independent parts failed ({origin.images} images)"
        if origin.confidence is None:
            console.print(f"  {origin.line}: about {percent(origin.rate)} on average; {on}", highlight=False)
        else:
            console.print(
                f"  {origin.line}: at most {percent(origin.rate)} with {percent(origin.confidence)} confidence; {on}, "
                f"so at most {percent(origin.bound or 0)}",
                highlight=False,
                soft_wrap=True,
            )


def print_offers(offers: Sequence[Offer], confidence: float, console: Console) -> None:
    """Print what other rates would cost."""
    from inspection_models.risk import Risk, parts_needed, percent  # noqa: PLC0415

    kept = next((offer.evaluation for offer in offers if offer.evaluation is not None), None)
    several = kept is not None and kept.escapes is None
    what = "errors" if several else "escapes"
    table = Table(title=f"what these photographs could promise with {percent(confidence)} confidence")
    for column in (f"{what} at most", "sent to review", "decided alone: overkill", "called defective: overkill"):
        table.add_column(column, justify="right")
    for offer in offers:
        if offer.evaluation is None:
            needed = parts_needed(Risk(offer.rate, confidence))
            table.add_row(percent(offer.rate), f"cannot be shown; {needed} parts", "–", "–")
            continue
        alone = offer.evaluation.alone
        cells = [_of(rate) for rate in (alone.review, alone.overkill, offer.evaluation.overkill)]
        table.add_row(percent(offer.rate), *cells)
    console.print(table)


def _of(rate: Rate | None) -> str:
    return "–" if rate is None else f"{rate.count} of {rate.of}"


def _scores(evaluation: Evaluation) -> Table:
    table = Table(title="how far the scores can be believed (lower is better)", title_justify="left")
    for column in ("", "before calibration", "after"):
        table.add_column(column, justify="right" if column else "left")
    before, after = evaluation.reliability_before, evaluation.reliability
    bins = f"{len(after.bins)} bins of {after.bins[-1].count} to {after.bins[0].count}"
    for what, one, two in (
        (f"expected calibration error ({bins})", before.expected_error, after.expected_error),
        ("  of any defect", before.defect_error, after.defect_error),
        ("  mean of the classes", before.classwise_error, after.classwise_error),
        ("Brier score", before.brier, after.brier),
        ("log loss, nats", before.log_loss, after.log_loss),
    ):
        if one is not None:
            table.add_row(what, _share(one), _share(two))
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
