"""All cases of some groups, one after the other, and the document of results (plain JSON)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

from graftsim.bench import jax_adapter, machine, norms, runs, scaling, steps, timing, torch_adapter
from graftsim.bench.cases import Case, Goal, Group
from graftsim.bench.field import Field
from graftsim.bench.timing import Contestant, Times

FORMAT = 1
KINDS: dict[str, Callable[[Case, int], Field]] = {
    "step": steps.prepare,
    "run": runs.single,
    "ensemble": runs.several,
    "norm": norms.prepare,
    "scaling": scaling.prepare,
    "torch": torch_adapter.prepare,
    "jax": jax_adapter.prepare,
}
Progress = Callable[[str], object]


def measure(groups: Sequence[Group], seconds: float, threads: int, progress: Progress | None = None) -> dict[str, Any]:
    """Measure every case for about so many seconds each.

    Returns:
        The results: format, machine, load averages before and after, threads, seconds, and for each case its rows
        (seconds a unit: least and median over rounds), ratios, goals and remarks.

    Raises:
        GraftsimError: a contestant computes something else than the others.
    """
    before = machine.load()
    cases = []
    for group in groups:
        for case in group.cases:
            if progress:
                progress(f"{group.name}: {case}")
            cases.append(one(group, case, seconds, threads))
            gc.collect()
    return {
        "format": FORMAT,
        "machine": machine.describe(),
        "load": {"before": before, "after": machine.load()},
        "threads": threads,
        "seconds": seconds,
        "cases": cases,
    }


def one(group: Group, case: Case, seconds: float, threads: int) -> dict[str, Any]:
    """The results of one case."""
    field = KINDS[case.kind](case, threads)
    with field.around():
        differences = field.check()
        times = timing.play(field.contestants, seconds)
    by_name = {contestant.name: found for contestant, found in zip(field.contestants, times, strict=True)}
    rows = [_row(each, found, differences) for each, found in zip(field.contestants, times, strict=True)]
    return {
        "group": group.name,
        "kind": case.kind,
        "case": dict(case.values),
        "title": str(case),
        "unit": field.unit,
        "rounds": len(times[0].rounds),
        "rows": rows,
        "absent": [{"name": each.name, "why": each.why} for each in field.absent],
        "ratios": [_ratio(goal.within(case), by_name) for goal in group.goals if _applies(goal, case, by_name)],
        "remarks": [*field.remarks, *(f"left out: {text}" for text in group.left_out)],
    }


def _row(contestant: Contestant, times: Times, differences: Any) -> dict[str, Any]:
    return {
        "name": contestant.name,
        "least": times.least,
        "median": times.median,
        "first_call": contestant.first,
        "difference": differences.get(contestant.name),
    }


def _applies(goal: Goal, case: Case, times: dict[str, Times]) -> bool:
    return goal.concerns(case) and goal.of in times and goal.to in times


def _ratio(goal: Goal, times: dict[str, Times]) -> dict[str, Any]:
    least, median = timing.ratio(times[goal.of], times[goal.to])
    return {
        "of": goal.of,
        "to": goal.to,
        "least": least,
        "median": median,
        "goal": str(goal) or None,
        "met": goal.met(least),
    }
