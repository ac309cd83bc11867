"""Corrections of a language model's rates, discovered by a graft and used without it (2021 paper, section 5)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from graftsim.experiments.jobs import Job
from graftsim.experiments.plans import Runs
from graftsim.experiments.reproduce import language as lm
from graftsim.experiments.reproduce.findings import (
    Asking,
    Claim,
    Finding,
    Picture,
    Size,
    Verdict,
    left_out,
    over_seeds,
    trained,
)
from graftsim.experiments.reproduce.recorded import others, table
from graftsim.experiments.trials import Trial

BETAS, SCALES = (0.5, 1.0, 2.0), (1.0, 2.0)


def _attention(name: str) -> bool:
    """The layers' groups, which the paper ties."""
    return name.startswith("layer")


def beta(groups: list[dict[str, Any]]) -> float:
    """The median of the medians of the layers' weight matrices."""
    weights = [
        g["median"]
        for g in groups
        if _attention(g["name"]) and g["name"].endswith("weight") and "norm" not in g["name"]
    ]
    return float(np.median(weights))


def simplified(groups: list[dict[str, Any]], times: float) -> dict[str, float]:
    """D_beta: the layers tied to ``times`` beta, the others rounded down to powers of ten."""
    tied = times * beta(groups)
    return {g["name"]: tied if _attention(g["name"]) else g["rounded"] for g in groups}


def _corrected(size: Size, factors: list[dict[str, float]]) -> list[Trial]:
    return [
        Trial(lm.PROBLEM, f"corrected({lm.UNIT}, c0={table(one)})", lm.STEPS, seed, lm.DTYPE, 20)
        for seed, one in enumerate(factors)
    ]


def medians(size: Size) -> Asking:
    """SGD with the medians of another seed's graft."""
    if size.quick:
        return (yield from left_out(lm.LATER))
    told = others([row["groups"] for row in (yield lm.recorded_by(size))])
    found = yield from trained(
        {"SGD (medians)": _corrected(size, [{g["name"]: g["median"] for g in groups} for groups in told])}
    )
    found |= yield from lm.runs_of(size, "Adam")
    holds = all(lm.trains(found["SGD (medians)"]))
    note = (
        f"{lm.TRAINED} Each run uses the medians of the first {lm.FIRST} steps of another seed's Adam#SGD, "
        "with the overall rate "
        "1: it was not tuned. The medians hold what rounding errors in the gradients of the key biases make of them."
    )
    return Finding(
        Verdict.of(holds), tuple(lm.rows_of(found)), (Picture("A line for each seed.", lm.curves(found)),), note
    )


def _betas(
    size: Size, which: Sequence[float]
) -> Generator[Sequence[Job], list[Any], tuple[dict[str, Runs], list[float]]]:
    rows = yield lm.recorded_by(size)
    told = others([row["groups"] for row in rows])
    trials = {
        f"SGD (D beta), beta x {times:g}": _corrected(size, [simplified(groups, times) for groups in told])
        for times in which
    }
    found = yield from trained(trials)
    return found, [beta(row["groups"]) for row in rows]


def five_values(size: Size) -> Asking:
    """SGD with D_beta."""
    if size.quick:
        return (yield from left_out(lm.LATER))
    found, values_of_beta = yield from _betas(size, (1.0,))
    (runs,) = found.values()
    numbers = (*lm.rows_of(found), over_seeds("beta, the median of the layers' weights", values_of_beta))
    holds = sum(lm.trains(runs)) >= size.seeds() - 1
    note = (
        f"{lm.TRAINED} Each run uses what another seed recorded in its first {lm.FIRST} steps; the overall rate is 1."
    )
    return Finding(Verdict.of(holds), numbers, (Picture("A line for each seed.", lm.curves(found)),), note)


def robust(size: Size) -> Asking:
    """SGD with D_beta at half, one and two times beta."""
    if size.quick:
        return (yield from left_out(lm.LATER))
    found, _ = yield from _betas(size, BETAS)
    enough = [sum(lm.trains(runs)) >= size.seeds() - 1 for runs in found.values()]
    picture = Picture("A line for each seed.", lm.curves(found))
    return Finding(Verdict.of(all(enough)), tuple(lm.rows_of(found)), (picture,), lm.TRAINED)


def one_schedule(size: Size) -> Asking:
    """SGD with the power of the step that fits the ratio of whole steps, with two overall scalars."""
    if size.quick:
        return (yield from left_out(lm.LATER))
    rows = yield lm.recorded_by(size)
    powers = [row["together"]["power"] for row in rows]
    trials = {}
    for scale in SCALES:
        machines = [
            f"corrected({lm.UNIT}, c0=0, c={c!r}, alpha={alpha!r}, scale={scale:g})" for c, alpha, _ in others(powers)
        ]
        trials[f"SGD times c t^alpha, overall x {scale:g}"] = [
            Trial(lm.PROBLEM, machine, lm.STEPS, seed, lm.DTYPE, 20) for seed, machine in enumerate(machines)
        ]
    found = yield from trained(trials)
    found |= yield from lm.runs_of(size, lm.LAYERWISE)
    layer = found.pop(lm.LAYERWISE)
    numbers = (
        over_seeds("alpha of the ratio of whole steps", [alpha for _, alpha, _ in powers]),
        over_seeds("R2 of the fit, in logarithms", [r2 for *_, r2 in powers]),
        *lm.rows_of({lm.LAYERWISE: layer, **found}),
    )
    best = max(sum(lm.trains(runs)) for runs in found.values())
    holds = best <= 1 and all(lm.trains(layer))
    picture = Picture("A line for each seed.", lm.curves({**found, lm.LAYERWISE: layer}))
    note = f"{lm.TRAINED} The exponent is not the paper's: it had AdaGrad as M, here it is Adam."
    return Finding(Verdict.of(holds), numbers, (picture,), note)


CLAIMS = (
    Claim(
        "language-medians",
        2021,
        "Section 5, Table 4",
        "SGD with the median correction of each layer, held constant, trains a transformer without adaptivity.",
        f"{lm.SETUP}; SGD with factors discovered by Adam#SGD.",
        "It trains in every seed.",
        medians,
    ),
    Claim(
        "five-values-train",
        2021,
        "Section 5, Figure 5",
        "A correction of only five distinct values, D_beta, is enough to train a transformer with SGD.",
        f"{lm.SETUP}; the layers tied to beta, all others rounded down to powers of ten.",
        "It trains in all seeds but one at most.",
        five_values,
    ),
    Claim(
        "beta-robust",
        2021,
        "Section 5, Figure 5a",
        "Performance is relatively stable to small changes of beta.",
        f"{lm.SETUP}; D_beta with half, one and two times the median of the layers' weights.",
        "All three train in all seeds but one at most.",
        robust,
    ),
    Claim(
        "one-schedule",
        2020,
        "Figures 5 and 11, appendix B.1",
        "A global schedule t^alpha, though it fits the ratio of whole steps, does not make SGD train like the graft.",
        f"{lm.SETUP}; the power of the step that fits another seed's recorded ratio, with two overall scalars.",
        "No scalar trains in more than one seed; layer-wise Adam#SGD trains in all.",
        one_schedule,
    ),
)
