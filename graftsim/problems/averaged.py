"""Another problem with larger batches, cut into parts that many ranks can share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim.problems import arguments
from graftsim.problems.problem import Numbers, Problem
from graftsim.ranks import averaging

BATCHES = 1 << 20


@dataclass(frozen=True)
class Averaged:
    """The gradient of a step is the mean of the problem's gradients at the same weights for its next ``batches``
    mini-batches: step t has those of its steps (t - 1) batches + 1 to t batches.

    The mean is exact and rounded once, so that no bit depends on who computed which part.
    """

    of: Problem
    batches: int

    def __str__(self) -> str:
        return f"averaged(of={str(self.of)!r}, batches={self.batches})"

    @property
    def layout(self) -> Layout:
        return self.of.layout

    def start(self, seed: int, dtype: Any) -> Array:
        return self.of.start(seed, dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        return averaging.mean(None, self.parts(weights, step, seed, range(self.batches)))

    def parts(self, weights: Array, step: int, seed: int, numbers: range) -> Array:
        """The gradients of some of the mini-batches of a step, which count from 0; shape (len(numbers), coordinates).

        Raises:
            GraftsimError: the problem leaves out the gradient of a tensor.
        """
        found = np.empty((len(numbers), weights.size), weights.dtype)
        for row, number in zip(found, numbers, strict=True):
            gradient = self.of.gradients(weights, (step - 1) * self.batches + number + 1, seed)
            if not isinstance(gradient, np.ndarray):
                raise GraftsimError(f"averaged needs the gradient of every tensor at every step; {self.of} has not")
            row[:] = gradient
        return found

    def loss(self, weights: Array) -> float:
        return self.of.loss(weights)

    def measures(self, weights: Array) -> Numbers:
        return self.of.measures(weights)

    def predictions(self) -> dict[str, Numbers]:
        """None: those of the problem are for its own batches."""
        return {}


def averaged(of: Any = "least_squares(batch=5)", batches: Any = 4) -> Averaged:
    """Batches of ``batches`` times the problem's; over ranks each computes the gradients of its share of them."""
    from graftsim.problems.catalog import parse  # which names this problem

    if not isinstance(of, str):
        raise GraftsimError(f"averaged, of: must be a problem as text, such as 'digits(batch=16)'; received {of!r:.60}")
    found = parse(of)
    if isinstance(found, Averaged):
        raise GraftsimError(f"averaged, of: must be a problem that is not averaged itself; received {of:.60}")
    return Averaged(found, arguments.integer("averaged, batches", batches, 1, BATCHES))
