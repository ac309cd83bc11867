"""One step of Adam#SGD(momentum) over many coordinates, beside the byte limit and torch (kind ``step``)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from graftsim import build
from graftsim.bench import machine, workload
from graftsim.bench.cases import Case
from graftsim.bench.field import Field, difference
from graftsim.bench.timing import Absent, Contestant, quiet
from graftsim.bench.workload import Equations, Rates
from graftsim.layouts import Array, Layout
from graftsim.program import Rank

BOUND = 1e-5
"""Of float32: a hundred roundings; float64 is far below. Only a wrong formula is above it."""

LANES = 8
"""torch adds squares in float32, in at least so many sums side by side; each is off by half an ulp for each term."""


class Stepper:
    """Our step: state and weights that are overwritten at each call."""

    def __init__(self, rates: Rates, shapes: dict[str, tuple[int]], gradient: Array, threads: int) -> None:
        from graftsim.compiled.engine import CompiledEngine

        self.program = build(rates.machine, shapes, gradient.dtype.name)
        self.engine = CompiledEngine(self.program, threads)
        self.gradient, self.count = gradient, 0
        self.weights = np.zeros_like(gradient)
        self.state = self.engine.initial_state()

    def __call__(self) -> None:
        self.count += 1
        self.engine.step(self.weights, self.gradient, self.state, self.count)


def prepare(case: Case, threads: int) -> Field:
    """The contestants of a case of kind ``step``."""
    from graftsim.bench.limits import limits

    values = case.values
    rates, shapes = Rates.of(values), workload.shapes(values["size"], values["tensors"])
    gradient = workload.gradient(values["size"], values["dtype"])
    ours = Stepper(rates, shapes, gradient, threads)
    contestants = [Contestant("graftsim", ours, 1)]
    pool = ThreadPoolExecutor(threads)
    contestants += limits(ours.engine.lowered, threads, pool)
    layout = ours.program.layout
    weights: dict[str, Callable[[int], Array]] = {"graftsim": lambda k: ours.weights[_place(layout, k)]}
    grafts = {"graftsim"}
    absent = []
    if rates.magnitude != "adam":
        absent.append(Absent("torch", f"has no {rates.magnitude}"))
    elif machine.has("torch"):
        from graftsim.bench import torch_side

        for each in torch_side.steppers(rates, layout, gradient, threads):
            contestants.append(Contestant(each.name, each, 1))
            weights[each.name] = each.weight
            grafts |= {each.name} if each.grafts else set()
    else:
        absent.append(
            Absent("torch Adam then SGD, and a black-box graft", "not installed: pip install graftsim[torch]")
        )
    field = Field(contestants, lambda: _check(contestants, weights, grafts, rates, layout, gradient), absent)
    field.remarks += memory(ours)
    return field


def _place(layout: Layout, tensor: int) -> slice:
    return slice(layout.offsets[tensor], layout.offsets[tensor + 1])


def _check(
    contestants: list[Contestant],
    weights: dict[str, Callable[[int], Array]],
    grafts: set[str],
    rates: Rates,
    layout: Layout,
    gradient: Array,
) -> dict[str, float]:
    """Three steps on gradients that differ; the first and the last tensor are compared with the equations."""
    looked_at = sorted({0, len(layout.tensors) - 1})
    expected = {(graft, k): Equations(rates, np.zeros(layout.sizes[k])) for graft in (True, False) for k in looked_at}
    kept = gradient.copy()
    for factor in workload.FACTORS:
        np.multiply(kept, factor, out=gradient, casting="same_kind")
        for contestant in contestants:
            contestant()
        for (graft, k), equations in expected.items():
            part = gradient[_place(layout, k)]
            equations.graft(part) if graft else equations.both(part)
    gradient[:] = kept
    in_floats = BOUND + 2.0**-24 * max(layout.sizes) / LANES
    bounds = {name: in_floats if name in grafts and name != "graftsim" else BOUND for name in weights}
    return {
        name: max(difference(name, of(k), expected[name in grafts, k].weights, bounds[name]) for k in looked_at)
        for name, of in weights.items()
    }


def memory(ours: Stepper) -> list[str]:
    """What a step holds and what it takes on top of that, in words."""
    program, lowered = ours.program, ours.engine.lowered
    one = program.layout.size * program.dtype.itemsize
    state = [path for path, slot in program.slots.items() if slot.kind.rank is Rank.COORDINATE]
    stored = sorted(name for each in lowered.passes for name in each.stores)
    extra = taken(_on_copies(ours)) / one
    words = ", ".join(
        f"pass {k} reads {read} and writes {written}" for k, (read, written) in enumerate(lowered.words())
    )
    return [
        f"memory in arrays of {one / 1e6:g} MB: weights 1, gradient 1, state {len(state)}, temporaries {len(stored)}"
        f"{' (' + ', '.join(stored) + ')' if stored else ''}; a step takes {extra:.3f} more at its peak",
        f"words for a coordinate: {words}",
    ]


def _on_copies(ours: Stepper) -> Callable[[], Any]:
    """A step that leaves the contestant's own state as it is; the copies are made before anything is measured."""
    weights, state = ours.weights.copy(), {path: values.copy() for path, values in ours.state.items()}
    ours.engine.step(weights, ours.gradient, state, 1)
    return lambda: ours.engine.step(weights, ours.gradient, state, 2)


def taken(work: Callable[[], Any]) -> int:
    """Bytes that NumPy allocated at the peak of a call."""
    with quiet():
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
