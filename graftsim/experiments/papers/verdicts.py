"""What a check of a printed statement comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Verdict(StrEnum):
    """From best to worst."""

    AGREES = "agrees"
    DIFFERS = "differs"
    """What is printed is not what follows from the rest, but something that is not printed may explain it."""
    MISPRINT = "misprint"
    """The paper contradicts itself, or what it prints is false."""


@dataclass(frozen=True)
class Line:
    """One comparison: what, the printed value, the value that follows from the rest of the paper or from a run."""

    what: str
    printed: str
    found: str
    verdict: Verdict = Verdict.AGREES


@dataclass(frozen=True)
class Check:
    """A check: where the printed statement stands, its comparisons, and what is to be said of them."""

    id: str
    paper: int
    place: str
    question: str
    lines: tuple[Line, ...]
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst of the lines."""
        return max((line.verdict for line in self.lines), key=list(Verdict).index)


def rounds_to(printed: float, value: Decimal, decimals: int) -> bool:
    """Whether the printed number is the value rounded to its decimals; a tie may go either way.

    >>> rounds_to(63.3, Decimal("63.2697"), 1), rounds_to(89.81, Decimal("89.818"), 2)
    (True, False)
    """
    return abs(Decimal(repr(printed)) - value) <= Decimal(5).scaleb(-decimals - 1)


def line(what: str, printed: object, found: object, otherwise: Verdict = Verdict.MISPRINT) -> Line:
    """A comparison of two values that must be equal."""
    return Line(what, str(printed), str(found), Verdict.AGREES if printed == found else otherwise)


def words(items: Sequence[str]) -> str:
    """A list as a person writes it.

    >>> words(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
