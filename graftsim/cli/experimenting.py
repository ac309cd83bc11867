"""What the commands of experiments share: where work is kept, its progress, and what is written at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from graftsim import documents
from graftsim.cli.options import Lengths, Outputs
from graftsim.errors import GraftsimError, nearest
from graftsim.experiments import figures
from graftsim.experiments import ledger as ledgers
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.plans import LOSS, Plan, Runs, quantities
from graftsim.experiments.setups import Setup
from graftsim.trajectory import versions

STUDY = "training runs"
"""All experiments that consist of trials may share a ledger, and then the runs that they have in common."""


def check(outputs: Outputs) -> None:
    """What cannot be written is said before work is done."""
    if outputs.plot:
        figures.check(outputs.plot)
    if outputs.json:
        documents.check_writable(outputs.json)


@contextmanager
def work(outputs: Outputs, what: object, total: int) -> Iterator[tuple[Ledger, Callable[[int], object]]]:
    """The ledger and the progress bar of ``total`` runs.

    A ledger that the user named stays. Without one, what is done is kept in the cache folder under a digest of ``what``
    until all is done, so that the same command goes on after an interrupt.
    """
    check(outputs)
    path = outputs.ledger or ledgers.place(repr(what))
    console = Console(stderr=True)
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Ledger(path, STUDY) as ledger:
        done = False
        try:
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
                task = bar.add_task("", total=total)
                yield ledger, lambda done: bar.update(task, completed=done)
            done = True
        except KeyboardInterrupt:
            if len(ledger):
                kept = f"{len(ledger)} results are kept in {path}; the same command goes on"
                console.print(kept, highlight=False, soft_wrap=True)
            raise
        finally:
            if outputs.ledger is None and (done or not len(ledger)):
                path.unlink(missing_ok=True)


def plan(setup: Setup, lengths: Lengths, seeds: int) -> Plan:
    """What is run on the setup's problem: what the user says, else the setup."""
    steps = setup.steps if lengths.steps is None else lengths.steps
    every = setup.recorded_every(steps) if lengths.record_every is None else lengths.record_every
    return Plan(setup.problem, steps, seeds, every, lengths.dtype)


def heading(plan: Plan, machines: Mapping[str, str], console: Console) -> None:
    """What is run."""
    text = f"[bold]{escape(plan.problem)}[/], {plan.steps} steps, {plan.dtype}"
    console.print(text, highlight=False, soft_wrap=True)
    for label, machine in machines.items():
        console.print(
            escape(f"  {label}: {machine}" if label != machine else f"  {machine}"), highlight=False, soft_wrap=True
        )


def shown_quantities(runs: Runs, measures: Sequence[str]) -> list[str]:
    """The quantities that tables show: the final loss, and the measures asked for; else those of the test, else all.

    Raises:
        GraftsimError: the problem has no such measure.
    """
    known = quantities(runs)[1:]
    for name in measures:
        if name not in known:
            raise GraftsimError(f"the problem has no measure {name!r}{nearest(name, known)}")
    tested = [name for name in known if name.startswith("test") and "loss" not in name]
    return [LOSS, *(measures or tested or known)]


def table(*headings: str) -> Table:
    """An empty table with a text column and columns of numbers."""
    found = Table(box=None, pad_edge=False, padding=(0, 1))
    for number, heading in enumerate(headings):
        found.add_column(escape(heading), justify="right" if number else "left", no_wrap=not number)
    return found


def seeds_text(seeds: int) -> str:
    """How many runs a number stands for."""
    return "one seed" if seeds == 1 else f"mean ± deviation of {seeds} seeds"


def end(outputs: Outputs, console: Console, document: Mapping[str, Any], draw: Callable[[Path], object]) -> None:
    """Write and draw what was asked for."""
    if outputs.json:
        text = json.dumps(finite({**document, "versions": versions()}), indent=1, allow_nan=False) + "\n"
        path = outputs.json
        documents.write_atomically(path, lambda file: file.write(text.encode()))
        console.print(f"written {path}", highlight=False, soft_wrap=True)
    if outputs.plot:
        draw(outputs.plot)
        console.print(f"drawn {outputs.plot}", highlight=False, soft_wrap=True)


def runs_document(runs: Runs) -> list[dict[str, Any]]:
    """The runs of one machine as plain values, one a seed."""
    return [
        {"seed": seed, "diverged": run.diverged, "steps": run.steps, "loss": run.loss, "measures": run.measures}
        for seed, run in enumerate(runs)
    ]


def finite(value: Any) -> Any:
    """A document without what JSON has no word for: NaN and infinities become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value
