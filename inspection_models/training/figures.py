"""Pictures of a training's result."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from inspection_models.reliability import Bin
    from inspection_models.training.evaluation import Evaluation


def confusion_png(evaluation: Evaluation, title: str) -> bytes:
    """The confusion matrix as a PNG: numbers of images, shaded by their share of the true class.

    Where images may be of several classes there is no such matrix; drawn are each class's images found, missed and
    wrongly named.
    """
    if not evaluation.confusion:
        return _classes_png(evaluation, title)
    matrix = np.array(evaluation.confusion, float)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.6 + 0.62 * len(evaluation.classes)
    figure = Figure(figsize=(side + 0.6, side), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), number in np.ndenumerate(matrix):
        if number:
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, f"{int(number)}", ha="center", va="center", color=colour)
    ticks = range(len(evaluation.classes))
    axes.set_xticks(ticks, evaluation.classes, rotation=40, ha="right")
    axes.set_yticks(ticks, evaluation.classes)
    axes.set_xlabel("decided class")
    axes.set_ylabel("true class")
    axes.set_title(
        f"{title}\nbalanced accuracy {evaluation.balanced_accuracy:.1%} on {evaluation.images} images", fontsize=10
    )
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return _png(figure)


def reliability_png(evaluation: Evaluation, title: str) -> bytes:
    """Reliability diagrams as a PNG: stated probability against how often it was so, before and after calibration.

    Bins hold equally many images; whiskers are 95 % Clopper-Pearson intervals. On the left
    the decided class (or, where images may be of several, every class), on the right any defect.
    """
    before, after = evaluation.reliability_before, evaluation.reliability
    own = "the decided class" if evaluation.confusion else "each class"
    panels = [(own, before.bins, after.bins, before.expected_error, after.expected_error)]
    if before.defect_error is not None and after.defect_error is not None:
        panels.append(("any defect", before.defect_bins, after.defect_bins, before.defect_error, after.defect_error))
    figure = Figure(figsize=(4.6 * len(panels), 5.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    for place, (what, raw, calibrated, raw_error, error) in enumerate(panels):
        counted = "images" if evaluation.confusion or place else "answers"
        axes = figure.add_subplot(1, len(panels), place + 1)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
        axes.plot(
            [b.probability for b in raw],
            [b.frequency for b in raw],
            marker="o",
            markerfacecolor="white",
            color="0.55",
            linewidth=0.8,
            label=f"as the network says it: error {raw_error:.3f}",
        )
        _draw_bins(axes, calibrated, f"calibrated: error {error:.3f}")
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.06)
        axes.set_box_aspect(1)
        axes.set_xlabel(f"stated probability of {what}\n{len(calibrated)} bins of {calibrated[0].count} {counted}")
        axes.set_ylabel("how often it was so")
        axes.legend(loc="best", fontsize=8)
    figure.suptitle(f"{title}\nreliability on {evaluation.images} images, with 95 % intervals", fontsize=10)
    return _png(figure)


def _draw_bins(axes: Axes, bins: Sequence[Bin], label: str) -> None:
    x, y = [b.probability for b in bins], [b.frequency for b in bins]
    reach = [
        [max(0.0, b.frequency - b.low) for b in bins],
        [max(0.0, b.high - b.frequency) for b in bins],
    ]
    axes.errorbar(x, y, yerr=reach, fmt="o-", color="tab:blue", linewidth=1.2, elinewidth=0.8, capsize=2, label=label)


def _classes_png(evaluation: Evaluation, title: str) -> bytes:
    labels = list(evaluation.per_class)
    figure = Figure(figsize=(7.2, 1.9 + 0.42 * len(labels)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    left = np.zeros(len(labels))
    for name, colour, counts in (
        ("found", "tab:blue", [c.found for c in evaluation.per_class.values()]),
        ("missed", "tab:orange", [c.support - c.found for c in evaluation.per_class.values()]),
        ("wrongly named", "0.7", [c.named - c.found for c in evaluation.per_class.values()]),
    ):
        bars = axes.barh(labels, counts, left=left, color=colour, label=name)
        axes.bar_label(bars, [str(n) if n else "" for n in counts], label_type="center", fontsize=8)
        left += np.array(counts)
    axes.invert_yaxis()
    axes.set_xlabel("images")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
    axes.set_title(
        f"{title}\nall classes right in {evaluation.accuracy:.1%} of {evaluation.images} images", fontsize=10
    )
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
