"""One step of ``graftsim_torch.Graft(Adam, SGD)`` beside its children alone and other grafts (kind ``torch``).

Every contestant has weights and state of its own; the gradients are one array, and change during the check only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from graftsim.bench import machine, workload
from graftsim.bench.cases import Case
from graftsim.bench.field import Field, difference
from graftsim.bench.timing import Absent, Contestant
from graftsim.bench.workload import Equations, Rates
from graftsim.layouts import Array, Layout

BOUND = 1e-5
"""Of float32: a hundred roundings. Only a wrong formula is above it."""

LANES = 8
"""Norms in float32 add in at least so many sums side by side; each is off by half an ulp for each term."""

NATIVE: dict[str, dict[str, bool]] = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
PARTITIONS = ("tensor", "global")


def prepare(case: Case, threads: int) -> Field:
    """The contestants of a case of kind ``torch``; a copy of the gradients shows what one read and write cost."""
    values = case.values
    gradient = workload.gradient(values["size"], "float32")
    target = np.empty_like(gradient)
    copy = Contestant("copy of the gradients", lambda: np.copyto(target, gradient), 1)
    if not machine.has("torch"):
        return Field([copy], dict, [Absent("graftsim_torch", "not installed: pip install graftsim[torch]")])
    from graftsim.bench import torch_memory, torch_side

    rates, layout = Rates.of(values), Layout.of(workload.shapes(values["size"], values["tensors"]))
    torch_side.threads(threads)
    runs: dict[str, tuple[str, Callable[[], object], list[Any]]] = {}
    for partition in PARTITIONS:
        weights = torch_side.tensors(layout, gradient)
        runs[f"graftsim_torch, {partition}"] = (partition, _graft(rates, weights, partition).step, weights)
    for variant, flags in NATIVE.items():
        weights = torch_side.tensors(layout, gradient)
        runs[f"Adam then SGD ({variant})"] = ("none", torch_side.Pair(rates, weights, flags).both, weights)
    weights = torch_side.tensors(layout, gradient)
    runs["graft of black boxes"] = ("tensor", torch_side.Pair(rates, weights, {}).graft, weights)
    weights = torch_side.tensors(layout, gradient)
    runs["graft written out, tensor by tensor"] = ("tensor", torch_side.WrittenOut(rates, weights), weights)
    contestants = [Contestant(name, work, 1) for name, (_, work, _) in runs.items()] + [copy]
    field = Field(contestants, lambda: _check(runs, rates, layout, gradient))
    for partition in PARTITIONS:
        weights = torch_side.tensors(layout, gradient)
        step = _graft(rates, weights, partition).step
        step()
        taken = torch_memory.peak(step) / gradient.nbytes
        field.remarks.append(f"graftsim_torch, {partition}: a step takes {taken:.3f} arrays of all weights at its peak")
    field.remarks += WORDS
    return field


WORDS = [
    "words of main memory for a coordinate, SGD without momentum, caches that hold a few tensors: Adam then SGD 10 "
    "(g, m, v, w read and m, v, w written; g, w read and w written); graft, tensor 7 (w is read and written once); "
    "graft, global 8 (g is read again)",
]


def _graft(rates: Rates, weights: list[Any], partition: str) -> Any:
    import torch

    from graftsim_torch import Graft

    direction = partial(torch.optim.SGD, lr=rates.momentum, momentum=rates.mass)
    return Graft(weights, partial(torch.optim.Adam, lr=rates.adam), direction, partition=partition)


def _check(runs: Any, rates: Rates, layout: Layout, gradient: Array) -> dict[str, float]:
    """Three steps on gradients that differ; the first and the last tensor are compared with the equations."""
    offsets = layout.offsets
    places = sorted({(offsets[k], offsets[k + 1]) for k in (0, len(layout.tensors) - 1)})
    expected = {("global", 0, layout.size): Equations(rates, np.zeros(layout.size))}
    for kind in ("tensor", "none"):
        expected |= {(kind, a, b): Equations(rates, np.zeros(b - a)) for a, b in places}
    kept = gradient.copy()
    for factor in workload.FACTORS:
        np.multiply(kept, factor, out=gradient, casting="same_kind")
        for _, work, _ in runs.values():
            work()
        for (kind, a, b), equations in expected.items():
            equations.both(gradient[a:b]) if kind == "none" else equations.graft(gradient[a:b])
    gradient[:] = kept
    in_floats = BOUND + 2.0**-24 * max(layout.sizes) / LANES
    found = {}
    for name, (kind, _, weights) in runs.items():
        bound = in_floats if "black" in name or "written" in name else BOUND
        got = np.concatenate([weight.detach().numpy() for weight in weights])
        mine = {(a, b): each.weights for (which, a, b), each in expected.items() if which == kind}
        found[name] = max(difference(name, got[a:b], want, bound) for (a, b), want in mine.items())
    return found
