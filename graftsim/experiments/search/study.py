"""One search: it asks for trials, is told what came of them, and knows the best. Any tuner can drive it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graftsim.errors import GraftsimError
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.search.budget import Accounts
from graftsim.experiments.search.metrics import Metric
from graftsim.experiments.search.points import points
from graftsim.experiments.search.spaces import Space, names_in
from graftsim.experiments.trials import Outcome, Trial


@dataclass(frozen=True)
class Proposal:
    """What is to be run next: values of the space's parameters, and the trial that they make."""

    number: int
    values: Mapping[str, float]
    trial: Trial


@dataclass(frozen=True)
class Told:
    """A proposal with the metric that the search selects by; the worst value where the trial diverged."""

    proposal: Proposal
    metric: float
    diverged: bool


class Study:
    """A search over a space with the budget of an account.

    ``ask()`` proposes the next quasi-random point; ``ask(values)`` takes those that another tuner chose. A proposal is
    paid for when it is asked for. ``tell`` may come in any order, once for each.

    Args:
        arm: whose budget it is.
        space: what is searched.
        base: the trials' problem, seed, dtype and recording; its machine is not read, its steps are the budget's.
        select: what the best trial is best by.
        accounts: the budget, which other arms share.
        ledger: keeps the drawn points.
        seed: chooses the shift of the points.
    """

    def __init__(
        self, arm: str, space: Space, base: Trial, select: Metric, accounts: Accounts, ledger: Ledger, seed: int = 0
    ) -> None:
        middle = space.filled(space.at([0.5] * space.dimensions), base.steps)
        if left := next(iter(names_in(middle)), None):
            raise GraftsimError(f"{space.name}: nothing says what {{{left}}} is")
        self.arm, self.space, self.base, self.select, self.accounts = arm, space, base, select, accounts
        self.asked: list[Proposal] = []
        self._told: dict[int, Told] = {}
        self._points = points(space.dimensions, accounts.budget.trials, seed, ledger) if space.dimensions else [()]

    def ask(self, values: Mapping[str, float] | None = None) -> Proposal:
        """The next trial to run.

        Raises:
            GraftsimError: the budget is spent, or values outside the space.
        """
        number = len(self.asked)
        found = self.space.checked(values) if values is not None else None
        self.accounts.spend(self.arm, self.base.steps)
        if found is None:
            found = self.space.at(self._points[number % len(self._points)])
        machine = self.space.filled(found, self.base.steps)
        proposal = Proposal(number, found, dataclasses.replace(self.base, machine=machine))
        self.asked.append(proposal)
        return proposal

    def tell(self, proposal: Proposal, outcome: Outcome) -> Told:
        """What came of a proposal; diverged trials are kept.

        Raises:
            GraftsimError: a proposal of another study, told twice, or run for another number of steps.
        """
        if not (0 <= proposal.number < len(self.asked) and self.asked[proposal.number] == proposal):
            raise GraftsimError(f"{self.arm}: tell must name a proposal that this study asked for")
        if proposal.number in self._told:
            raise GraftsimError(f"{self.arm}: proposal {proposal.number} was told before")
        if outcome.steps[-1] != self.base.steps:
            raise GraftsimError(
                f"{self.arm}: every trial must have {self.base.steps} steps; received one of {outcome.steps[-1]}"
            )
        told = Told(proposal, self.select.of(outcome), outcome.diverged)
        self._told[proposal.number] = told
        return told

    @property
    def told(self) -> Sequence[Told]:
        """What is known, by number of the proposal."""
        return [self._told[number] for number in sorted(self._told)]

    @property
    def best(self) -> Told:
        """The best trial, the first of equals; a diverged one only where every one diverged.

        Raises:
            GraftsimError: no trial was told.
        """
        if not self._told:
            raise GraftsimError(f"{self.arm}: no trial was told, and so none is the best")
        found = self.told[0]
        for row in self.told[1:]:
            if row.diverged != found.diverged:
                found = found if row.diverged else row
            elif self.select.better(row.metric, found.metric):
                found = row
        return found
