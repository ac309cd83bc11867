"""``graftsim sweep``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from graftsim.cli import experimenting as common
from graftsim.cli.options import Lengths, Outputs
from graftsim.errors import GraftsimError
from graftsim.experiments import queue_ranks, setups
from graftsim.experiments import sweep as sweeps
from graftsim.experiments.plans import LOSS, summarised
from graftsim.experiments.sweep import Sweep, SweepResult


def sweep(
    parameter: str,
    source: str,
    machine: str,
    values: Sequence[str],
    seeds: int,
    measures: Sequence[str],
    lengths: Lengths,
    outputs: Outputs,
) -> None:
    """Run a sweep, print it, and write what was asked for."""
    queue_ranks.lead()
    asked = Sweep(common.plan(setups.load(source), lengths, seeds), machine, parameter, tuple(values))
    with common.work(outputs, asked, len(values) * seeds) as (ledger, progress):
        result = sweeps.run(asked, ledger, outputs.jobs, progress)
    console = Console()
    quantities = common.shown_quantities(result.found[asked.values[0]], measures)
    report(result, quantities, console)
    from graftsim.experiments import pictures

    drawn = measures[0] if measures else LOSS
    common.end(outputs, console, document(result), lambda path: pictures.sweep_figure(result, path, drawn))


def report(result: SweepResult, quantities: Sequence[str], console: Console) -> None:
    """One row a value, and one for each closed form of the problem."""
    sweep = result.sweep
    common.heading(sweep.plan, {"machine": sweep.machine}, console)
    found = common.table(sweep.parameter, *quantities, "decades apart")
    for value in sweep.values:
        runs = result.found[value]
        cells = [summarised(runs, quantity).text(5) for quantity in quantities]
        found.add_row(escape(value), *cells, _distance(result, value))
    for name, predicted in result.predictions.items():
        cells = [f"{predicted[quantity]:.5g}" if quantity in predicted else "" for quantity in quantities]
        if any(cells):
            found.add_row(escape(f"closed form: {name}"), *cells, "", style="dim")
    console.print(found)
    console.print(common.seeds_text(sweep.plan.seeds), highlight=False)


def _distance(result: SweepResult, value: str) -> str:
    try:
        return result.distance(value).text()
    except GraftsimError:  # losses without logarithms
        return ""


def document(result: SweepResult) -> dict[str, Any]:
    """The result as plain values."""
    sweep = result.sweep
    return {
        "experiment": "sweep",
        "plan": vars(sweep.plan),
        "machine": sweep.machine,
        "parameter": sweep.parameter,
        "values": [
            {"value": value, "machine": machine, "runs": common.runs_document(result.found[value])}
            for value, machine in sweep.machines().items()
        ],
        "predictions": {name: dict(numbers) for name, numbers in result.predictions.items()},
    }
