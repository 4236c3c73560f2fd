"""The table of training-accuracy."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import machine_line


def training_table(report: dict[str, Any]) -> str:
    """One row a data set and split: means over the trainings with intervals, and what each training had."""
    lines = [
        "| data, split | trained on | tested on (groups) | balanced accuracy | accuracy | escapes | overkill | ECE "
        "| minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in report["cases"]:
        counts, figures = case["counts"], case["figures"]
        cells = [
            case["case"],
            " / ".join(f"{sum(one['train'].values())}" for one in counts),
            " / ".join(
                f"{images} ({groups})" for images, groups in zip(case["test_images"], case["test_groups"], strict=True)
            ),
            *(_share(figures.get(name)) for name in ("balanced_accuracy", "accuracy", "escapes", "overkill")),
            " / ".join(f"{error:.3f}" for error in case["calibration_error"]),
            " / ".join(f"{minutes:.1f}" for minutes in case["core_minutes"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    note = "Per cent: mean of the trainings (95 % interval over groups): each. Minutes: of one core, summed over cores."
    return "\n".join([*lines, "", note, "", machine_line(report["machine"])])


def _share(figure: dict[str, Any] | None) -> str:
    """In per cent: the mean over the trainings, its interval, and each training."""
    if figure is None:
        return "–"
    each = " / ".join(f"{100 * value:.1f}" for value in figure["by_training"])
    return f"{100 * figure['mean']:.1f} ({100 * figure['low']:.1f}–{100 * figure['high']:.1f}): {each}"
