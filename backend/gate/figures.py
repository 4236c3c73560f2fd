"""The report's drawings: SVG of matplotlib, to the byte the same for the same figures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from inspection_models.gate import Comparison, Rules
    from inspection_models.gate.bounds import Bounds
    from inspection_models.gate.comparison import Calibration
    from inspection_models.gate.reliability import ReliabilityBin

# Told apart without colour, too: by the filling of the marks and the height that they stand at.
_CANDIDATE, _SERVICE = "#1f5fa8", "#8a5a00"
_GREY = "#777777"


def rates_svg(comparison: Comparison, rules: Rules) -> bytes:
    """Escapes, overkill, review and errors of both models with their bounds, and the limits of the rules."""
    rows: list[tuple[str, Bounds, Bounds, float | None]] = []
    for title, rate, rule in (
        ("escapes", comparison.escapes, "escapes.at_most"),
        ("overkill", comparison.overkill, "overkill.at_most"),
        ("sent to review", comparison.review, "review.at_most"),
    ):
        if rate is not None:
            rows.append((title, rate.candidate, rate.service, rules.limits.get(rule)))
    if (balanced := comparison.balanced_accuracy) is not None:
        least = rules.limits.get("balanced_accuracy.at_least")
        limit = None if least is None else 1 - least
        rows.append(("1 - balanced accuracy", _missing(balanced.candidate), _missing(balanced.service), limit))
    with rc_context({"svg.hashsalt": "inspection-gate", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(8.6, 0.9 + 0.62 * len(rows)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for place, (_, candidate, service, limit) in enumerate(rows):
            _whisker(axes, candidate, place - 0.14, _CANDIDATE, "o", label="candidate" if place == 0 else None)
            _whisker(axes, service, place + 0.14, _SERVICE, "s", label="in service" if place == 0 else None)
            if limit is not None:
                axes.plot(
                    [100 * limit] * 2,
                    [place - 0.36, place + 0.36],
                    color="#b00020",
                    linewidth=2,
                    label="limit of the rules" if place == 0 else None,
                )
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_xlim(left=-0.4)
        axes.set_xlabel("per cent of the images; smaller is better")
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(fontsize=8, loc="lower right", framealpha=1)
        return _svg(figure)


def reliability_svg(calibration: Calibration) -> bytes:
    """Reliability diagrams of both models side by side."""
    sides: Sequence[tuple[str, tuple[ReliabilityBin, ...], Bounds, str, str]] = (
        ("candidate", calibration.candidate_bins, calibration.error.candidate, _CANDIDATE, "o"),
        ("in service", calibration.service_bins, calibration.error.service, _SERVICE, "s"),
    )
    with rc_context({"svg.hashsalt": "inspection-gate", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(8.6, 4.2), layout="constrained")
        FigureCanvasSVG(figure)
        for place, (title, bins, error, colour, mark) in enumerate(sides):
            axes = figure.add_subplot(1, 2, place + 1)
            axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
            axes.plot([b.stated for b in bins], [b.observed for b in bins], color=colour, linewidth=1)
            areas = [18 + 220 * b.images / max(1, sum(one.images for one in bins)) for b in bins]
            axes.scatter(
                [b.stated for b in bins], [b.observed for b in bins], s=areas, color=colour, marker=mark, zorder=3
            )
            axes.set_xlim(-0.03, 1.03)
            axes.set_ylim(-0.03, 1.03)
            axes.set_aspect("equal")
            axes.set_title(f"{title}: error {error.value:.3f}", fontsize=10)
            what = "of any defect" if calibration.of == "defect" else "of the most probable class"
            axes.set_xlabel(f"stated probability {what}")
            axes.set_ylabel("how often it was so")
        return _svg(figure)


def _missing(bounds: Bounds) -> Bounds:
    """Of a share, what it lacks of one."""
    return type(bounds)(1 - bounds.value, 1 - bounds.high, 1 - bounds.low)


def _whisker(axes: Axes, bounds: Bounds, height: float, colour: str, mark: str, *, label: str | None) -> None:
    axes.plot([100 * bounds.low, 100 * bounds.high], [height] * 2, color=colour, linewidth=2)
    axes.plot([100 * bounds.value], [height], color=colour, marker=mark, markersize=7, linestyle="none", label=label)


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
