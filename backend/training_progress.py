"""A training's events in words a person can follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection_models.training import TrainingEvent


def describe(event: TrainingEvent) -> str:
    """What the training is at."""
    if event.phase == "epoch":
        score = f", balanced accuracy {event.balanced_accuracy:.1%}" if event.balanced_accuracy is not None else ""
        return f"epoch {event.epoch} of {event.epochs}{score}"
    return {
        "sizes": "measuring marked defects",
        "tiles": "cutting tiles",
        "read": "reading images",
        "head": "training the last layer",
        "merge": "looking at whole images",
        "lines": "drawing the lines of its decisions",
        "regions": "learning to draw regions",
        "test": "measuring on the test part",
    }[event.phase]


def counted(count: Callable[[str, int, int], None]) -> Callable[[TrainingEvent], None]:
    """A listener that reports the end of each phase and epoch, for places without a progress bar of their own."""

    def hear(event: TrainingEvent) -> None:
        if event.done == event.total:
            count(f"training: {describe(event)}", event.done, event.total)

    return hear
