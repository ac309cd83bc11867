"""Implicit transfer of a step size schedule: D alone against M#D, searched with equal budgets (2021 paper, section 4).

M is tuned over its space. Then D alone and M#D are tuned over D's space, trial for trial at the same points, with M's
hyperparameters fixed at its best. D's learning rate cannot be seen in M#D, so that something takes its place:

- ``scale``: an overall factor of the graft ("the overall learning rate scalar was also tuned", A.1);
- ``magnitude``: M's learning rate, which the paper tunes where D has no other hyperparameter (A.2, A.3);
- ``none``: nothing; the learning rate of D is left out.

The best of each by the selection metric is run again with seeds that the search did not see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graftsim import problems
from graftsim.errors import GraftsimError, nearest
from graftsim.experiments import trials
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.search import metrics
from graftsim.experiments.search.budget import Accounts, Budget
from graftsim.experiments.search.gap import Gap
from graftsim.experiments.search.grafting import grafted, rule
from graftsim.experiments.search.metrics import Metric
from graftsim.experiments.search.spaces import Space
from graftsim.experiments.search.study import Study, Told
from graftsim.experiments.summaries import Summary, summary
from graftsim.experiments.trials import Outcome, Trial
from graftsim.problems import arguments

Progress = Callable[[int], object]
SEEDS = 1000


@dataclass(frozen=True)
class Plan:
    """What is compared, and how.

    ``base`` holds what all trials share; its seed is that of the search, and those of the report follow it. ``rate`` is
    what takes the place of D's learning rate, None for the papers' rule.
    """

    base: Trial
    magnitude: Space
    direction: Space
    trials: int
    seeds: int
    select: Metric
    report: Metric
    partition: str = "tensor"
    rate: str | None = None

    @property
    def budget(self) -> Budget:
        return Budget(self.trials, self.base.steps)

    @property
    def rule(self) -> str:
        """What takes the place of D's learning rate."""
        return self.rate or rule(self.direction)

    @property
    def jobs(self) -> int:
        """How many trials there are in all."""
        return self.trials * (3 if self.magnitude.dimensions else 2) + (not self.magnitude.dimensions) + 3 * self.seeds


@dataclass(frozen=True)
class Arm:
    """One of M, D and M#D: all its trials, the best by the selection metric, and that one's report metric by seed."""

    name: str
    space: Space
    told: tuple[Told, ...]
    best: Told
    report: tuple[float, ...]
    report_diverged: int

    @property
    def diverged(self) -> int:
        """How many trials of the search diverged."""
        return sum(row.diverged for row in self.told)

    @property
    def summary(self) -> Summary:
        return summary(self.report)


@dataclass(frozen=True)
class Transfer:
    """What came of a plan."""

    plan: Plan
    m: Arm
    d: Arm
    grafted: Arm

    @property
    def arms(self) -> tuple[Arm, Arm, Arm]:
        return self.m, self.d, self.grafted

    @property
    def gap(self) -> Gap:
        return Gap(self.plan.report, self.m.report, self.d.report, self.grafted.report)


def check(plan: Plan) -> None:
    """Refuse a plan that could not be carried out, before anything is run.

    Raises:
        GraftsimError: selection by the reported metric, a metric that the problem does not have, a direction with
            nothing to tune, too many seeds, a rate that cannot be tuned, or a machine that does not fit the problem.
    """
    metrics.check_apart(plan.select, plan.report)
    if not 1 <= plan.seeds <= SEEDS:
        raise GraftsimError(f"seeds must be from 1 to {SEEDS}; received {plan.seeds}")
    arguments.integer("seed", plan.base.seed, 0, arguments.SEEDS - plan.seeds)
    _ = plan.budget
    if not plan.direction.dimensions:
        raise GraftsimError(
            f"the direction must be a search space, such as 'momentum'; {plan.direction.name} has nothing to tune"
        )
    problem = problems.parse(plan.base.problem)
    known = [metrics.LOSS, *problem.measures(problem.start(0, "float64"))]
    for metric in (plan.select, plan.report):
        if metric.name not in known:
            raise GraftsimError(f"{problem} has no measure {metric.name!r}{nearest(metric.name, known)}")
    both = _grafted(plan, _middle(plan.magnitude))
    machines = [row.filled(_middle(row), plan.base.steps) for row in (plan.magnitude, plan.direction, both)]
    trials.check([dataclasses.replace(plan.base, machine=machine) for machine in machines])


def _middle(space: Space) -> dict[str, float]:
    return space.at([0.5] * space.dimensions)


def _grafted(plan: Plan, values: Mapping[str, float]) -> Space:
    return grafted(plan.magnitude, values, plan.direction, plan.base.steps, plan.partition, plan.rule)


def transfer(plan: Plan, ledger: Ledger, workers: int = 1, progress: Progress | None = None) -> Transfer:
    """Carry out a plan. What the ledger holds is not run again; the points that it holds are not drawn again.

    Raises:
        GraftsimError: what :func:`check` refuses, or every trial of M diverged.
    """
    check(plan)
    accounts = Accounts(plan.budget)
    tuned = Accounts(plan.budget if plan.magnitude.dimensions else Budget(1, plan.base.steps))
    run = _Runner(ledger, workers, progress)

    def study(arm: str, space: Space, of: Accounts) -> Study:
        return Study(arm, space, plan.base, plan.select, of, ledger, plan.base.seed)

    m, d = study("M", plan.magnitude, tuned), study("D", plan.direction, accounts)
    run.search(m, d)
    if m.best.diverged:
        raise GraftsimError(
            f"M must train: every one of {len(m.told)} trials of {plan.magnitude.name} diverged; take another space"
        )
    md = study("M#D", _grafted(plan, m.best.proposal.values), accounts)
    run.search(md)
    accounts.settle("D", "M#D")
    return Transfer(plan, *run.reports(plan, (m, d, md)))


class _Runner:
    """Runs trials in parts, and counts them over all parts."""

    def __init__(self, ledger: Ledger, workers: int, progress: Progress | None) -> None:
        self.ledger, self.workers, self.progress, self.before = ledger, workers, progress, 0

    def run(self, asked: Sequence[Trial]) -> list[Outcome]:
        before, progress = self.before, self.progress
        tell = (lambda done: progress(before + done)) if progress else None
        found = trials.outcomes(asked, self.ledger, self.workers, tell)
        self.before += len(asked)
        return found

    def search(self, *studies: Study) -> None:
        """Spend the whole budget of each study on its own quasi-random points."""
        asked = [(study, study.ask()) for study in studies for _ in range(study.accounts.budget.trials)]
        for (study, proposal), outcome in zip(asked, self.run([row.trial for _, row in asked]), strict=True):
            study.tell(proposal, outcome)

    def reports(self, plan: Plan, studies: Sequence[Study]) -> list[Arm]:
        """Run the best of each study again with the seeds after that of the search."""
        seeds = range(plan.base.seed + 1, plan.base.seed + 1 + plan.seeds)
        best = [study.best for study in studies]
        found = iter(self.run([dataclasses.replace(row.proposal.trial, seed=seed) for row in best for seed in seeds]))
        arms = []
        for study, row in zip(studies, best, strict=True):
            rows = [next(found) for _ in seeds]
            values = tuple(plan.report.of(outcome) for outcome in rows)
            told, lost = tuple(study.told), sum(outcome.diverged for outcome in rows)
            arms.append(Arm(study.arm, study.space, told, row, values, lost))
        return arms
