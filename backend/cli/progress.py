"""The bar that shows how far a long command has come: what it is at, of how many, for how long."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def counting(first: str, *, stays: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error; what it gives is told (what, done, total) and shows it.

    Args:
        first: what is shown until something is told.
        stays: whether the last state stays to be seen.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=not stays) as progress:
        bar = progress.add_task(first, total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(bar, description=what, completed=done, total=total)

        yield tell
