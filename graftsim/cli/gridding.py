"""``graftsim grid``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from graftsim.cli import experimenting as common
from graftsim.cli.options import Lengths, Outputs
from graftsim.errors import GraftsimError
from graftsim.experiments import grid as grids
from graftsim.experiments import queue_ranks, setups
from graftsim.experiments.grid import Grid, GridResult
from graftsim.experiments.plans import LOSS, labels, summarised
from graftsim.experiments.shares import Shares
from graftsim.experiments.summaries import Summary, summary


def grid(
    source: str,
    optimizers: Sequence[str],
    partitions: Sequence[str],
    seeds: int,
    measures: Sequence[str],
    lengths: Lengths,
    outputs: Outputs,
) -> None:
    """Run a grid, print it, and write what was asked for."""
    queue_ranks.lead()
    setup = setups.load(source)
    chosen = labels(optimizers) if optimizers else setup.optimizers
    if not chosen:
        known = ", ".join(setups.packaged())
        raise GraftsimError(f"name the tuned optimizers, --optimizers sgd adam adagrad; only {known} has its own")
    asked = Grid(common.plan(setup, lengths, seeds), chosen, tuple(partitions))
    with common.work(outputs, asked, asked.runs) as (ledger, progress):
        result = grids.run(asked, ledger, outputs.jobs, progress)
    console = Console()
    report(result, measures, console)
    from graftsim.experiments import pictures

    common.end(outputs, console, document(result), lambda path: pictures.grid_curves(result, path))


def report(result: GridResult, measures: Sequence[str], console: Console) -> None:
    """For each partition a table of pairs for each quantity, the shares, and the checks."""
    grid = result.grid
    first = next(iter(grid.optimizers))
    quantities = common.shown_quantities(result.found[first,], measures)
    common.heading(grid.plan, grid.optimizers, console)
    for partition in grid.partitions:
        console.print(
            f"\n[bold]partition {escape(partition)}[/], {common.seeds_text(grid.plan.seeds)}", highlight=False
        )
        for quantity in quantities:
            console.print(_pairs(result, partition, quantity))
        for line in (*shares_lines(result, partition), _worst(result, partition)):
            console.print(escape(line), highlight=False, soft_wrap=True)
    for line in diagonal_lines(result):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _pairs(result: GridResult, partition: str, quantity: str) -> Any:
    """One row an M, one column a D."""
    labels = list(result.grid.optimizers)
    found = common.table(f"{quantity}, M \\ D", *labels)
    for m in labels:
        found.add_row(escape(m), *(summarised(result.found[partition, m, d], quantity).text() for d in labels))
    return found


def shares_lines(result: GridResult, partition: str) -> list[str]:
    """What M and D explain of the curves, with how many, and how those that diverged count."""
    seeds = result.grid.plan.seeds
    curves = seeds * len(result.grid.optimizers) ** 2
    try:
        found, held = result.shares(partition), result.held(partition)
    except GraftsimError as error:
        return [f"variance of log-loss curves: not defined, {error}"]
    lines = [f"variance of {curves} log-loss curves: {share_text(found, result.independent)}"]
    if diverged := result.diverged(partition):
        lines.append(f"  {diverged} of {curves} runs diverged; a loss counts for at most 10 times that of the start")
    if held:
        lines.append(f"  {held} recorded losses were held between 2^-52 and 10 times that of the start")
    return lines


def share_text(found: Sequence[Shares], independent: int) -> str:
    """The shares over the seeds; nothing is claimed of one, nor where only one made a difference."""
    if independent < 2:
        why = "" if len(found) < 2 else ", and all seeds give the same runs here"
        return f"the shares of M and D are not decidable with one seed{why}"
    m, d = summary([share.magnitude for share in found]), summary([share.direction for share in found])
    if m.diverged:
        return "there is none, since all curves of a seed are equal"
    least = min((share.magnitude / share.direction for share in found if share.direction > 0), default=math.inf)
    return f"M explains {_percent(m)}, D {_percent(d)} (n = {m.n} seeds; M at least {least:.3g} times as much as D)"


def _percent(share: Summary) -> str:
    return f"{100 * share.mean:.1f} ± {100 * share.deviation:.1f} %"


def _worst(result: GridResult, partition: str) -> str:
    factor, m, d = result.worst(partition)
    if not m:
        return "no optimizer alone has a positive final loss to compare its pairs with"
    what = "diverged, and M alone did not" if factor == float("inf") else f"{factor:.3g} times that of M alone"
    return f"without further tuning: the {LOSS} of the worst pair, {m}#{d}, {'' if 'diverged' in what else 'is '}{what}"


def diagonal_lines(result: GridResult) -> list[str]:
    """Whether each A#A was A to the bit."""
    rows, seeds = result.diagonal(), result.grid.plan.seeds
    lines = []
    if equal := sum(row.equal for row in rows):
        lines.append(f"A#A equals A alone to the bit in {equal} of {len(rows) * seeds} runs")
    for row in rows:
        where = f"{row.label}#{row.label}, partition {row.partition}"
        if row.differ:
            lines.append(f"  {where}: {row.differ} of {seeds} differ, although every ratio is 1: a fault of graftsim")
        if row.not_compared:
            lines.append(f"  {where}: {row.not_compared} of {seeds} not compared, since a ratio is not 1: it diverged")
    return lines


def document(result: GridResult) -> dict[str, Any]:
    """The result as plain values."""
    grid = result.grid
    return {
        "experiment": "grid",
        "plan": vars(grid.plan),
        "optimizers": dict(grid.optimizers),
        "alone": {label: common.runs_document(result.found[label,]) for label in grid.optimizers},
        "partitions": {
            partition: {
                "shares": _shares_document(result, partition),
                "pairs": [
                    {"magnitude": m, "direction": d, "runs": common.runs_document(result.found[partition, m, d])}
                    for m, d in grid.pairs()
                ],
            }
            for partition in grid.partitions
        },
        "diagonal": [vars(row) for row in result.diagonal()],
    }


def _shares_document(result: GridResult, partition: str) -> list[dict[str, float]] | None:
    try:
        return [{"magnitude": found.magnitude, "direction": found.direction} for found in result.shares(partition)]
    except GraftsimError:
        return None
