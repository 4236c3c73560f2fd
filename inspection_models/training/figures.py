"""Pictures of a training's result."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from inspection_models.training.evaluation import Evaluation


def confusion_png(evaluation: Evaluation, title: str) -> bytes:
    """The confusion matrix as a PNG: numbers of images, shaded by their share of the true class."""
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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
