"""Schedules of AdaGrad on vision: one that a graft discovered, and the usual step decay (2021 paper)."""

from __future__ import annotations

import numpy as np

from graftsim.experiments.figures import band
from graftsim.experiments.plans import values
from graftsim.experiments.reproduce import vision
from graftsim.experiments.reproduce.findings import (
    Asking,
    Claim,
    Finding,
    Number,
    Picture,
    Size,
    Verdict,
    left_out,
    over_seeds,
    trained,
)
from graftsim.experiments.reproduce.pictures import DASHES, PALETTE, Drawing, by_steps
from graftsim.experiments.reproduce.recorded import others
from graftsim.experiments.trials import Trial


def offline(size: Size) -> Asking:
    """AdaGrad with the line or the power that another seed's graft recorded before the first decay, without M."""
    if size.quick:
        return (yield from left_out(vision.LATER))
    shared = yield from vision.shared_runs(size)
    rows = yield vision.recorded_by(size, "global")
    told = others([row["together"] for row in rows])
    lines = [f"corrected({vision.UNIT}, c0={one['line'][0]!r}, c1={one['line'][1]!r})" for one in told]
    powers = [f"corrected({vision.UNIT}, c0=0, c={one['power'][0]!r}, alpha={one['power'][1]!r})" for one in told]
    trials = {
        name: [
            Trial(vision.PROBLEM, machine, vision.STEPS, seed, vision.DTYPE, 5) for seed, machine in enumerate(machines)
        ]
        for name, machines in (("c0 + c1 t", lines), ("c t^alpha", powers))
    }
    found = yield from trained(trials)
    graft = shared["SGD#AdaGrad, global"]
    apart = {name: abs(vision.mean(runs) - vision.mean(graft)) for name, runs in found.items()}
    fits = [row["together"] for row in rows]
    numbers = (
        vision.percent("SGD#AdaGrad, global", graft),
        *(vision.percent(f"AdaGrad times {name}, no M", runs) for name, runs in found.items()),
        over_seeds("line: c0", [one["line"][0] for one in fits]),
        over_seeds("line: c1, a step", [one["line"][1] for one in fits]),
        over_seeds("line: R2", [one["line"][2] for one in fits]),
        over_seeds("power: alpha", [one["power"][1] for one in fits]),
        over_seeds("power: R2", [one["power"][2] for one in fits]),
    )
    drawing = Drawing()
    with drawing as (axis,):
        for i, row in enumerate(rows):
            axis.plot(
                row["curve_steps"], row["curve_together"], color=PALETTE[0], lw=1, label="" if i else "recorded ratio"
            )
        steps = np.arange(1, vision.DROP)
        axis.plot(
            steps, fits[0]["line"][0] + fits[0]["line"][1] * steps, color=PALETTE[1], ls="--", label="line, seed 0"
        )
        axis.plot(
            steps, fits[0]["power"][0] * steps ** fits[0]["power"][1], color=PALETTE[2], ls=":", label="power, seed 0"
        )
        axis.axvline(vision.DROP, color=PALETTE[3], lw=0.8)
        axis.set(xlabel="step", ylabel="|SGD's step| / |AdaGrad's step|", yscale="log")
        axis.legend()
    caption = (
        "The ratio in the global graft, smoothed over 51 steps; the fits are of what stands before the first decay."
    )
    note = "Each run uses what another seed recorded, so that the correction is of another trajectory."
    return Finding(Verdict.of(max(apart.values()) <= 1), numbers, (Picture(caption, drawing.svg),), note)


def scheduled(size: Size) -> Asking:
    """AdaGrad with the step decay and without, each with the best of its rates."""
    if size.quick:
        return (yield from left_out(vision.LATER))
    plain = {lr: vision.trials_of(size, vision.adagrad(lr, "linear_warmup(steps=33)")) for lr in vision.RATES}
    stepped = yield from vision.shared_runs(size)
    constant = yield from trained(plain)
    with_decay = {lr: stepped[f"AdaGrad, rate {lr:g}"] for lr in vision.RATES}
    best = [max(group.values(), key=vision.mean) for group in (with_decay, constant)]
    gain = vision.mean(best[0]) - vision.mean(best[1])
    noise = 100 * max(float(np.std(values(runs, vision.ACCURACY), ddof=1)) for runs in best)
    verdict = Verdict.UNDECIDED if abs(gain) <= noise else Verdict.of(gain > 0)
    numbers = (
        Number("what the decay gains, best rate against best rate, points", f"{gain:+.2f}", size.seeds()),
        *(vision.percent(f"step decay, rate {lr:g}", runs) for lr, runs in with_decay.items()),
        *(vision.percent(f"no decay, rate {lr:g}", runs) for lr, runs in constant.items()),
    )
    drawing = Drawing()
    with drawing as (axis,):
        for i, lr in enumerate(vision.RATES):
            for j, runs in enumerate((with_decay[lr], constant[lr])):
                label = f"{lr:g}, {('step decay', 'no decay')[j]}"
                band(axis, runs[0].steps, [run.loss for run in runs], label, PALETTE[i], DASHES[j])
        by_steps(axis, "training loss")
        axis.legend(fontsize=7.5)
    return Finding(verdict, numbers, (Picture("AdaGrad alone.", drawing.svg),))


CLAIMS = (
    Claim(
        "vision-offline",
        2021,
        "Figure 4, section 5; Figure 3 of 2020",
        "A schedule discovered by grafting fixes AdaGrad on vision without running M.",
        f"{vision.SETUP}; the recorded ratio before the first decay, fitted by a line and by a power, "
        "on AdaGrad alone.",
        "Mean test accuracies of both are within one point of the graft's.",
        offline,
    ),
    Claim(
        "step-decay",
        2021,
        "Appendices A.2 and A.3",
        "AdaGrad with the step schedule works better than with no schedule, which is what is usually reported.",
        f"{vision.SETUP}, or constant after the warm-up; three rates each.",
        "The best mean test accuracy with the decay is above the best without; not decidable where they are no further "
        "apart than one seed from another.",
        scheduled,
    ),
)
