"""Progress of long commands, on the standard error: a bar on a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 60.0
"""Seconds between two lines where there is no terminal."""


class Tell(Protocol):
    """Is told how much is done, and of how much where that was not known before."""

    def __call__(self, done: int, total: int | None = None, /) -> None: ...


@contextmanager
def shown(unit: str, total: int | None = None, what: str = "", quiet: bool = False) -> Iterator[Tell]:
    """Show what is told, in units such as steps, until the block ends; quiet where another rank shows it."""
    console = Console(stderr=True)
    if quiet:
        yield lambda done, total=None, /: None
    elif not console.is_terminal:
        yield _Lines(console, f"{what}: " if what else "", unit, total)
    else:
        columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("left"))
        with Progress(TextColumn("{task.description}"), *columns, console=console, transient=True) as bar:
            task = bar.add_task(escape(what or unit), total=total)
            yield lambda done, total=None, /: bar.update(task, completed=done, total=total)


class _Lines:
    """A line at most every so many seconds, so that the log of a long command tells how far it is."""

    def __init__(self, console: Console, head: str, unit: str, total: int | None) -> None:
        self._console, self._head, self._unit, self._total = console, head, unit, total
        self._began = self._last = time.monotonic()

    def __call__(self, done: int, total: int | None = None, /) -> None:
        self._total = self._total if total is None else total
        now = time.monotonic()
        if now - self._last < EVERY:
            return
        self._last = now
        line = f"{self._head}{done} of {self._total} {self._unit} after {timedelta(seconds=int(now - self._began))}"
        self._console.print(escape(line), highlight=False, soft_wrap=True)
