"""The streams of gradients of the edges: short, over one layout, ordinary but for what is put into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from graftsim.layouts import Layout
from graftsim_conformance.probes import dyadic, rows

LAYOUT = Layout.of({"c": (2, 1, 2), "k": (1, 2, 1, 1), "one": (1,), "none": (0, 3), "s": (), "b": (3,)})
Stream = list[NDArray[np.float64] | list[NDArray[np.float64] | None]]


def start(zero: Sequence[str]) -> NDArray[np.float64]:
    """Start weights of size one, or zero in some tensors."""
    weights = np.array(list(islice(dyadic(17, -2, 0), LAYOUT.size)))
    for name, _, place in LAYOUT.slices():
        if name in zero:
            weights[place] = 0.0
    return weights


def ordinary(seed: int = 11, steps: int = 3, exponent: int = 0, spread: int = 2) -> Stream:
    """Gradients of one to a few binades."""
    return [*rows(dyadic(seed, exponent - spread, exponent), steps, LAYOUT.size)]


def put(
    stream: Stream,
    value: float,
    tensors: Sequence[str] = LAYOUT.names,
    steps: Sequence[int] = (0, 1, 2),
    first: bool = False,
) -> Stream:
    """The stream with a value in some tensors at some steps; only in their first coordinate where ``first``."""
    for step in steps:
        row = stream[step]
        for name, _, place in LAYOUT.slices():
            if name in tensors:
                np.asarray(row)[place.start : place.start + 1 if first else place.stop] = value
    return stream


def without(stream: Stream, missing: Mapping[int, Sequence[str]]) -> Stream:
    """The stream in which at some steps some tensors have no gradient."""
    found: Stream = []
    for step, row in enumerate(stream):
        parts = zip(LAYOUT.names, LAYOUT.unflatten(np.asarray(row)), strict=True)
        names = missing.get(step, ())
        found.append([None if name in names else part for name, part in parts] if names else row)
    return found


def then_zero() -> Stream:
    """One ordinary gradient, then none of any size."""
    return put(ordinary(steps=4), 0.0, steps=(1, 2, 3))
