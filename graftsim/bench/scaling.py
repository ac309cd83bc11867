"""Our step against its sizes: more coordinates, more tensors (kind ``scaling``)."""

from __future__ import annotations

import numpy as np

from graftsim.bench import workload
from graftsim.bench.cases import Case
from graftsim.bench.field import Field, difference
from graftsim.bench.steps import BOUND, Stepper
from graftsim.bench.timing import Contestant
from graftsim.bench.workload import Equations, Rates


def prepare(case: Case, threads: int) -> Field:
    """A contestant for each size and number of tensors."""
    values, rates = case.values, Rates.of(case.values)
    steppers: dict[str, Stepper] = {}
    for size in values["sizes"]:
        gradient = workload.gradient(size, values["dtype"])
        for tensors in values["tensors"]:
            shapes = workload.shapes(size, min(size, tensors))
            steppers[f"{size:g} in {len(shapes):g} tensors"] = Stepper(rates, shapes, gradient, threads)
    contestants = [Contestant(name, each, each.gradient.size) for name, each in steppers.items()]

    def check() -> dict[str, float]:
        for contestant in contestants:
            contestant()
        return {name: _first_step(name, each, rates) for name, each in steppers.items()}

    return Field(contestants, check, unit="coordinate")


def _first_step(name: str, ours: Stepper, rates: Rates) -> float:
    """The first tensor after one step, against the equations."""
    place = slice(0, ours.program.layout.sizes[0])
    equations = Equations(rates, np.zeros(ours.program.layout.sizes[0]))
    equations.graft(ours.gradient[place])
    return difference(name, ours.weights[place], equations.weights, BOUND)
