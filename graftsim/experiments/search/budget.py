"""Equal budgets: how many trials of how many steps each arm of a comparison may have, and what it has had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graftsim.errors import GraftsimError


@dataclass(frozen=True)
class Budget:
    """So many trials of so many steps each."""

    trials: int
    steps: int

    def __post_init__(self) -> None:
        for name, value in (("trials", self.trials), ("steps", self.steps)):
            if value < 1:
                raise GraftsimError(f"a budget must have at least 1 of {name}; received {value}")

    def __str__(self) -> str:
        return f"{self.trials} trials of {self.steps} steps"


@dataclass
class Accounts:
    """What each arm has spent of one budget. Every trial counts, a diverged one too."""

    budget: Budget
    _spent: dict[str, int] = field(default_factory=dict)

    @property
    def spent(self) -> Mapping[str, int]:
        """Trials by arm."""
        return dict(self._spent)

    def spend(self, arm: str, steps: int) -> None:
        """Book one trial.

        Raises:
            GraftsimError: a trial of another length, or one more than the budget has.
        """
        if steps != self.budget.steps:
            raise GraftsimError(f"{arm}: every trial must have {self.budget.steps} steps; received one of {steps}")
        if self._spent.get(arm, 0) >= self.budget.trials:
            raise GraftsimError(f"{arm}: the budget of {self.budget} is spent; another trial would be one too many")
        self._spent[arm] = self._spent.get(arm, 0) + 1

    def settle(self, *arms: str) -> None:
        """Refuse a comparison of arms that have not all spent the whole budget."""
        for arm in arms:
            if (had := self._spent.get(arm, 0)) != self.budget.trials:
                raise GraftsimError(
                    f"a comparison needs equal budgets, {self.budget} for each of {', '.join(arms)}; "
                    f"{arm} has had {had}"
                )
