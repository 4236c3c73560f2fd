"""What a person sees while the demo comes up: one line a step, with the seconds it took."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console


class DemoProgress:
    """Lines on a console; on a terminal the running step also shows its seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Callable[[str], None] | None = None

    @contextmanager
    def step(self, what: str) -> Iterator[Callable[[float], None]]:
        """Show a step; the value yielded may be told the seconds passed."""
        started = time.monotonic()
        with self._console.status(what) as status:

            def update(text: str) -> None:
                status.update(f"{what}: {text}")

            self._status = update
            yield lambda seconds: update(f"{seconds:.0f} s")
        self._status = None
        self._console.print(f"[green]✓[/green] {what} [dim]({time.monotonic() - started:.1f} s)[/dim]", highlight=False)

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, highlight=False)

    def count(self, what: str, done: int, total: int) -> None:
        """How far the running step is; a line of its own where there is no terminal."""
        if self._console.is_terminal and self._status is not None:
            self._status(f"{what} {done}/{total}")
        else:
            self._console.print(f"  {what}: {done} of {total}", highlight=False)
