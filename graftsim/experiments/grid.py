"""The grid: every pair M#D of N tuned optimizers, with no further tuning (2020 paper, section 3.2, figures 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graftsim.errors import GraftsimError
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.plans import LOSS, Plan, Progress, Runs, grafted, independent, run_all, summarised
from graftsim.experiments.shares import Floats, Shares, log_curves, shares
from graftsim.experiments.trials import Outcome, Trial

Key = tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The optimizers by label, and the partitions over which they are grafted."""

    plan: Plan
    optimizers: Mapping[str, str]
    partitions: tuple[str, ...] = ("global", "tensor")

    def __post_init__(self) -> None:
        if len(self.optimizers) < 2:
            raise GraftsimError(f"a grid needs at least 2 optimizers; received {len(self.optimizers)}")
        if not self.partitions or len(set(self.partitions)) < len(self.partitions):
            raise GraftsimError(f"the partitions must differ; received {', '.join(self.partitions) or 'none'}")

    def pairs(self) -> Iterator[tuple[str, str]]:
        """All (M, D), M by M."""
        return ((m, d) for m in self.optimizers for d in self.optimizers)

    def trials(self) -> dict[Key, list[Trial]]:
        """The runs of each optimizer alone under (label,), and of each pair under (partition, M, D)."""
        found: dict[Key, list[Trial]] = {(label,): self.plan.trials(text) for label, text in self.optimizers.items()}
        for partition in self.partitions:
            for m, d in self.pairs():
                machine = grafted(self.optimizers[m], self.optimizers[d], partition)
                found[partition, m, d] = self.plan.trials(machine, ratios=m == d)
        return found

    @property
    def runs(self) -> int:
        """How many runs there are."""
        n = len(self.optimizers)
        return self.plan.seeds * (n + n * n * len(self.partitions))


@dataclass(frozen=True)
class Diagonal:
    """Whether A#A was A to the bit, in all recorded losses and the last weights, over one partition.

    In exact arithmetic it always is. In that of the spec it is where the ratio n / n is 1, that is where the norm of
    each group's step is finite; where a group does not move its ratio is recorded as 0, and it does not move either.
    Where a run diverges a norm may be infinite or undefined, the ratio is no number, and the NaN of one coordinate
    becomes that of its whole group: such a run is not compared.
    """

    partition: str
    label: str
    equal: int
    """Seeds with the same bits."""
    differ: int
    """Seeds with other bits although every recorded ratio was 1: a fault of the simulator."""
    not_compared: int
    """Seeds with a ratio that was not 1."""


@dataclass(frozen=True)
class GridResult:
    """The outcomes of a grid's runs, by the keys of :meth:`Grid.trials`."""

    grid: Grid
    found: Mapping[Key, Runs]

    @property
    def independent(self) -> int:
        """How many seeds made a difference."""
        return independent(self.found.values())

    def diagonal(self) -> list[Diagonal]:
        """A#A beside A, for each partition and optimizer."""
        rows = []
        for partition in self.grid.partitions:
            for label in self.grid.optimizers:
                both = zip(self.found[label,], self.found[partition, label, label], strict=True)
                same = [_same(alone, pair) for alone, pair in both]
                rows.append(Diagonal(partition, label, same.count(True), same.count(False), same.count(None)))
        return rows

    def shares(self, partition: str) -> list[Shares]:
        """The shares of M and D in the variance of the log-loss curves, one for each seed.

        Raises:
            GraftsimError: the losses have no logarithms.
        """
        n = len(self.grid.optimizers)
        return [shares(self._curves(partition, seed)[0].reshape(n, n, -1)) for seed in range(self.grid.plan.seeds)]

    def held(self, partition: str) -> int:
        """How many losses were held between the bounds of :func:`graftsim.experiments.shares.log_curves`."""
        return sum(self._curves(partition, seed)[1] for seed in range(self.grid.plan.seeds))

    def _curves(self, partition: str, seed: int) -> tuple[Floats, int]:
        return log_curves([self.found[partition, m, d][seed].loss for m, d in self.grid.pairs()])

    def diverged(self, partition: str) -> int:
        """How many of a partition's runs diverged."""
        return sum(run.diverged for m, d in self.grid.pairs() for run in self.found[partition, m, d])

    def worst(self, partition: str) -> tuple[float, str, str]:
        """The largest mean final loss of a pair M#D as a multiple of M's alone, and the pair; infinite where one
        diverged and M alone did not. Pairs whose M has no positive loss are left out."""
        rows = [(math.nan, "", "")]
        for m, d in self.grid.pairs():
            pair, alone = summarised(self.found[partition, m, d], LOSS), summarised(self.found[m,], LOSS)
            if alone.mean > 0 and not alone.diverged:
                rows.append((math.inf if pair.diverged else pair.mean / alone.mean, m, d))
        return max(rows[1:], default=rows[0])


def _same(alone: Outcome, pair: Outcome) -> bool | None:
    """Whether both have the same bits; None where a recorded ratio is neither 1 nor, without movement, 0."""
    ratios = (pair.ratios or {})["ratio"]
    if any(ratio not in (0.0, 1.0) for row in ratios for ratio in row):
        return None
    return alone.weights == pair.weights and list(map(repr, alone.loss)) == list(map(repr, pair.loss))


def run(grid: Grid, ledger: Ledger, workers: int = 1, progress: Progress | None = None) -> GridResult:
    """Run N tuned optimizers alone, and their N^2 pairs over each partition.

    Raises:
        GraftsimError: an unknown problem, machine or partition, before anything is run.
    """
    return GridResult(grid, run_all(grid.trials(), ledger, workers, progress))
