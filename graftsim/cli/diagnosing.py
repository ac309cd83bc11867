"""``graftsim diagnose``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from graftsim.cli import experimenting as common
from graftsim.cli.options import Lengths, Outputs
from graftsim.experiments import diagnosis, queue_ranks, setups
from graftsim.experiments.diagnosis import Diagnosis, DiagnosisResult
from graftsim.experiments.plans import summarised


def diagnose(
    optimizer: str,
    source: str,
    baselines: Sequence[str],
    partitions: Sequence[str],
    seeds: int,
    measures: Sequence[str],
    lengths: Lengths,
    outputs: Outputs,
) -> None:
    """Run the sanity check, print it, and write what was asked for."""
    queue_ranks.lead()
    plan = common.plan(setups.load(source), lengths, seeds)
    asked = Diagnosis(plan, optimizer, tuple(baselines), tuple(partitions))
    total = seeds * (1 + len(baselines) + len(partitions))
    with common.work(outputs, asked, total) as (ledger, progress):
        result = diagnosis.run(asked, ledger, outputs.jobs, progress)
    console = Console()
    report(result, measures, console)
    from graftsim.experiments import pictures

    common.end(outputs, console, document(result), lambda path: pictures.diagnosis_curves(result, path))


def report(result: DiagnosisResult, measures: Sequence[str], console: Console) -> None:
    """One row a machine, and a verdict for each partition."""
    asked, seeds = result.diagnosis, result.diagnosis.plan.seeds
    common.heading(asked.plan, {"A": asked.optimizer}, console)
    quantities = common.shown_quantities(result.found[()], measures)
    found = common.table("", *quantities)
    rows = {"A": result.found[()]}
    for text in asked.baselines:
        best = len(asked.baselines) > 1 and text == result.baseline
        rows[f"{text}{', the best' if best else ''}"] = result.found[text,]
    rows |= {f"A#SGD, {partition}": result.grafted(partition) for partition in asked.partitions}
    for name, runs in rows.items():
        found.add_row(escape(name), *(summarised(runs, quantity).text() for quantity in quantities))
    console.print(found)
    console.print(common.seeds_text(seeds), highlight=False)
    for partition in asked.partitions:
        gap = result.gap(partition)
        console.print(f"[bold]{escape(partition)}: {result.verdict(partition)}[/]", highlight=False, soft_wrap=True)
        if seeds > 1 and gap.n:
            text = f"  part of the gap in log loss that A#SGD closes, by seed with a gap: {gap.text()} (n = {gap.n})"
            console.print(escape(text), highlight=False, soft_wrap=True)


def document(result: DiagnosisResult) -> dict[str, Any]:
    """The result as plain values."""
    asked = result.diagnosis
    return {
        "experiment": "diagnosis",
        "plan": vars(asked.plan),
        "optimizer": {"machine": asked.optimizer, "runs": common.runs_document(result.found[()])},
        "baselines": [
            {"machine": text, "best": text == result.baseline, "runs": common.runs_document(result.found[text,])}
            for text in asked.baselines
        ],
        "grafted": {
            partition: {
                "verdict": result.verdict(partition).name.lower(),
                "closed": result.closed(partition),
                "runs": common.runs_document(result.grafted(partition)),
            }
            for partition in asked.partitions
        },
    }
