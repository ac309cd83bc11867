"""All checks of printed statements, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graftsim.errors import GraftsimError, nearest
from graftsim.experiments.papers import comparisons, medians, proofs, trials
from graftsim.experiments.papers.verdicts import Check

CHECKS: Mapping[str, Callable[[], Check]] = {
    "variance-shares": comparisons.variance,
    "better-than-both": comparisons.beyond,
    "appendix-a-adagrad": comparisons.appendix,
    "replication-ranks": comparisons.replications,
    "ascent-sign": proofs.ascent,
    "inclusive-accumulator": proofs.accumulator,
    "regret-square": proofs.square,
    "regret-rate": proofs.rate,
    "rare-replacement": proofs.replacement,
    "rare-step-size": proofs.rare,
    "wilson-blocks": proofs.blocks,
    "wilson-closed-form": proofs.closed_form,
    "five-values": medians.values,
    "rounding-table": medians.printed,
    "dimensions": medians.count,
    "power-of-ten": proofs.power_of_ten,
    "best-trials-bert": trials.bert,
    "printed-twice": trials.twice,
    "best-trials-imagenet": trials.imagenet,
    "best-trials-cifar": trials.cifar,
    "search-space": trials.space,
    "polynomial-power": trials.powers,
    "equal-budgets": trials.budgets,
    "failed-trials": trials.failed,
    "zero-step-per-group": proofs.zero_step,
    "decay-epochs": proofs.epochs,
}


def run(name: str) -> Check:
    """One check by name.

    Raises:
        GraftsimError: unknown name.
    """
    if name not in CHECKS:
        raise GraftsimError(f"unknown check {name!r}{nearest(name, CHECKS)}")
    return CHECKS[name]()
