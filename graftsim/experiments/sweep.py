"""A sweep: one hyperparameter of a machine through many values (2020 paper, figure 9: AdaGrad's epsilon)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graftsim import notation, problems
from graftsim.errors import GraftsimError, nearest
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.plans import Plan, Progress, Runs, run_all
from graftsim.experiments.shares import log_curves
from graftsim.experiments.summaries import Summary, summary
from graftsim.experiments.trials import Outcome
from graftsim.expressions import Name
from graftsim.notation import Instance
from graftsim.problems.problem import Numbers


@dataclass(frozen=True)
class Sweep:
    """The machine, the name of what is swept, and its values as they stand in an expression.

    Where the machine's text has the name in braces, as in ``adagrad(lr=0.1 + 0.02 * {eps}, eps={eps})``, each value is
    written there. Otherwise it is the hyperparameter of that name, ``eps``, or of a child, ``magnitude.eps``.
    """

    plan: Plan
    machine: str
    parameter: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise GraftsimError(f"a sweep needs at least 2 values; received {len(self.values)}")
        if twice := next((value for value in self.values if self.values.count(value) > 1), None):
            raise GraftsimError(f"the values must differ; {twice} was given twice")

    def machines(self) -> dict[str, str]:
        """The machine with each value.

        Raises:
            GraftsimError: the machine has no such hyperparameter.
        """
        hole = f"{{{self.parameter}}}"
        template = self.machine
        if hole not in template:
            template = str(with_hole(notation.parse(self.machine), self.parameter, hole))
        return {value: template.replace(hole, value) for value in self.values}


def with_hole(instance: Instance, path: str, hole: str) -> Instance:
    """A machine whose hyperparameter ``eps``, or that of a child ``magnitude.eps``, is written as ``hole``.

    Raises:
        GraftsimError: there is no such child or hyperparameter.
    """
    child, dot, rest = path.partition(".")
    if dot:
        if child not in instance.children:
            raise GraftsimError(f"{instance.machine.name} has no child {child!r}{nearest(child, instance.children)}")
        inner = with_hole(instance.children[child], rest, hole)
        return dataclasses.replace(instance, children={**instance.children, child: inner})
    known = instance.machine.hyperparameters
    if path not in known:
        raise GraftsimError(f"{instance.machine.name} has no hyperparameter {path!r}{nearest(path, known)}")
    return dataclasses.replace(instance, settings={**instance.settings, path: Name(hole)})


@dataclass(frozen=True)
class SweepResult:
    """The outcomes by value, and the problem's closed forms."""

    sweep: Sweep
    found: Mapping[str, Runs]
    predictions: Mapping[str, Numbers]

    def distance(self, value: str) -> Summary:
        """How far the loss curves lie from those of the first value: for each seed the largest distance of the decimal
        logarithms, in decades, with losses held as in :func:`graftsim.experiments.shares.log_curves`."""
        return summary(
            [_distance(*runs) for runs in zip(self.found[self.sweep.values[0]], self.found[value], strict=True)]
        )


def _distance(first: Outcome, second: Outcome) -> float:
    (a, b), _ = log_curves([first.loss, second.loss])
    return float(np.abs(a - b).max() / np.log(10))


def run(sweep: Sweep, ledger: Ledger, workers: int = 1, progress: Progress | None = None) -> SweepResult:
    """Run the machine with each value.

    Raises:
        GraftsimError: an unknown problem, machine or hyperparameter, or a value that it does not take.
    """
    trials = {value: sweep.plan.trials(machine) for value, machine in sweep.machines().items()}
    predictions = problems.parse(sweep.plan.problem).predictions()
    return SweepResult(sweep, run_all(trials, ledger, workers, progress), predictions)
