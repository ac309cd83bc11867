"""``graftsim transfer``."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from graftsim.cli import experimenting as common
from graftsim.cli.options import Lengths, Outputs
from graftsim.experiments import queue_ranks, setups
from graftsim.experiments.search import metrics, spaces
from graftsim.experiments.search import transfer as transfers
from graftsim.experiments.search.gap import HALF
from graftsim.experiments.search.transfer import Arm, Plan, Transfer
from graftsim.experiments.trials import Trial


def transfer(
    problem: str,
    machines: tuple[str, str],
    trials: int,
    seeds: int,
    seed: int,
    measures: tuple[str, str],
    rate: str | None,
    partition: str,
    lengths: Lengths,
    outputs: Outputs,
) -> None:
    """Search M, D and M#D, print what came of it, and write what was asked for."""
    queue_ranks.lead()
    shared = common.plan(setups.load(problem), lengths, 1)
    base = Trial(shared.problem, "", shared.steps, seed, shared.dtype, shared.record_every)
    m, d = (spaces.load(machine) for machine in machines)
    select, report_by = (metrics.parse(measure) for measure in measures)
    plan = Plan(base, m, d, trials, seeds, select, report_by, partition, rate)
    transfers.check(plan)
    with common.work(outputs, plan, plan.jobs) as (ledger, progress):
        result = transfers.transfer(plan, ledger, outputs.jobs, progress)
    console = Console()
    report(result, console)
    from graftsim.experiments.search import picture

    common.end(outputs, console, document(result), lambda path: picture.draw(result, path))


def report(result: Transfer, console: Console) -> None:
    """What was searched, a table of the three, their best settings, and how much of the gap is closed."""
    plan = result.plan

    def line(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    line(
        f"[bold]{escape(plan.base.problem)}[/], {plan.base.steps} steps, {plan.base.dtype}, partition {plan.partition}"
    )
    for arm in result.arms:
        ranges = "; ".join(f"{name} {row}" for name, row in arm.space.parameters.items()) or "nothing is tuned"
        line(f"  {arm.name}: {escape(arm.space.name)}: {escape(ranges)}")
    line(f"  {_budget(plan)}")
    console.print()
    console.print(_table(result))
    line(f"\nmean ± deviation of {_seeds(plan.seeds)} that the search did not see; best settings:")
    for arm in result.arms:
        line(f"  {arm.name}: {escape(arm.best.proposal.trial.machine)}")
    console.print()
    for text in gap_lines(result):
        line(escape(text))


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def _budget(plan: Plan) -> str:
    same = f"{plan.budget} each for D and M#D, at the same points"
    return f"{plan.budget} for M; {same}" if plan.magnitude.dimensions else f"M as it is given; {same}"


def _table(result: Transfer) -> Any:
    plan = result.plan
    found = common.table("", "trials", "diverged", f"best {plan.select}", str(plan.report), "n")
    for arm in result.arms:
        numbers = (str(len(arm.told)), str(arm.diverged), f"{arm.best.metric:.4g}", _reported(arm), str(plan.seeds))
        found.add_row(arm.name, *numbers)
    return found


def _reported(arm: Arm) -> str:
    text = arm.summary.text(4)
    counted = arm.report_diverged and not arm.summary.diverged
    return f"{text} ({arm.report_diverged} diverged, as worst)" if counted else text


def gap_lines(result: Transfer) -> list[str]:
    """The share of the gap, the sign tests, and the verdict; with one seed, only that it decides nothing."""
    gap = result.gap
    if gap.n == 1:
        return [gap.verdict]
    share = f"{gap.closed:.3g}" if gap.closed == gap.closed else "not defined, since D's mean is no worse than M's"
    return [
        f"gap closed, (M#D - D) / (M - D) of the means: {share} (n = {gap.n})",
        f"  M better than D: {gap.there.text()}",
        f"  M#D better than D: {gap.gained.text()}",
        f"  more than {HALF:g} of the gap closed: {gap.half.text()}",
        f"verdict: {gap.verdict}",
    ]


def document(result: Transfer) -> dict[str, Any]:
    """The result as plain values, every trial among them."""
    plan, gap = result.plan, result.gap
    return {
        "experiment": "transfer",
        "plan": {
            **{name: getattr(plan.base, name) for name in ("problem", "steps", "seed", "dtype", "record_every")},
            **{"trials": plan.trials, "seeds": plan.seeds, "partition": plan.partition, "rate": plan.rule},
            **{"select": plan.select.name, "report": plan.report.name},
        },
        "arms": {arm.name: _arm_document(arm) for arm in result.arms},
        "gap": {
            "closed": gap.closed,
            **{name: {**vars(row), "p": row.p} for name, row in _signs(result).items()},
            "verdict": gap.verdict,
        },
    }


def _signs(result: Transfer) -> dict[str, Any]:
    gap = result.gap
    return {"m_better_than_d": gap.there, "grafted_better_than_d": gap.gained, "half_closed": gap.half}


def _arm_document(arm: Arm) -> dict[str, Any]:
    return {
        "space": arm.space.name,
        "parameters": {name: str(row) for name, row in arm.space.parameters.items()},
        "best": arm.best.proposal.number,
        "report": list(arm.report),
        "report_diverged": arm.report_diverged,
        "trials": [
            {
                "number": row.proposal.number,
                "values": dict(row.proposal.values),
                "machine": row.proposal.trial.machine,
                "metric": row.metric,
                "diverged": row.diverged,
            }
            for row in arm.told
        ],
    }
