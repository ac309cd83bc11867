"""One hyperparameter of a search space: a range or a set of choices, and what a number between 0 and 1 stands for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from graftsim.errors import GraftsimError

DIGITS = 6
"""Values are rounded to so many significant digits: what is printed is what was run, on every machine."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, evenly spread over themselves or over their logarithms.

    With ``one_minus`` the range is that of 1 - value, as for a decay that is close to 1.
    """

    low: float
    high: float
    log: bool
    one_minus: bool = False

    def at(self, unit: float) -> float:
        """The value at a place of the unit interval; 0 is ``low`` and 1 is ``high``."""
        width = self.high - self.low
        found = self.low * (self.high / self.low) ** unit if self.log else self.low + width * unit
        return self._value(min(max(_rounded(found), self.low), self.high))

    def _value(self, drawn: float) -> float:
        return float(1 - Decimal(repr(drawn))) if self.one_minus else drawn

    def __contains__(self, value: float) -> bool:
        ends = sorted((self._value(self.low), self._value(self.high)))
        return ends[0] <= value <= ends[1]

    def __str__(self) -> str:
        return f"{'1 - ' if self.one_minus else ''}[{self.low:g}, {self.high:g}]{', log' if self.log else ''}"


@dataclass(frozen=True)
class Choices:
    """One of a few numbers, equally often."""

    values: tuple[float, ...]

    def at(self, unit: float) -> float:
        """The choice at a place of the unit interval."""
        return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]

    def __contains__(self, value: float) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return f"{{{', '.join(f'{value:g}' for value in self.values)}}}"


Parameter = Range | Choices


def of_row(row: Mapping[str, Any], place: str) -> Parameter:
    """The parameter of a row of a search file."""
    if "choices" in row:
        return Choices(tuple(float(value) for value in row["choices"]))
    low, high = (float(end) for end in row["range"])
    log = row["scale"] == "log"
    if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)):
        must = "must be positive and rise" if log else "must rise"
        raise GraftsimError(f"{place}: the ends of the range {must}; received {row['range']}")
    return Range(low, high, log, bool(row.get("one_minus", False)))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS - 1}e}")
