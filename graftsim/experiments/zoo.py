"""The zoo: one M with many directions, M#A for each A, which compares directions alone (2020 paper, section 4.1).

Alone, optimizers differ in step sizes and in directions. Under one M they have the same step sizes (where they stand at
the same weights), so that what still differs is the direction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from graftsim.errors import GraftsimError
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.plans import LOSS, Plan, Progress, Runs, grafted, run_all, values
from graftsim.experiments.summaries import Summary, summary
from graftsim.experiments.trials import Trial

Key = tuple[str, ...]


@dataclass(frozen=True)
class Zoo:
    """The magnitude, and the directions by label."""

    plan: Plan
    magnitude: str
    directions: Mapping[str, str]
    partitions: tuple[str, ...] = ("global", "tensor")

    def __post_init__(self) -> None:
        if len(self.directions) < 2:
            raise GraftsimError(f"a zoo needs at least 2 optimizers; received {len(self.directions)}")
        if not self.partitions or len(set(self.partitions)) < len(self.partitions):
            raise GraftsimError(f"the partitions must differ; received {', '.join(self.partitions) or 'none'}")

    def trials(self) -> dict[Key, list[Trial]]:
        """M alone under (), A alone under (label,), M#A under (partition, label)."""
        found: dict[Key, list[Trial]] = {(): self.plan.trials(self.magnitude)}
        found |= {(label,): self.plan.trials(text) for label, text in self.directions.items()}
        for partition in self.partitions:
            for label, text in self.directions.items():
                found[partition, label] = self.plan.trials(grafted(self.magnitude, text, partition))
        return found


@dataclass(frozen=True)
class ZooResult:
    """The outcomes of a zoo's runs, by the keys of :meth:`Zoo.trials`."""

    zoo: Zoo
    found: Mapping[Key, Runs]

    def spread(self, partition: str | None) -> Summary:
        """How far the directions' final losses lie apart, in decades: for each seed log10 of the largest over the
        smallest; of the optimizers alone where ``partition`` is None. Not finite where one diverged or has no log."""
        keys = [(label,) if partition is None else (partition, label) for label in self.zoo.directions]
        return summary(
            [_decades(losses) for losses in zip(*(values(self.found[key], LOSS) for key in keys), strict=True)]
        )


def _decades(losses: tuple[float, ...]) -> float:
    if not all(math.isfinite(loss) and loss > 0 for loss in losses):
        return math.nan
    return math.log10(max(losses) / min(losses))


def run(zoo: Zoo, ledger: Ledger, workers: int = 1, progress: Progress | None = None) -> ZooResult:
    """Run M alone, each A alone, and M#A over each partition.

    Raises:
        GraftsimError: an unknown problem, machine or partition, before anything is run.
    """
    return ZooResult(zoo, run_all(zoo.trials(), ledger, workers, progress))
