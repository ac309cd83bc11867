"""What a search selects by and what it reports: a measure of the last weights, and whether high or low is good."""

from __future__ import annotations

import math
from dataclasses import dataclass

from graftsim.errors import GraftsimError, nearest
from graftsim.experiments.trials import Outcome

LOSS = "loss"
"""The loss that was recorded last; every problem has one."""
_GOOD = {"accuracy": "max", "loss": "min", "error": "min"}


@dataclass(frozen=True)
class Metric:
    """A measure by name, and its good end.

    A diverged trial, and one whose measure is NaN, counts as the worst there is: 0 for an accuracy, as in the search
    tables of the 2021 paper, and an infinity for anything else.
    """

    name: str
    highest: bool

    @property
    def worst(self) -> float:
        if self.name.split()[-1] == "accuracy":
            return 0.0 if self.highest else 1.0
        return -math.inf if self.highest else math.inf

    def of(self, outcome: Outcome) -> float:
        """The metric of what came of a trial.

        Raises:
            GraftsimError: the problem has no such measure.
        """
        found = {LOSS: outcome.loss[-1], **outcome.measures}
        if self.name not in found:
            raise GraftsimError(f"the problem has no measure {self.name!r}{nearest(self.name, found)}")
        value = found[self.name]
        return self.worst if outcome.diverged or math.isnan(value) else value

    def better(self, one: float, other: float) -> bool:
        """Whether the first value is strictly better."""
        return one > other if self.highest else one < other

    def gain(self, one: float, other: float) -> float:
        """By how much the first value is better; NaN where both are the same infinity."""
        return one - other if self.highest else other - one

    def __str__(self) -> str:
        return self.name


def parse(text: str) -> Metric:
    """``max NAME`` or ``min NAME``; a name that ends in accuracy, loss or error needs no such word."""
    word, _, rest = text.strip().partition(" ")
    if word in ("max", "min") and rest.strip():
        return Metric(rest.strip(), word == "max")
    ending = (text.split() or [""])[-1]
    if ending not in _GOOD:
        raise GraftsimError(f"a metric must say which end is good: 'max {text}' or 'min {text}'; received {text!r}")
    return Metric(text.strip(), _GOOD[ending] == "max")


def check_apart(select: Metric, report: Metric) -> None:
    """Refuse to select by the metric that is reported: the best of many trials would be reported by its luck."""
    if select.name == report.name:
        raise GraftsimError(
            f"selection and report must be different measures; both are {select.name!r}; select by one of training data"
        )
