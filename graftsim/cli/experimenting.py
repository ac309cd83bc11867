"""What the commands of experiments share: where work is kept, its progress, and what is written at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftsim import documents
from graftsim.cli import files, progress
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


SHOWN = 4
"""So many values of one hyperparameter are shown one by one."""


def check(outputs: Outputs) -> None:
    """What cannot be written is said before work is done."""
    if outputs.plot:
        figures.check(outputs.plot)
    if outputs.json:
        documents.check_writable(outputs.json)


@contextmanager
def kept(named: Path | None, study: str, what: str) -> Iterator[Ledger]:
    """The ledger of a command.

    A ledger that the user named stays. Without one, what is done is kept in the cache folder under a digest of ``what``
    until all is done, so that the same command goes on after an interrupt.
    """
    path = named or ledgers.place(what)
    with Ledger(path, study) as ledger:
        done = False
        try:
            yield ledger
            done = True
        except KeyboardInterrupt:
            if len(ledger):
                line = f"{len(ledger)} results are kept in {path}; the same command goes on"
                Console(stderr=True).print(escape(line), highlight=False, soft_wrap=True)
            raise
        finally:
            if named is None and (done or not len(ledger)):
                path.unlink(missing_ok=True)


@contextmanager
def work(outputs: Outputs, what: object, total: int) -> Iterator[tuple[Ledger, progress.Tell]]:
    """The ledger and the progress of ``total`` runs."""
    check(outputs)
    with kept(outputs.ledger, STUDY, repr(what)) as ledger, progress.shown("runs", total) as tell:
        yield ledger, tell


def plan(setup: Setup, lengths: Lengths, seeds: int) -> Plan:
    """What is run on the setup's problem: what the user says, else the setup."""
    steps = setup.steps if lengths.steps is None else lengths.steps
    every = setup.recorded_every(steps) if lengths.record_every is None else lengths.record_every
    return Plan(setup.problem, steps, seeds, every, lengths.dtype)


def brief(machine: str) -> str:
    """A machine as people read it: many values, such as corrections have for each group, are only counted."""

    def counted(found: re.Match[str]) -> str:
        values = found[0].count(",") + 1
        return found[0] if values <= SHOWN else f"{{{values} groups}}" if found[0][0] == "{" else f"[{values} values]"

    return re.sub(r"\{[^{}]*\}|\[[^][]*\]", counted, machine)


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
        files.write_json(outputs.json, {**document, "versions": versions()})
        console.print(f"written {outputs.json}", highlight=False, soft_wrap=True)
    if outputs.plot:
        draw(outputs.plot)
        console.print(f"drawn {outputs.plot}", highlight=False, soft_wrap=True)


def runs_document(runs: Runs) -> list[dict[str, Any]]:
    """The runs of one machine as plain values, one a seed."""
    return [
        {"seed": seed, "diverged": run.diverged, "steps": run.steps, "loss": run.loss, "measures": run.measures}
        for seed, run in enumerate(runs)
    ]
