"""The sanity check A#SGD: is A's gain over SGD its step size, or its direction? (2020 paper, section 6.)

A#SGD takes A's step lengths in SGD's direction. Where it does as well as A, A's gain was its step size: a schedule,
which SGD could have had. With L the logarithm of the final loss, and for each seed

    closed = (L(SGD) - L(A#SGD)) / (L(SGD) - L(A)),

the verdict counts seeds, by the sign test: whether A beats SGD at all, and whether ``closed`` is above a half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from graftsim.errors import GraftsimError
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.plans import LOSS, Plan, Progress, Runs, grafted, independent, run_all, values
from graftsim.experiments.summaries import Summary, sign_test, summary
from graftsim.experiments.trials import Trial

Key = tuple[str, ...]
LEVEL = 0.05
"""A verdict is given where the sign test's chance is at most this: with 5 seeds, where all agree."""
HALF = 0.5


class Verdict(StrEnum):
    """What the runs decide."""

    STEP_SIZE = "its gain is its step size: A#SGD closes at least half of the gap"
    DIRECTION = "its gain is not its step size alone: A#SGD closes less than half of the gap"
    NO_GAIN = "it has no gain over SGD here"
    UNDECIDED = "not decidable with these seeds"


@dataclass(frozen=True)
class Diagnosis:
    """The optimizer A, and the rates among which SGD takes the one that is best for it."""

    plan: Plan
    optimizer: str
    baselines: tuple[str, ...]
    """SGD, or momentum, with each rate: the one with the lowest mean of log losses is what A is compared with, and the
    first is the direction of A#SGD, in which a rate makes no difference."""
    partitions: tuple[str, ...] = ("global", "tensor")

    def __post_init__(self) -> None:
        if not self.baselines:
            raise GraftsimError("a diagnosis needs at least one rate of SGD; received none")
        if not self.partitions or len(set(self.partitions)) < len(self.partitions):
            raise GraftsimError(f"the partitions must differ; received {', '.join(self.partitions) or 'none'}")

    def trials(self) -> dict[Key, list[Trial]]:
        """A under (), each baseline under its own text, A#SGD under (partition, optimizer)."""
        found: dict[Key, list[Trial]] = {(): self.plan.trials(self.optimizer)}
        found |= {(text,): self.plan.trials(text) for text in self.baselines}
        for partition in self.partitions:
            machine = grafted(self.optimizer, self.baselines[0], partition)
            found[partition, self.optimizer] = self.plan.trials(machine)
        return found


@dataclass(frozen=True)
class DiagnosisResult:
    """The outcomes of a diagnosis' runs, by the keys of :meth:`Diagnosis.trials`."""

    diagnosis: Diagnosis
    found: Mapping[Key, Runs]

    @property
    def baseline(self) -> str:
        """The best of the baselines. Its choice by the very losses that are compared favours SGD."""
        return min(self.diagnosis.baselines, key=lambda text: math.fsum(_logs(self.found[text,])))

    def logs(self, *key: str) -> list[float]:
        """L, the natural logarithm of the final loss, for each seed; infinite where the run diverged."""
        return _logs(self.found[key])

    def grafted(self, partition: str) -> Runs:
        """The runs of A#SGD over a partition."""
        return self.found[partition, self.diagnosis.optimizer]

    def closed(self, partition: str) -> list[float]:
        """The part of the gap that A#SGD closes, for each seed; NaN where A had no gain, -inf where A#SGD diverged."""
        rows = zip(self.logs(), self.logs(self.baseline), _logs(self.grafted(partition)), strict=True)
        return [(sgd - graft) / (sgd - a) if a < sgd < math.inf else math.nan for a, sgd, graft in rows]

    def verdict(self, partition: str) -> Verdict:
        """What the seeds decide; one seed decides nothing."""
        both = list(zip(self.logs(), self.logs(self.baseline), strict=True))
        better, worse = sum(a < sgd for a, sgd in both), sum(a > sgd for a, sgd in both)
        if independent(self.found.values()) < 2:
            return Verdict.UNDECIDED
        if sign_test(better, worse) > LEVEL:
            return Verdict.NO_GAIN if sign_test(worse, better) <= LEVEL or not better else Verdict.UNDECIDED
        parts = [part for part in self.closed(partition) if not math.isnan(part)]
        more, less = sum(part > HALF for part in parts), sum(part < HALF for part in parts)
        if sign_test(more, less) <= LEVEL:
            return Verdict.STEP_SIZE
        return Verdict.DIRECTION if sign_test(less, more) <= LEVEL else Verdict.UNDECIDED

    def gap(self, partition: str) -> Summary:
        """The part of the gap that is closed, over the seeds in which there is a gap."""
        return summary([part for part in self.closed(partition) if not math.isnan(part)])


def _logs(runs: Runs) -> list[float]:
    """A loss of 0 is -inf; one that is no number, or negative, is inf: the worst."""
    losses = values(runs, LOSS)
    return [math.inf if not loss >= 0 else -math.inf if loss == 0 else math.log(loss) for loss in losses]


def run(diagnosis: Diagnosis, ledger: Ledger, workers: int = 1, progress: Progress | None = None) -> DiagnosisResult:
    """Run A, SGD at each of its rates, and A#SGD over each partition.

    Raises:
        GraftsimError: an unknown problem, machine or partition, before anything is run.
    """
    return DiagnosisResult(diagnosis, run_all(diagnosis.trials(), ledger, workers, progress))
