"""Verdicts: what can be said of a candidate, and the one exception that carries one out of a candidate's run."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """What a candidate is found to be; only the first two pass."""

    EXACT = "exact"
    """The reference's bits."""
    EQUIVALENT = "equivalent"
    """Within the budget (GS-budget-comparison)."""
    DIFFERENT = "different"
    """Outside the budget, wrong shapes or dtypes, or inputs that were changed."""
    NOT_SUPPORTED = "not supported"
    """The candidate says so; never counted as passed."""
    CRASHED = "crashed"
    """An exception, a signal, an exit, or an answer that is none."""
    TIMED_OUT = "timed out"
    """Longer than the time limit."""

    @property
    def passed(self) -> bool:
        return self in (Verdict.EXACT, Verdict.EQUIVALENT)


WORST_FIRST = (
    Verdict.DIFFERENT,
    Verdict.CRASHED,
    Verdict.TIMED_OUT,
    Verdict.NOT_SUPPORTED,
    Verdict.EQUIVALENT,
    Verdict.EXACT,
)


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on all from the verdicts on each: the worst; nothing at all is not supported.

    >>> str(overall([Verdict.EXACT, Verdict.EQUIVALENT])), str(overall([]))
    ('equivalent', 'not supported')
    """
    return min(verdicts, key=WORST_FIRST.index, default=Verdict.NOT_SUPPORTED)


class CandidateError(Exception):
    """A candidate could not be run to the end of a case.

    Args:
        verdict: what that makes it.
        reason: one line for people.
        detail: what it left behind: a traceback, or the tail of its standard error.
    """

    def __init__(self, verdict: Verdict, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.verdict, self.reason, self.detail = verdict, reason, detail
