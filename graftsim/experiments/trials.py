"""One training run of an experiment: what is run, and what came of it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graftsim import notation, problems, stepping
from graftsim.compiler import build
from graftsim.experiments.jobs import Job
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.workers import work
from graftsim.layouts import Array
from graftsim.problems.arguments import integer
from graftsim.simulate import STEPS, built, simulate
from graftsim.trajectory import Trajectory


@dataclass(frozen=True)
class Trial:
    """The arguments of one :func:`graftsim.simulate.simulate`, and whether the ratios of grafts are wanted."""

    problem: str
    machine: str
    steps: int
    seed: int = 0
    dtype: str = "float64"
    record_every: int = 1
    ratios: bool = False

    def job(self) -> Job:
        return Job("graftsim.experiments.trials:run", dataclasses.asdict(self))


@dataclass(frozen=True)
class Outcome:
    """What came of a trial. Losses that are not finite are kept as they are."""

    steps: list[int]
    """The recorded steps; the first is 0."""
    loss: list[float]
    """The problem's loss after each."""
    measures: dict[str, float]
    """Of the last weights."""
    diverged: bool
    """A recorded loss or a last weight is not finite."""
    weights: str
    """A digest of the last weights: equal for equal bits, whatever the NaN."""
    ratios: dict[str, list[list[float]]] | None = None
    """By path of a graft's ``ratio``: one row for each recorded step after the first, one column for each group."""


def run(**trial: Any) -> dict[str, Any]:
    """Do one trial, given as the fields of :class:`Trial`; the fields of its :class:`Outcome`."""
    return dataclasses.asdict(_run(Trial(**trial)))


def _run(trial: Trial) -> Outcome:
    problem = problems.parse(trial.problem)
    every = trial.record_every
    found = simulate(
        *(problem, trial.machine, trial.steps, trial.seed, trial.dtype, every),
        engine=stepping.quickest(built(trial.machine, problem.layout, trial.dtype), problem, trial.steps),
        keep_every=max(-(-trial.steps // max(every, 1)), 1) * every,  # no weights but the first and the last
    )
    if not found.meta.complete:
        raise KeyboardInterrupt
    with np.errstate(all="ignore"):  # a run may have diverged
        measures = {name: float(value) for name, value in problem.measures(found.last).items()}
    diverged = not (np.isfinite(found.loss).all() and np.isfinite(found.last).all())
    ratios = _ratios(found) if trial.ratios else None
    return Outcome(found.steps.tolist(), found.loss.tolist(), measures, diverged, _digest(found.last), ratios)


def _digest(weights: Array) -> str:
    clean = np.where(np.isnan(weights), weights.dtype.type(np.nan), weights)
    return hashlib.sha256(clean.astype(clean.dtype.newbyteorder("<")).tobytes()).hexdigest()


def _ratios(found: Trajectory) -> dict[str, list[list[float]]]:
    return {path: rows.tolist() for path, rows in found.info.items() if path.split(".")[-1] == "ratio"}


def outcomes(
    trials: Sequence[Trial],
    ledger: Ledger,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> list[Outcome]:
    """The outcomes of trials, in their order; what the ledger holds is not run again.

    Raises:
        GraftsimError: a mistake in any trial, before the first is run.
    """
    check(trials)
    rows: list[Mapping[str, Any]] = work([trial.job() for trial in trials], ledger, workers, progress)
    return [Outcome(**row) for row in rows]


def check(trials: Sequence[Trial]) -> None:
    """Refuse what could not be run: an unknown problem or machine, a partition that does not fit the problem."""
    for trial in dict.fromkeys(dataclasses.replace(trial, seed=0, ratios=False) for trial in trials):
        problem = problems.parse(trial.problem)
        build(notation.parse(trial.machine), problem.layout, trial.dtype)
        integer("steps", trial.steps, 1, STEPS)
