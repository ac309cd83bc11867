"""Parameters that several commands have in common, each declared once: what it is called, and what help says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
Several = Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")]
"""``--names a b c``."""
Repeated = Annotated[list[str] | None, Parameter(negative="")]
"""``--name a --name b``."""
Piped = Annotated[str, Parameter(allow_leading_hyphen=True)]
"""A file, or - for the standard input or output."""

Problem = Annotated[str, Parameter(help="A problem, such as digits; graftsim list names them.")]
Setup = Annotated[str, Parameter(help="A problem, or a setup file (.yaml) of a problem and tuned optimizers.")]
Engine = Annotated[
    str, Parameter(help="numpy, the reference, or compiled: the same bits, sooner where runs are long or large.")
]
MachineFiles = Annotated[
    list[Path] | None, Parameter(name="--machine-file", negative="", help="A machine file to add to the library.")
]
Partitions = Annotated[Several, Parameter(help="Over which they are grafted; global and tensor by default.")]
Measures = Annotated[
    Several,
    Parameter(help="What is shown beside the final loss; by default what the problem measures on test data."),
]
Seeds = Annotated[int, Parameter(help="How many runs of each.")]
KeepEvery = Annotated[
    int | None,
    Parameter(
        help="Keep weights and state every so many steps, a multiple of --record-every; by default at the same steps."
    ),
]
Dtype = Annotated[str, Parameter(help="float64 or float32.")]
Plot = Annotated[Path | None, Parameter(help="Where to draw (.svg, .png or .pdf).")]
Jobs = Annotated[int, Parameter(name=["--jobs", "-j"], help="How many processes run at a time.")]
Kept = Annotated[
    Path | None,
    Parameter(
        help="A file that keeps every finished run, for this and later commands; without it, what an interrupted "
        "command finished is kept until it is given again."
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Recording:
    """What is recorded of a run, and in which arithmetic. The names are those of :class:`graftsim.runs.Run`."""

    seed: int = 0
    """Of the weights at the start, and of what the problem draws."""

    dtype: Dtype = "float64"

    record_every: int = 1
    """Record losses and ratios every so many steps."""


@Parameter(name="*")
@dataclass(frozen=True)
class Lengths:
    """How long the runs of an experiment are, and how they are recorded."""

    steps: int | None = None
    """Of each run; by default what suits the problem."""

    record_every: int | None = None
    """Record the loss every so many steps; by default 50 times, or what suits the problem."""

    dtype: Dtype = "float64"


@Parameter(name="*")
@dataclass(frozen=True)
class Outputs:
    """What an experiment writes, and how it works."""

    json: Path | None = None
    """Where to write all results as JSON."""

    plot: Plot = None

    ledger: Kept = None

    jobs: Jobs = 1
