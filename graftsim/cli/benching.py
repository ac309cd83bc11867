"""``graftsim bench``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from graftsim.cli import files
from graftsim.errors import GraftsimError

WIDTH = 120
"""Of the tables where the output is narrower or no terminal: names of contestants are long."""
LARGEST, LONGEST, MOST_THREADS = 10**9, 3600.0, 1024


def bench(
    names: Sequence[str], size: float | None, seconds: float, threads: int | None, json: Path | None, cases: Path | None
) -> None:
    """Measure, print the tables, and write the results where that was asked for."""
    from graftsim.bench import report, suite
    from graftsim.bench.cases import choose, load

    count = min(2, os.cpu_count() or 1) if threads is None else threads
    _check(size, seconds, count)
    groups = choose(load(cases), names, None if size is None else int(size))
    console = Console()
    console.width = max(console.width, WIDTH)
    with Console(stderr=True).status("") as status:
        results = suite.measure(groups, seconds, count, status.update)
    for each in report.tables(results):
        console.print(each, highlight=False, soft_wrap=True)
    if json:
        files.write_json(json, results)
        console.print(f"\nwritten {json}", highlight=False, soft_wrap=True)


def _check(size: float | None, seconds: float, threads: int) -> None:
    if size is not None and not (1 <= size <= LARGEST and size == int(size)):
        raise GraftsimError(f"--size must be a whole number from 1 to {LARGEST:g}; received {size:g}")
    if not 0 <= seconds <= LONGEST:
        raise GraftsimError(f"--seconds must be from 0 to {LONGEST:g}; received {seconds:g}")
    if not 1 <= threads <= MOST_THREADS:
        raise GraftsimError(f"--threads must be from 1 to {MOST_THREADS}; received {threads}")
