"""A job that runs a graft, and says what its record tells of corrections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graftsim import problems
from graftsim.experiments.discovery import finding, recording, rounding, series
from graftsim.experiments.discovery.finding import Group
from graftsim.experiments.jobs import Job
from graftsim.experiments.trials import Outcome

POINTS = 120
"""Curves are kept at about so many steps."""


def record(problem: str, machine: str, steps: int, seed: int, dtype: str, first: int) -> dict[str, Any]:
    """The losses of the run, the measures of its last weights, and the findings over the first steps."""
    found = problems.parse(problem)
    run = recording.record(found, machine, steps, seed, dtype)
    told, whole, every = finding.find(run, first), series.of(run), max(1, steps // POINTS)
    smooth, together = series.smoothed(whole.ratios), series.smoothed(whole.together().ratios)
    return {
        "steps": run.steps[::every].tolist(),
        "loss": run.loss[::every].tolist(),
        "measures": {name: float(value) for name, value in found.measures(run.last).items()},
        "groups": [_group(group) for group in told.groups],
        "together": _group(told.together),
        "spread": told.spread,
        "spread_without_null": told.spread_without_null,
        "curve_steps": whole.steps[::every].tolist(),
        "curves": smooth[::every].T.tolist(),
        "curve_together": together[::every, 0].tolist(),
        "weights": (whole.n_m**2).mean(axis=0).tolist(),
    }


def _group(group: Group) -> dict[str, Any]:
    line, power = group.line, group.power
    return {
        "name": group.name,
        "median": group.median,
        "rounded": rounding.power_of_ten(group.median) if group.used else float("nan"),
        "null": group.null,
        "exponential": group.growth is not None and group.growth.exponential,
        "line": None if line is None else [line.factor.c0, line.factor.c1, line.r2],
        "power": None if power is None else [power.factor.c, power.factor.alpha, power.r2],
    }


def job(problem: str, machine: str, steps: int, seed: int, dtype: str, first: int) -> Job:
    """The job of :func:`record`."""
    return Job("graftsim.experiments.reproduce.recorded:record", dict(locals()))


def outcome(row: Mapping[str, Any]) -> Outcome:
    """The training run of a record, as if it had been a trial."""
    finite = all(map(math.isfinite, [*row["loss"], *row["measures"].values()]))
    return Outcome(row["steps"], row["loss"], row["measures"], not finite, "")


def others(found: list[Any]) -> list[Any]:
    """For each seed what another seed found, so that a correction is always used in another run than its own."""
    return [*found[1:], found[0]]


def table(values: dict[str, float]) -> str:
    """A number for each group, as it stands in an expression: to four digits, since expressions are bounded."""
    return "{" + ", ".join(f"{name!r}: {value:.4g}" for name, value in values.items()) + "}"
