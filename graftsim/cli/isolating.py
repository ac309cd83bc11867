"""``graftsim zoo``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from graftsim.cli import experimenting as common
from graftsim.cli.options import Lengths, Outputs
from graftsim.errors import GraftsimError
from graftsim.experiments import queue_ranks, setups
from graftsim.experiments import zoo as zoos
from graftsim.experiments.plans import labels, summarised
from graftsim.experiments.zoo import Zoo, ZooResult


def zoo(
    source: str,
    magnitude: str | None,
    optimizers: Sequence[str],
    partitions: Sequence[str],
    seeds: int,
    measures: Sequence[str],
    lengths: Lengths,
    outputs: Outputs,
) -> None:
    """Run a zoo, print it, and write what was asked for."""
    queue_ranks.lead()
    setup = setups.load(source)
    chosen_m = setup.magnitude if magnitude is None else magnitude
    directions = labels(optimizers) if optimizers else setup.directions
    if not directions or chosen_m is None:
        known = ", ".join(name for name in setups.packaged() if setups.load(name).directions)
        raise GraftsimError(f"name M and the optimizers, --m adagrad --optimizers yogi adam; only {known} has its own")
    asked = Zoo(common.plan(setup, lengths, seeds), chosen_m, directions, tuple(partitions))
    total = sum(len(group) for group in asked.trials().values())
    with common.work(outputs, asked, total) as (ledger, progress):
        result = zoos.run(asked, ledger, outputs.jobs, progress)
    console = Console()
    report(result, measures, console)
    from graftsim.experiments import pictures

    common.end(outputs, console, document(result), lambda path: pictures.zoo_curves(result, path))


def report(result: ZooResult, measures: Sequence[str], console: Console) -> None:
    """A table for each quantity: the optimizers alone, and as directions under M."""
    zoo = result.zoo
    common.heading(zoo.plan, {"M": zoo.magnitude, **zoo.directions}, console)
    for quantity in common.shown_quantities(result.found[()], measures):
        found = common.table(quantity, "alone", *(f"M#A, {partition}" for partition in zoo.partitions))
        found.add_row("M", summarised(result.found[()], quantity).text(), *("" for _ in zoo.partitions))
        for label in zoo.directions:
            keys = [(label,), *((partition, label) for partition in zoo.partitions)]
            found.add_row(escape(label), *(summarised(result.found[key], quantity).text() for key in keys))
        console.print()
        console.print(found)
    console.print(f"\n{common.seeds_text(zoo.plan.seeds)}", highlight=False)
    spreads = {"alone, at the rates written": result.spread(None)}
    spreads |= {f"under M, {partition}": result.spread(partition) for partition in zoo.partitions}
    for name, spread in spreads.items():
        line = f"largest over smallest final loss, {name}: {spread.text()} decades"
        console.print(escape(line), highlight=False, soft_wrap=True)


def document(result: ZooResult) -> dict[str, Any]:
    """The result as plain values."""
    zoo = result.zoo
    return {
        "experiment": "zoo",
        "plan": vars(zoo.plan),
        "magnitude": {"machine": zoo.magnitude, "runs": common.runs_document(result.found[()])},
        "directions": [
            {
                "label": label,
                "machine": machine,
                "alone": common.runs_document(result.found[label,]),
                "grafted": {one: common.runs_document(result.found[one, label]) for one in zoo.partitions},
            }
            for label, machine in zoo.directions.items()
        ],
        "spread": {str(one): vars(result.spread(one)) for one in zoo.partitions},
        "spread_alone": vars(result.spread(None)),
    }
