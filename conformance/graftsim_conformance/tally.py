"""Sums of comparisons: what is said of a case, or of all cases of a row, from its values one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from graftsim.profiles import Profile, together
from graftsim.program import Program
from graftsim_conformance.cases import Array, Case
from graftsim_conformance.dialects import Row
from graftsim_conformance.follow import BUDGET, Comparison, failure, follow
from graftsim_conformance.recording import Recorded
from graftsim_conformance.report import Failure
from graftsim_conformance.verdicts import Verdict


def same_bits(first: Array, second: Array) -> Array:
    """Where values have the same bits; every NaN counts as one, and -0 and +0 differ (GS-trajectory-equality)."""
    with np.errstate(invalid="ignore"):
        equal = (first == second) & (np.signbit(first) == np.signbit(second))
    return np.asarray(equal | (np.isnan(first) & np.isnan(second)))


def tallied(program: Program, case: Case, steps: list[Recorded], row: Row, profiles: Collection[str] = ()) -> Tally:
    """All comparisons of a record with a machine; under as few of the profiles as bring it within the budget."""

    def compared(profile: Profile) -> Iterator[tuple[Program, Comparison]]:
        found = follow(program, steps, row.float32, case.taken, case.state, profile)
        return ((program, comparison) for comparison in found)

    return fewest(case, compared, profiles)


def fewest(
    case: Case, compared: Callable[[Profile], Iterator[tuple[Program, Comparison]]], profiles: Collection[str]
) -> Tally:
    """Comparisons under as few of the profiles as bring them within the budget, or under all."""
    found = Tally()
    for count in range(len(profiles) + 1):
        for chosen in itertools.combinations(profiles, count):
            found = Tally(granted=" and ".join(chosen))
            for program, comparison in compared(together(chosen)):
                found.add(case, comparison)
                if found.failure is None:
                    found.failure = failure(case, program, comparison)
            if found.verdict is not Verdict.DIFFERENT:
                return found
    return found


@dataclass
class Tally:
    """The sum of comparisons over a case, or over all cases of a row."""

    comparisons: int = 0
    undecided: int = 0
    largest: float = 0.0
    largest_at: str = ""
    failure: Failure | None = None
    exact: bool = True
    granted: str = ""

    def add(self, case: Case, comparison: Comparison) -> None:
        decided, units = comparison.decided, comparison.units
        self.comparisons += int(decided.sum())
        self.undecided += int((~decided).sum())
        self.exact = self.exact and bool(same_bits(comparison.got, comparison.want).all())
        if units.max(initial=0.0) > self.largest:
            self.largest = float(units.max())
            self.largest_at = f"{comparison.place}, {case.name}, step {comparison.step}"

    def join(self, other: Tally) -> None:
        """Add what was found on another case."""
        self.comparisons += other.comparisons
        self.undecided += other.undecided
        self.exact = self.exact and other.exact
        self.failure = self.failure or other.failure
        self.granted = self.granted or other.granted
        if other.largest > self.largest:
            self.largest, self.largest_at = other.largest, other.largest_at

    @property
    def nothing(self) -> str:
        return "" if self.comparisons else "nothing could be compared"

    @property
    def verdict(self) -> Verdict:
        if self.failure is not None or self.largest > BUDGET:
            return Verdict.DIFFERENT
        if not self.comparisons:
            return Verdict.NOT_SUPPORTED
        return Verdict.EXACT if self.exact else Verdict.EQUIVALENT
