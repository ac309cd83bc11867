"""Whether grafted runs go the same way: a question that the 2020 paper leaves open (section 5.1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from graftsim import problems
from graftsim.experiments.discovery.agreement import agree
from graftsim.experiments.figures import legend_below
from graftsim.experiments.jobs import Job
from graftsim.experiments.plans import grafted
from graftsim.experiments.reproduce.findings import (
    Asking,
    Claim,
    Finding,
    Number,
    Picture,
    Size,
    Verdict,
    over_seeds,
)
from graftsim.experiments.reproduce.grids import OPTIMIZERS, SETUP, plan
from graftsim.experiments.reproduce.pictures import DASHES, PALETTE, Drawing
from graftsim.simulate import simulate

OTHER = 1000
"""What is added to the seed of a run that has the start of another and batches of its own."""


PAIRS = {
    "M = SGD: SGD, SGD#Adam": ("SGD", "SGD#Adam"),
    "M = Adam: Adam, Adam#SGD": ("Adam", "Adam#SGD"),
    "D = SGD: SGD, Adam#SGD": ("SGD", "Adam#SGD"),
    "D = Adam: Adam, SGD#Adam": ("Adam", "SGD#Adam"),
    "SGD on other batches": ("SGD", "SGD, other batches"),
    "Adam on other batches": ("Adam", "Adam, other batches"),
}


def compare(problem: str, steps: int, seed: int, keep_every: int, sgd: str, adam: str) -> dict[str, Any]:
    """A job: six runs from the start of a seed, and what each of :data:`PAIRS` have in common."""
    found = problems.parse(problem)
    machines = {
        "SGD": sgd,
        "Adam": adam,
        "SGD#Adam": grafted(sgd, adam, "tensor"),
        "Adam#SGD": grafted(adam, sgd, "tensor"),
    }
    chosen = {name: (machine, seed) for name, machine in machines.items()}
    chosen |= {f"{name}, other batches": (machines[name], seed + OTHER) for name in ("SGD", "Adam")}
    start = found.start(seed, np.float64)
    runs = {
        name: simulate(found, machine, steps, at, record_every=keep_every, start=start)
        for name, (machine, at) in chosen.items()
    }
    both = {pair: agree(runs[first], runs[second]) for pair, (first, second) in PAIRS.items()}
    fields = ("steps", "relative", "updates", "ways")
    return {pair: {name: getattr(one, name).tolist() for name in fields} for pair, one in both.items()}


def ways(size: Size) -> Asking:
    """Runs with one magnitude, with one direction, and of one optimizer on other batches, from the same start."""
    shared = plan(size)
    arguments = {
        **{"problem": shared.problem, "steps": shared.steps, "keep_every": shared.record_every},
        **{"sgd": OPTIMIZERS["SGD"], "adam": OPTIMIZERS["Adam"]},
    }
    function = "graftsim.experiments.reproduce.trajectories:compare"
    rows = yield [Job(function, {**arguments, "seed": seed}) for seed in range(shared.seeds)]
    found = {pair: [row[pair] for row in rows] for pair in PAIRS}
    numbers: list[Number] = []
    for name, seeds in found.items():
        numbers.append(over_seeds(f"{name}: cosine of the ways", [row["ways"][-1] for row in seeds]))
        numbers.append(over_seeds(f"{name}: distance over the mean way", [row["relative"][-1] for row in seeds]))
    drawing = Drawing(2)
    with drawing as axes:
        for i, (name, seeds) in enumerate(found.items()):
            for axis, what in zip(axes, ("relative", "updates"), strict=True):
                mean = np.mean([row[what][1:] for row in seeds], axis=0)
                axis.plot(seeds[0]["steps"][1:], mean, DASHES[i // 2], color=PALETTE[i % 2 + 2 * (i // 4)], label=name)
        axes[0].set(xlabel="step", ylabel="distance over the mean way")
        axes[1].set(xlabel="step", ylabel="cosine of updates")
        legend_below(axes[1], 2)
    note = (
        "The paper asks and claims nothing, so that there is no verdict. The distance is 0 for the "
        "same way and about 1.4 for ways at right angles; the last two pairs say what chance alone does."
    )
    return Finding(
        Verdict.UNDECIDED,
        tuple(numbers),
        (Picture("Means over seeds; updates are those between two points.", drawing.svg),),
        note,
    )


CLAIMS = (
    Claim(
        "same-way",
        2020,
        "Section 5.1, an open question",
        "Do the trajectories of grafted optimizers match in some well-chosen metric?",
        f"{SETUP}; pairs of runs from one start with the same magnitude, with the same direction, and "
        "of one optimizer on "
        "other batches: the cosine of their updates and the distance of their weights by step.",
        "None: the numbers are an answer at this size.",
        ways,
    ),
)
