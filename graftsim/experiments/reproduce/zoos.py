"""A zoo of directions under one M, and how well small studies rank setups (2020 paper, Figure 6 and section 5.3)."""

from __future__ import annotations

import numpy as np

from graftsim.experiments.grid import GridResult
from graftsim.experiments.papers.comparisons import kendall, ranks
from graftsim.experiments.plans import LOSS, grafted, values
from graftsim.experiments.reproduce import grids
from graftsim.experiments.reproduce.findings import (
    Asking,
    Claim,
    Finding,
    Number,
    Picture,
    Size,
    Verdict,
    over_seeds,
    trained,
)
from graftsim.experiments.reproduce.pictures import PALETTE, Drawing, by_steps
from graftsim.experiments.zoo import Zoo, ZooResult


def unreliable(size: Size) -> Asking:
    """How well the ranks of nine setups agree between two seeds."""
    grid = grids.grid_of(size)
    found = GridResult(grid, (yield from trained(grid.trials())))
    pairs = list(grid.pairs())
    seeds = range(grid.plan.seeds)
    by = {"test accuracy": "test accuracy", "final training loss": LOSS}
    numbers, taus = [], {}
    for what, quantity in by.items():
        rows = np.array([values(found.found["tensor", m, d], quantity) for m, d in pairs])  # (9, seeds)
        orders = [ranks((rows[:, seed] + 1e-9 * np.arange(len(pairs))).tolist()) for seed in seeds]
        taus[what] = [kendall(orders[a], orders[b]) for a in seeds for b in range(a)]
        best = {pairs[int(np.argmax(rows[:, s]) if what == "test accuracy" else np.argmin(rows[:, s]))] for s in seeds}
        numbers.append(Number(f"setups that are best by {what} in some seed", str(len(best)), len(seeds)))
        numbers.append(Number(f"Kendall's tau of two seeds, by {what}: mean", f"{np.mean(taus[what]):.2f}", len(seeds)))
    drawing = Drawing()
    with drawing as (axis,):
        for i, found_taus in enumerate(taus.values()):
            axis.plot(found_taus, [i] * len(found_taus), "o", color=PALETTE[i], alpha=0.6)
        axis.set_yticks(range(len(taus)), list(taus))
        axis.set(xlim=(-1.05, 1.05), ylim=(-0.5, 1.5), xlabel="Kendall's tau of two seeds")
    note = "Ties in accuracy are broken by the order of setups."
    holds = float(np.mean(taus["test accuracy"])) < 0.8
    return Finding(Verdict.of(holds), tuple(numbers), (Picture("One dot for each pair of seeds.", drawing.svg),), note)


ZOO = {name: grids.TUNED.directions[name.lower()] for name in ("Yogi", "Adafactor", "AMSGrad")}
"""Momentum 0.9; Adafactor without step sizes of its own."""
BARE = "adafactor(rate=plain, scale=one)"


def zoo(size: Size) -> Asking:
    """Yogi, Adafactor and AMSGrad alone, and as directions under AdaGrad."""
    birds = Zoo(grids.plan(size), grids.OPTIMIZERS["AdaGrad"], ZOO, ("tensor",))
    without = birds.plan.trials(grafted(birds.magnitude, BARE, "tensor"))
    runs_of = yield from trained({**birds.trials(), ("without momentum",): without})
    found = ZooResult(birds, runs_of)
    grafted_spread, alone = found.spread("tensor"), found.spread(None)
    seeds = birds.plan.seeds
    numbers = (
        Number("decades between final losses, grafted on AdaGrad", grafted_spread.text(), seeds),
        Number("decades between final losses, alone", alone.text(), seeds),
        *(over_seeds(f"final loss of AdaGrad#{name}", values(found.found["tensor", name], LOSS)) for name in ZOO),
        over_seeds("final loss of AdaGrad", values(found.found[()], LOSS)),
        over_seeds("final loss of AdaGrad#Adafactor without momentum", values(runs_of["without momentum",], LOSS)),
    )
    drawing = Drawing(2)
    with drawing as axes:
        for axis, title in zip(axes, ("alone", "under M = AdaGrad"), strict=True):
            for i, name in enumerate(ZOO):
                runs = found.found[(name,) if title == "alone" else ("tensor", name)]
                grids.shaded(axis, runs, name, i)
            grids.shaded(axis, found.found[()], "AdaGrad", len(ZOO), 2)
            by_steps(axis, "training loss", title)
        axes[1].legend()
    holds = grafted_spread.mean < 0.15 and not grafted_spread.diverged
    note = "Nothing was tuned for AdaGrad's step sizes."
    return Finding(Verdict.of(holds), numbers, (Picture("Geometric mean and range over seeds.", drawing.svg),), note)


CLAIMS = (
    Claim(
        "zoo",
        2020,
        "Figure 6, section 4.1",
        "With AdaGrad's step sizes Yogi, Adafactor and AMSGrad are nearly indistinguishable, untuned.",
        f"{grids.SETUP}; the three alone, and as directions under AdaGrad, layer-wise. "
        "All with momentum 0.9, as the paper's runs.",
        "Under AdaGrad the final losses of the three lie within 0.15 decades (a factor of 1.4), in "
        "the mean over seeds.",
        zoo,
    ),
    Claim(
        "small-studies",
        2020,
        "Section 5.3",
        "Small-scale comparisons of optimizers are unreliable.",
        "The nine layer-wise setups on digits, ranked by test accuracy in each seed.",
        "Kendall's tau of the ranks in two seeds is below 0.8 in the mean.",
        unreliable,
    ),
)
