"""How far two machines are apart: both run from the same weights on the probe gradients.

A distance is the largest difference of the weights after any step, in units of the first machine's largest step of
that tensor. Two machines are the same program where no difference is above the rounding errors of both, as
:mod:`graftsim.bounds` derives them from the equations and carries them along.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from graftsim import compiler
from graftsim.bounds import Bounds
from graftsim.engine import Engine
from graftsim.layouts import Array
from graftsim.notation import Instance
from graftsim_conformance.carrying import values_of
from graftsim_conformance.follow import BUDGET
from graftsim_conformance.probes import LAYOUT, PROBES, start

STREAMS: dict[str, str] = {
    "mixed": "ordinary gradients, 2^-8 to 2^4",
    "tiny": "small gradients, 2^-30 to 2^-13",
    "spike": "a gradient 2^12 times as large, then quiet",
}
FLOOR = 2.0**-52
"""Distances below this are rounding; they count as this in a mean."""

RATES = (1.0, 1.0, 0.1, 0.5, 2.0)
"""Factors on the learning rate, repeated, that show where a momentum buffer holds it."""


@dataclass(frozen=True)
class Run:
    """Weights after each step, the largest step of each tensor so far spread over its coordinates, and error bounds."""

    weights: list[Array]
    steps: list[Array]
    errors: list[Array]


Runs = Mapping[str, list[Run]]


@dataclass(frozen=True)
class Difference:
    """Of two machines: the distance on each stream, and whether all of it may be rounding."""

    distances: Mapping[str, float]
    same: bool

    @property
    def mean(self) -> float:
        """The geometric mean of the distances, by which the nearest of several machines is found."""
        logs = [math.log2(min(max(each, FLOOR), 2.0**1000)) for each in self.distances.values()]
        return math.exp2(sum(logs) / len(logs))


class Trajectories:
    """The runs of one machine on all streams, from ordinary weights and from zero."""

    def __init__(self, instance: Instance, changing_rate: bool = False) -> None:
        self._program = compiler.build(instance, LAYOUT)
        self._values = values_of(instance)
        self._factors = RATES if changing_rate else (1.0,)

    def quick(self) -> dict[str, Run]:
        """From ordinary weights, without error bounds."""
        return {name: self._run(name, zero=False, bounded=False) for name in STREAMS}

    def full(self) -> dict[str, list[Run]]:
        """From both starts, with error bounds."""
        return {name: [self._run(name, zero, bounded=True) for zero in (False, True)] for name in STREAMS}

    def _settings(self, steps: int) -> Iterator[dict[str, float]]:
        rates = [path for path in self._values if path.rpartition(".")[2] == "lr"]
        for factor in islice(cycle(self._factors), steps):
            yield {path: self._values[path] * factor for path in rates}

    def _run(self, stream: str, zero: bool, bounded: bool) -> Run:
        program, gradients = self._program, PROBES[stream].gradients()
        engine, bounds = Engine(program), Bounds(program)
        weights, state = start(zero), engine.initial_state()
        moved, states = bounds.exact(weights), bounds.initial_state()
        largest, run = np.zeros(len(LAYOUT.tensors)), Run([], [], [])
        for number, (row, settings) in enumerate(zip(gradients, self._settings(len(gradients)), strict=True), 1):
            out = engine.step(weights, row, state, number, settings)
            if bounded:
                moved, outcome = bounds.step(moved, LAYOUT.unflatten(row), states, number, settings)
                states = dict(outcome.state)
            weights, state = out.weights, out.state
            steps = [np.nanmax(np.abs(out.delta[place]), initial=0.0) for _, _, place in LAYOUT.slices()]
            largest = np.maximum(largest, steps)
            run.weights.append(weights)
            run.steps.append(np.repeat(largest, LAYOUT.sizes))
            run.errors.append(moved.error)
        return run


def quick(first: Mapping[str, Run], second: Mapping[str, Run]) -> Difference:
    """The distances alone, for choosing among many."""
    return Difference({name: _distance(first[name], second[name]) for name in STREAMS}, same=False)


def full(first: Runs, second: Runs) -> Difference:
    """The distances, the larger of both starts, and the verdict."""
    distances, same = {}, True
    for name in STREAMS:
        pairs = list(zip(first[name], second[name], strict=True))
        distances[name] = max(_distance(a, b) for a, b in pairs)
        same = same and all(_may_be_rounding(a, b) for a, b in pairs)
    return Difference(distances, same)


def _distance(first: Run, second: Run) -> float:
    worst = 0.0
    for a, b, step in zip(first.weights, second.weights, first.steps, strict=True):
        with np.errstate(all="ignore"):
            off = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b) / step)
        worst = max(worst, float(np.where(np.isnan(off), np.inf, off).max()))
    return worst


def _may_be_rounding(first: Run, second: Run) -> bool:
    """Each lies within its own bound of what it computes, so equal machines lie within the sum of both.

    A coordinate whose bound is infinite says nothing; at least half of all must say something.
    """
    decided = total = 0
    for a, b, e, f in zip(first.weights, second.weights, first.errors, second.errors, strict=True):
        bound = BUDGET * (e + f)
        with np.errstate(all="ignore"):
            near = (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= bound)
        if not near.all():
            return False
        decided, total = decided + int(np.isfinite(bound).sum()), total + bound.size
    return 2 * decided >= total
