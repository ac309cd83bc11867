"""All pairs of three optimizers, and a zoo of directions, on digits (Figures 1, 2 and 6 of the 2020 paper)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from graftsim.experiments import setups
from graftsim.experiments.figures import band, legend_below
from graftsim.experiments.grid import Grid, GridResult
from graftsim.experiments.plans import LOSS, Plan, Runs, summarised, values
from graftsim.experiments.reproduce.findings import (
    Asking,
    Claim,
    Finding,
    Number,
    Picture,
    Size,
    Verdict,
    counted,
    over_seeds,
    trained,
)
from graftsim.experiments.reproduce.pictures import DASHES, PALETTE, Drawing, by_steps

TUNED = setups.load("digits")
OPTIMIZERS: Mapping[str, str] = {name: TUNED.optimizers[name.lower()] for name in ("SGD", "Adam", "AdaGrad")}
"""With the papers' momentum 0.9 and eps = 0, and rates that were tuned for each alone."""
PARTITIONS = {"tensor": "layer-wise", "global": "global"}
SETUP = "A network 64-64-32-10 on scikit-learn's digits, batch 64, 600 steps"


def plan(size: Size) -> Plan:
    """The run that all claims here share."""
    return Plan(TUNED.problem, TUNED.steps, size.seeds(), TUNED.recorded_every(TUNED.steps))


def grid_of(size: Size) -> Grid:
    return Grid(plan(size), OPTIMIZERS, tuple(PARTITIONS))


def clusters(size: Size) -> Asking:
    """The shares of M and D in the variance of log-loss curves."""
    grid = grid_of(size)
    found = GridResult(grid, (yield from trained(grid.trials())))
    numbers, holds = [], True
    for over, name in PARTITIONS.items():
        shares = found.shares(over)
        for half in ("magnitude", "direction"):
            what = f"share of M, {name}" if half == "magnitude" else f"share of D, {name}"
            numbers.append(over_seeds(what, [getattr(one, half) for one in shares]))
        holds &= all(one.magnitude > 0.8 and one.magnitude > 5 * one.direction for one in shares)
    equal = [row.equal for row in found.diagonal()]
    total = len(equal) * grid.plan.seeds
    numbers.append(Number("runs in which A#A has the bits of A", f"{sum(equal)} of {total}", grid.plan.seeds))
    caption = "Geometric mean and range over seeds. Colours are M's, dashes D's: curves of one colour lie together."
    return Finding(Verdict.of(holds), tuple(numbers), (Picture(caption, _curves(found)),))


def _curves(found: GridResult) -> str:
    drawing = Drawing(2)
    with drawing as axes:
        for axis, (over, name) in zip(axes, PARTITIONS.items(), strict=True):
            for (i, m), (j, d) in itertools.product(enumerate(OPTIMIZERS), enumerate(OPTIMIZERS)):
                shaded(axis, found.found[over, m, d], f"{m}#{d}", i, j)
            by_steps(axis, "training loss", name)
        legend_below(axes[0], 3)
    return drawing.svg


def shaded(axis: Any, runs: Runs, label: str, colour: int, dash: int = 0) -> None:
    band(axis, runs[0].steps, [run.loss for run in runs], label, PALETTE[colour], DASHES[dash])


def untuned(size: Size) -> Asking:
    """The worst final loss of any pair as a multiple of its M's alone."""
    grid = grid_of(size)
    found = GridResult(grid, (yield from trained(grid.trials())))
    numbers, worst = [], 0.0
    for over, name in PARTITIONS.items():
        ratio, m, d = found.worst(over)
        worst = max(worst, ratio)
        numbers.append(
            Number(f"largest final loss over that of M alone, {name}", f"{ratio:.2f} ({m}#{d})", grid.plan.seeds)
        )
    numbers += [over_seeds(f"final training loss of {m} alone", values(found.found[m,], LOSS)) for m in OPTIMIZERS]
    drawing = Drawing()
    with drawing as (axis,):
        for k, over in enumerate(PARTITIONS):
            for (i, m), (j, d) in itertools.product(enumerate(OPTIMIZERS), enumerate(OPTIMIZERS)):
                alone = summarised(found.found[m,], LOSS).mean
                height = summarised(found.found[over, m, d], LOSS).mean / alone
                axis.plot(3 * i + j + 0.25 * k, height, "os"[k], color=PALETTE[i])
        axis.axhline(2, color=PALETTE[5], ls="--", lw=1)
        pairs = [f"{m}#{d}" for m in OPTIMIZERS for d in OPTIMIZERS]
        axis.set_xticks(range(9), pairs, rotation=40, ha="right")
        axis.set(ylabel="final loss over M's")
    caption = "Circles layer-wise, squares global; the dashed line is the rule."
    note = "No pair was tuned: nine runs from three tuned optimizers."
    return Finding(Verdict.of(worst < 2), tuple(numbers), (Picture(caption, drawing.svg),), note)


def beyond(size: Size) -> Asking:
    """Pairs whose final training loss is below both parents' in every seed."""
    grid = grid_of(size)
    found = GridResult(grid, (yield from trained(grid.trials())))
    wins: dict[str, list[bool]] = {}
    for over, name in PARTITIONS.items():
        for m, d in itertools.permutations(OPTIMIZERS, 2):
            runs = zip(*(values(found.found[key], LOSS) for key in ((over, m, d), (m,), (d,))), strict=True)
            wins[f"{m}#{d}, {name}"] = [pair < min(alone, other) for pair, alone, other in runs]
    always = [name for name, won in wins.items() if all(won)]
    numbers = tuple(
        counted(f"seeds in which {name} is below both parents", won) for name, won in wins.items() if any(won)
    )
    drawing = Drawing(width=5.4)
    with drawing as (axis,):
        axis.barh(list(wins), [sum(won) for won in wins.values()], color=PALETTE[2])
        axis.set(xlabel=f"seeds of {grid.plan.seeds} in which the graft beats both parents", xlim=(0, grid.plan.seeds))
        axis.invert_yaxis()
    note = "By final training loss. With twelve pairs, one that wins in every seed by chance alone is not excluded."
    caption = "How often a graft ends below both of its parents."
    return Finding(Verdict.of(bool(always)), numbers, (Picture(caption, drawing.svg),), note)


def sanity(size: Size) -> Asking:
    """Adam against SGD with Adam's step sizes."""
    grid = grid_of(size)
    found = GridResult(grid, (yield from trained(grid.trials())))
    rows = {
        "Adam": found.found["Adam",],
        "Adam#SGD, layer-wise": found.found["tensor", "Adam", "SGD"],
        "SGD": found.found["SGD",],
        "SGD#Adam, layer-wise": found.found["tensor", "SGD", "Adam"],
    }
    logs = {name: np.log10(values(runs, LOSS)) for name, runs in rows.items()}
    gap = np.abs(logs["Adam"] - logs["SGD"])
    left = np.abs(logs["Adam"] - logs["Adam#SGD, layer-wise"])
    numbers = (
        *(over_seeds(f"final training loss of {name}", values(runs, LOSS)) for name, runs in rows.items()),
        over_seeds("part of the gap in decades that step sizes explain", (1 - left / gap).tolist()),
    )
    drawing = Drawing()
    with drawing as (axis,):
        for i, (name, runs) in enumerate(rows.items()):
            shaded(axis, runs, name, i // 2, i % 2)
        by_steps(axis, "training loss")
        axis.legend()
    note = "Which of the two ends lower is not the question: rates were chosen by the loss on held-out examples."
    caption = "Same colour, same step sizes."
    return Finding(Verdict.of(bool((left < 0.5 * gap).all())), numbers, (Picture(caption, drawing.svg),), note)


CLAIMS = (
    Claim(
        "clusters",
        2020,
        "Figures 1 and 2, section 3",
        "The shape of a training curve is determined by M, which supplies the step size, more than by D.",
        f"{SETUP}; SGD, Adam and AdaGrad with momentum 0.9 and eps = 0, all nine pairs, layer-wise and global.",
        "In every seed M explains more than 0.8 of the variance of log-loss curves, and more than 5 times D's share.",
        clusters,
    ),
    Claim(
        "untuned",
        2020,
        "Section 3.2, Table 2",
        "From N tuned optimizers grafting makes N^2 setups with no additional tuning.",
        "The runs of the nine pairs on digits.",
        "The mean final training loss of every pair is below twice that of its M alone.",
        untuned,
    ),
    Claim(
        "beyond-both",
        2020,
        "Section 3.3, Table 3",
        "It is possible for a grafted optimizer to outperform both base methods.",
        "The runs on digits, six pairs and two partitions.",
        "Some pair has a lower final training loss than both of its parents in every seed.",
        beyond,
    ),
    Claim(
        "sanity-check",
        2020,
        "Section 6",
        "A#SGD is a sanity check that tells whether A's advantage comes from its step sizes.",
        "The runs on digits: Adam, SGD, Adam#SGD and SGD#Adam layer-wise.",
        "In every seed Adam#SGD ends nearer to Adam than half of the distance between Adam and SGD, "
        "in decades of loss.",
        sanity,
    ),
)
