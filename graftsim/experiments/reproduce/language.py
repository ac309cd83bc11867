"""A masked language model of characters: layer-wise grafts, corrections offline, global schedules (both papers)."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from graftsim import problems
from graftsim.experiments.jobs import Job
from graftsim.experiments.plans import Runs, grafted, values
from graftsim.experiments.reproduce.findings import (
    Asking,
    Claim,
    Finding,
    Number,
    Picture,
    Size,
    Verdict,
    counted,
    left_out,
    over_seeds,
    trained,
)
from graftsim.experiments.reproduce.pictures import DASHES, PALETTE, Drawing, by_steps
from graftsim.experiments.reproduce.recorded import job, outcome
from graftsim.experiments.reproduce.vision import layers
from graftsim.experiments.trials import Trial

PROBLEM, STEPS, FIRST, DTYPE = "masked_text(layers=2, width=64, batch=32)", 1200, 300, "float32"
WARMUP = STEPS // 10
SCHEDULE = f"polynomial_warmup(steps={WARMUP})*polynomial_decay(steps={STEPS - WARMUP}, begin={WARMUP})"
ADAM = f"adam(lr=1e-3*{SCHEDULE}, eps=1e-11)"
UNIT = f"momentum(lr={SCHEDULE})"
"""SGD as direction, with rate 1 and the schedule, so that ratios are what its rate should have been."""
RATES = (0.03, 0.1, 0.3)
LAYERWISE, GLOBAL = "Adam#SGD, layer-wise", "Adam#SGD, global"
MARGIN = 0.1
ACCURACY = "test accuracy"
LATER = "Left out with --quick: a run takes a minute."
SETUP = (
    "A transformer with 2 layers and 115 000 weights on the text of Python's help, batch 32 x 64 "
    "characters, 1200 steps, warm-up and decay as in the paper"
)
TRAINED = f"A run trains if its test loss is more than {MARGIN} below that of always the same scores."


def _trials(size: Size, machine: str) -> list[Trial]:
    return [Trial(PROBLEM, machine, STEPS, seed, DTYPE, 20) for seed in range(size.seeds())]


def _machines() -> dict[str, str]:
    return {
        "Adam": ADAM,
        LAYERWISE: grafted(ADAM, UNIT, "tensor"),
        GLOBAL: grafted(ADAM, UNIT, "global"),
        **{f"SGD, rate {lr:g}": f"momentum(lr={lr:g}*{SCHEDULE})" for lr in RATES},
    }


def runs_of(size: Size, *names: str) -> Generator[Sequence[Job], list[Any], dict[str, Runs]]:
    """Runs by name; that of the layer-wise graft is the one that is recorded."""
    recorded = [outcome(row) for row in (yield recorded_by(size))] if LAYERWISE in names else []
    machines = _machines()
    found = yield from trained({name: _trials(size, machines[name]) for name in names if name != LAYERWISE})
    return {name: recorded if name == LAYERWISE else found[name] for name in names}


def trains(runs: Runs) -> list[bool]:
    """For each seed whether the run left the plateau of predicting always the same."""
    plateau = problems.parse(PROBLEM).predictions()["plateau"]["loss"]
    return [bool(loss < plateau - MARGIN) for loss in values(runs, "test loss")]


def rows_of(found: dict[str, Runs]) -> list[Number]:
    rows = []
    for name, runs in found.items():
        rows.append(counted(f"{name}: seeds that train", trains(runs)))
        accuracy = [100 * value if math.isfinite(value) else value for value in values(runs, ACCURACY)]
        rows.append(over_seeds(f"{name}: test accuracy, percent", accuracy, 4))
    return rows


def curves(found: dict[str, Runs]) -> str:
    """Each seed a line: outcomes are of two kinds, which a mean would hide."""
    drawing = Drawing(width=6, height=3.2)
    with drawing as (axis,):
        for i, (name, runs) in enumerate(found.items()):
            for seed, run in enumerate(runs):
                label = "" if seed else name
                axis.plot(run.steps, run.loss, DASHES[i // 6], color=PALETTE[i % 6], lw=1, alpha=0.8, label=label)
        by_steps(axis, "training loss", log=False)
        axis.set_ylim(top=5)
        axis.legend(fontsize=7.5)
    return drawing.svg


def layerwise(size: Size) -> Asking:
    """Adam, SGD at three rates, and layer-wise Adam#SGD with Adam's rate."""
    if size.quick:
        return (yield from left_out(LATER))
    names = ["Adam", LAYERWISE, *(f"SGD, rate {lr:g}" for lr in RATES)]
    found = yield from runs_of(size, *names)
    graft = values(found[LAYERWISE], ACCURACY)
    sgd = [values(found[name], ACCURACY) for name in names[2:]]
    above = [all(one > runs[seed] or not math.isfinite(runs[seed]) for runs in sgd) for seed, one in enumerate(graft)]
    numbers = (*rows_of(found), counted("seeds in which Adam#SGD is above every SGD", above))
    holds = all(trains(found[LAYERWISE])) and all(above)
    note = TRAINED
    return Finding(Verdict.of(holds), numbers, (Picture("A line for each seed.", curves(found)),), note)


def globally(size: Size) -> Asking:
    """Global against layer-wise Adam#SGD."""
    if size.quick:
        return (yield from left_out(LATER))
    found = yield from runs_of(size, LAYERWISE, GLOBAL)
    holds = sum(trains(found[GLOBAL])) <= 1 and all(trains(found[LAYERWISE]))
    picture = Picture("A line for each seed.", curves(found))
    return Finding(Verdict.of(holds), tuple(rows_of(found)), (picture,), TRAINED)


def recorded_by(size: Size) -> list[Job]:
    return [job(PROBLEM, _machines()[LAYERWISE], STEPS, seed, DTYPE, FIRST) for seed in range(size.seeds())]


def ratios(size: Size) -> Asking:
    """The corrections layer by layer."""
    if size.quick:
        return (yield from left_out(LATER))
    rows = yield recorded_by(size)
    keys = [{g["name"] for g in row["groups"] if g["name"].endswith("key.bias")} for row in rows]
    null = [{g["name"] for g in row["groups"] if g["null"]} for row in rows]
    top = [max(row["groups"], key=lambda g: g["median"])["name"] in key for row, key in zip(rows, keys, strict=True)]
    numbers = [
        over_seeds("decades between medians, without null gradients", [row["spread_without_null"] for row in rows]),
        over_seeds("decades between medians, all groups", [row["spread"] for row in rows]),
        counted(
            "seeds in which the null gradients are the key biases", [n == k for n, k in zip(null, keys, strict=True)]
        ),
        counted("seeds in which a key bias has the largest median", top),
        counted(
            "seeds with groups that grow exponentially", [any(g["exponential"] for g in row["groups"]) for row in rows]
        ),
    ]
    for kind in ("query.weight", "key.weight", "value.weight", "key.bias", "code.weight"):
        medians_of = [
            float(np.median([g["median"] for g in row["groups"] if g["name"].endswith(kind)])) for row in rows
        ]
        numbers.append(over_seeds(f"median ratio, {kind}", medians_of))
    drawing = Drawing(2, height=3.2)
    with drawing as axes:
        layers(axes[0], rows[0])
        axes[0].set_title("seed 0, all groups")
        groups = sorted(rows[0]["groups"], key=lambda g: g["median"])
        axes[1].plot([g["median"] for g in groups], range(len(groups)), "o", color=PALETTE[0], ms=3)
        marked = [i for i, g in enumerate(groups) if g["null"]]
        axes[1].plot([groups[i]["median"] for i in marked], marked, "x", color=PALETTE[1], label="null gradient")
        axes[1].set(xscale="log", xlabel=f"median over the first {FIRST} steps", ylabel="group, by rank")
        axes[1].legend()
    holds = min(row["spread_without_null"] for row in rows) > 2 and all(top)
    note = (
        "Softmax takes out what a key's bias adds, so that its gradient is zero but for rounding, "
        "and Adam scales rounding "
        "errors up to full steps. That is the best explanation of the 154101.58 in Table 5."
    )
    caption = "Ratios smoothed over 51 steps, darker for longer steps of M; and the medians."
    return Finding(Verdict.of(holds), tuple(numbers), (Picture(caption, drawing.svg),), note)


CLAIMS = (
    Claim(
        "language-layerwise",
        2021,
        "Figure 2, Table 1",
        "Adam#SGD, layer-wise, trains a transformer and outperforms all pure SGD runs significantly.",
        f"{SETUP}; Adam at 1e-3, Adam#SGD with nothing tuned, SGD at {', '.join(f'{lr:g}' for lr in RATES)}.",
        "Adam#SGD trains in every seed, and is above every SGD run of its seed in test accuracy.",
        layerwise,
    ),
    Claim(
        "language-global",
        2021,
        "Caption of Table 1; appendix A of 2020",
        "The global version of grafting performs significantly worse on language, or does not work.",
        f"{SETUP}; Adam#SGD layer-wise and global, nothing tuned.",
        "Layer-wise trains in every seed and global in at most one.",
        globally,
    ),
    Claim(
        "layer-ratios",
        2021,
        "Figures 5 to 8, Table 5; Figure 7 of 2020",
        "On a transformer the corrections of layers are orders of magnitude apart.",
        f"{SETUP}; medians of the first {FIRST} steps of layer-wise Adam#SGD.",
        "In every seed more than two decades without null gradients, and the largest median is that of a key bias.",
        ratios,
    ),
)
