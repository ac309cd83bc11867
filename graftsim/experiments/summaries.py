"""Numbers over seeds: mean, deviation and count; and the sign test."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """``mean`` and ``deviation`` (n - 1 in its denominator) of the values that are finite, and how many are not.

    The mean is NaN where no value is finite, the deviation where fewer than two are.
    """

    mean: float
    deviation: float
    n: int
    """How many values there are, finite or not."""
    diverged: int = 0
    """How many of them are not finite."""

    def text(self, digits: int = 3) -> str:
        """``0.0123 ± 0.0004``, with what diverged said; a single value stands alone."""
        if self.diverged == self.n:
            return f"diverged ({self.n} of {self.n})" if self.n > 1 else "diverged"
        found = f"{self.mean:.{digits}g}"
        if not math.isnan(self.deviation):
            found += f" ± {self.deviation:.2g}"
        return f"{found} ({self.diverged} of {self.n} diverged)" if self.diverged else found


def summary(values: Sequence[float]) -> Summary:
    """The summary of one value a seed; values that are not finite are counted and never averaged."""
    finite = [value for value in values if math.isfinite(value)]
    mean = math.fsum(finite) / len(finite) if finite else math.nan
    deviation = statistics.stdev(finite) if len(finite) > 1 else math.nan
    return Summary(mean, deviation, len(values), len(values) - len(finite))


def sign_test(wins: int, losses: int) -> float:
    """The chance of at least so many wins among ``wins + losses`` fair coins: the one-sided sign test, ties left out.

    >>> sign_test(5, 0)
    0.03125
    """
    n = wins + losses
    return float(sum(math.comb(n, k) for k in range(wins, n + 1)) / 2**n)
