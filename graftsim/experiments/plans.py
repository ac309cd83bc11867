"""What the runs of an experiment share, and their outcomes by machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from graftsim import notation
from graftsim.errors import GraftsimError
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.summaries import Summary, summary
from graftsim.experiments.trials import Outcome, Trial, outcomes
from graftsim.problems.arguments import integer
from graftsim.simulate import STEPS

Key = TypeVar("Key", bound=Hashable)
Progress = Callable[[int], object]
Runs = list[Outcome]
"""The outcomes of one machine, one a seed."""

LOSS = "final loss"
SEEDS, RUNS = 1000, 100_000
"""An experiment has at most so many seeds, and so many runs."""


@dataclass(frozen=True)
class Plan:
    """The problem, how many steps, how many seeds (0, 1, ...), and how often the loss is recorded."""

    problem: str
    steps: int
    seeds: int
    record_every: int = 1
    dtype: str = "float64"

    def __post_init__(self) -> None:
        integer("seeds", self.seeds, 1, SEEDS)
        integer("steps", self.steps, 1, STEPS)
        integer("record_every", self.record_every, 1, STEPS)

    def trials(self, machine: str, ratios: bool = False) -> list[Trial]:
        """The runs of a machine, one a seed."""
        return [
            Trial(self.problem, machine, self.steps, seed, self.dtype, self.record_every, ratios)
            for seed in range(self.seeds)
        ]


def run_all(
    trials: Mapping[Key, Sequence[Trial]], ledger: Ledger, workers: int = 1, progress: Progress | None = None
) -> dict[Key, Runs]:
    """The outcomes of lists of trials, by their keys.

    Raises:
        GraftsimError: a mistake in a trial, before anything is run.
    """
    every = [trial for group in trials.values() for trial in group]
    if len(every) > RUNS:
        raise GraftsimError(f"an experiment may have at most {RUNS} runs; this one would have {len(every)}")
    found = iter(outcomes(every, ledger, workers, progress))
    return {key: [next(found) for _ in group] for key, group in trials.items()}


def grafted(magnitude: str, direction: str, partition: str) -> str:
    """The machine M#D."""
    return f"graft({magnitude}, {direction}, partition={partition})"


def labels(expressions: Sequence[str]) -> dict[str, str]:
    """Machine expressions by a short name: that of the machine where no other has it, else the expression itself.

    Raises:
        GraftsimError: an expression stands there twice, or is none.
    """
    if twice := next((text for text in expressions if list(expressions).count(text) > 1), None):
        raise GraftsimError(f"the optimizers must differ; {twice} was given twice")
    names = [notation.parse(text).machine.name for text in expressions]
    return {name if names.count(name) == 1 else text: text for name, text in zip(names, expressions, strict=True)}


def quantities(runs: Runs) -> list[str]:
    """What can be summarised: the final loss, and the problem's measures but for the loss again."""
    return [LOSS, *(name for name in runs[0].measures if name != "loss")]


def values(runs: Runs, quantity: str) -> list[float]:
    """A measure of the last weights, or the loss after the last step, for each seed; NaN where the run diverged."""
    found = [run.loss[-1] if quantity == LOSS else run.measures[quantity] for run in runs]
    return [math.nan if run.diverged else value for run, value in zip(runs, found, strict=True)]


def independent(found: Iterable[Runs]) -> int:
    """How many seeds differ in the last weights of any of the machines: 1 where a problem draws nothing, however many
    seeds were run. Only so many count for a claim."""
    return len(set(zip(*([run.weights for run in runs] for runs in found), strict=True)))


def summarised(runs: Runs, quantity: str) -> Summary:
    """A quantity over the seeds."""
    return summary(values(runs, quantity))
