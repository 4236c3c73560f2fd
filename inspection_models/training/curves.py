"""The course of a training as a table and as a picture."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from inspection_models.training.request import EpochFigures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

CURVES_FILE = "learning_curves.csv"
CURVES_PICTURE = "learning_curves.png"


def curves_csv(epochs: Sequence[EpochFigures]) -> bytes:
    """One row an epoch, its columns as in `EpochFigures`; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochFigures)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in epochs)
    return text.getvalue().encode()


def curves_png(epochs: Sequence[EpochFigures], title: str) -> bytes:
    """Losses above, shares of right decisions below, over the epochs."""
    figure = Figure(figsize=(7, 6.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    losses, shares = figure.subplots(2, 1, sharex=True)
    _draw(losses, epochs, {"training_loss": "training", "validation_loss": "validation", "marks_loss": "marks"})
    losses.set_ylabel("loss")
    losses.set_ylim(bottom=0)
    _draw(
        shares,
        epochs,
        {
            "training_accuracy": "training, augmented and drawn by class",
            "validation_accuracy": "validation",
            "balanced_accuracy": "validation, balanced",
        },
    )
    shares.set_ylabel("decided rightly")
    # From the ten per cent below the lowest point: between 97 and 100 lies what a reader wants to see.
    lowest = min(min(epoch.training_accuracy, epoch.validation_accuracy, epoch.balanced_accuracy) for epoch in epochs)
    bottom = max(0.0, math.floor(lowest * 10 - 0.5) / 10)
    shares.set_ylim(bottom, 1 + 0.02 * (1 - bottom))
    shares.yaxis.set_major_formatter(PercentFormatter(1.0))
    shares.set_xlabel("epoch (0: the new last layer alone)")
    shares.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (losses, shares):
        axes.grid(visible=True, color="0.92")
        if axes.lines[1:]:
            axes.legend(frameon=False, fontsize=8)
        _shade(axes, epochs)
    losses.set_title(title, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Axes, epochs: Sequence[EpochFigures], lines: dict[str, str]) -> None:
    for name, label in lines.items():
        points = [(epoch.epoch, getattr(epoch, name)) for epoch in epochs if getattr(epoch, name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, linewidth=1.4, label=label)


def _shade(axes: Axes, epochs: Sequence[EpochFigures]) -> None:
    """Where all layers learned after only the deep ones had: the change of stage explains a step in the curves."""
    if "deep" in {epoch.stage for epoch in epochs} and "all" in {epoch.stage for epoch in epochs}:
        first = min(epoch.epoch for epoch in epochs if epoch.stage == "all")
        axes.axvspan(first - 0.5, epochs[-1].epoch + 0.5, color="0.96", zorder=0)
        axes.annotate(
            "all layers",
            (first - 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -11),
            textcoords="offset points",
            fontsize=8,
            color="0.4",
        )
