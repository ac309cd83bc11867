"""``graftsim apply`` and ``compare``: a direction with discovered corrections, and two runs side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftsim import notation, problems, runs
from graftsim.cli import experimenting as common
from graftsim.cli import pipes, progress, running
from graftsim.cli.options import Outputs
from graftsim.experiments.discovery import agreement, applying
from graftsim.experiments.discovery.agreement import Agreement
from graftsim.machines import Library
from graftsim.runs import Result, Run
from graftsim.simulate import simulate

ROWS = 12
"""So many steps are shown."""


def apply(
    source: str,
    machine: str,
    run: Run,
    scale: float,
    engine: str,
    out: Path | None,
    plot: Path | None,
    machine_files: Sequence[Path],
) -> None:
    """Run a machine with corrections and print what came of it."""
    running.check_places(out, plot)
    machines = Library(machine_files) if machine_files else None
    found = pipes.corrections_of(source)
    found = dataclasses.replace(found, scale=found.scale * scale)
    problem, inner = problems.parse(run.problem), notation.parse(machine, machines)
    corrected = applying.corrected(inner, found, problem.layout)
    with progress.shown("steps", run.steps) as tell:
        done = simulate(
            *(problem, corrected, run.steps, run.seed, run.dtype, run.record_every),
            progress=tell,
            engine=engine,
            keep_every=run.keep_every,
        )
    running.show(runs.RunFile("", "", (run,)), [Result(run, done, problem.measures(done.last), None)], out, plot)


def compare(first: str, second: str, outputs: Outputs) -> None:
    """Print by step how far two runs go the same way."""
    common.check(outputs)
    a, b = pipes.recording(first), pipes.recording(second)
    found = agreement.agree(a, b)
    console = Console()
    for name, run in ((first, a), (second, b)):
        line = f"{name}: {common.brief(run.meta.machine)} on {run.meta.problem}, seed {run.meta.seed}"
        console.print(escape(line), highlight=False, soft_wrap=True)
    console.print(_agreement_table(found))
    console.print(f"loss at step {found.steps[-1]}: {found.losses[0]:.4g} and {found.losses[1]:.4g}", highlight=False)
    from graftsim.experiments.discovery import pictures

    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in vars(found).items()}
    common.end(outputs, console, plain, lambda place: pictures.agreement_curves(found, (first, second), place))


def _agreement_table(found: Agreement) -> Table:
    headings = ("step", "distance", "relative", "cosine of updates", "cosine of ways", "ratio of ways")
    table = common.table(*headings)
    last = len(found.steps) - 1
    shown = sorted({round(last ** (i / (ROWS - 1))) for i in range(ROWS)} | {last})
    columns = (found.distance, found.relative, found.updates, found.ways, found.lengths)
    for row in shown:
        table.add_row(str(found.steps[row]), *(f"{column[row]:.4g}" for column in columns))
    return table
