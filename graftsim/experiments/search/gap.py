"""How much of the gap between D and M is closed by M#D, and what the seeds allow to be said of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from graftsim.experiments.search.metrics import Metric
from graftsim.experiments.summaries import sign_test

LEVEL = 0.05
"""A sign test below this decides."""
HALF = 0.5
"""The share of the gap that must be closed for transfer to be claimed."""


@dataclass(frozen=True)
class Signs:
    """Seeds that speak for a statement and against it, ties left out, and the exact one-sided binomial p."""

    wins: int
    losses: int
    ties: int

    @property
    def p(self) -> float:
        return sign_test(self.wins, self.losses)

    @property
    def holds(self) -> bool:
        return self.p <= LEVEL

    def text(self) -> str:
        ties = f", {self.ties} tied" if self.ties else ""
        return f"{self.wins} of {self.wins + self.losses} seeds{ties}, p = {self.p:.3g}"


@dataclass(frozen=True)
class Gap:
    """Values of a metric by seed for M, D and M#D, paired by seed."""

    metric: Metric
    m: tuple[float, ...]
    d: tuple[float, ...]
    grafted: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.m)

    @property
    def closed(self) -> float:
        """(M#D - D) / (M - D) of the means over seeds; NaN where D is no worse than M, or a mean is not finite."""
        m, d, grafted = (math.fsum(values) / len(values) for values in (self.m, self.d, self.grafted))
        if not all(math.isfinite(mean) for mean in (m, d, grafted)) or not self.metric.better(m, d):
            return math.nan
        return self.metric.gain(grafted, d) / self.metric.gain(m, d)

    @property
    def there(self) -> Signs:
        """M is better than D."""
        return self._signs(lambda m, d, grafted: (m, d))

    @property
    def gained(self) -> Signs:
        """M#D is better than D."""
        return self._signs(lambda m, d, grafted: (grafted, d))

    @property
    def half(self) -> Signs:
        """M#D is beyond the middle between D and M: more than half of the gap is closed."""
        return self._signs(lambda m, d, grafted: (grafted, HALF * m + HALF * d))

    def _signs(self, sides: Callable[[float, float, float], tuple[float, float]]) -> Signs:
        pairs = [sides(*row) for row in zip(self.m, self.d, self.grafted, strict=True)]
        wins = sum(self.metric.better(one, other) for one, other in pairs)
        losses = sum(self.metric.better(other, one) for one, other in pairs)
        return Signs(wins, losses, len(pairs) - wins - losses)

    @property
    def verdict(self) -> str:
        """What the seeds allow to be said, in one line."""
        if 2.0**-self.n > LEVEL:
            return f"not decidable from {_seeds(self.n)}: a sign test at {LEVEL} needs {fewest()}"
        if not self.there.holds:
            return "no gap to close: D is not shown to be worse than M"
        if self.half.holds:
            return "transfer: more than half of the gap is closed"
        if self.gained.holds:
            return "some transfer: M#D is better than D, but more than half of the gap is not shown to be closed"
        return "no transfer is shown: M#D is not shown to be better than D"


def fewest() -> int:
    """The fewest seeds that can decide: all of them must then agree."""
    return math.ceil(-math.log2(LEVEL))


def _seeds(n: int) -> str:
    return f"{n} seed" if n == 1 else f"{n} seeds"
