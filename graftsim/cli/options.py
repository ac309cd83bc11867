"""Options that several commands have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class Lengths:
    """How long the runs of an experiment are, and how they are recorded."""

    steps: int | None = None
    """Of each run; by default what suits the problem."""

    record_every: int | None = None
    """Record the loss every so many steps; by default 50 times, or what suits the problem."""

    dtype: str = "float64"
    """float32 or float64."""


@Parameter(name="*")
@dataclass(frozen=True)
class Outputs:
    """What an experiment writes, and how it works."""

    json: Path | None = None
    """Where to write all results as JSON."""

    plot: Path | None = None
    """Where to draw (.svg, .png or .pdf)."""

    ledger: Path | None = None
    """A file that keeps every finished run, for this and later experiments; without it, an interrupted command goes on
    where it was when it is given again."""

    jobs: Annotated[int, Parameter(name=["--jobs", "-j"])] = 1
    """How many processes run at a time."""
