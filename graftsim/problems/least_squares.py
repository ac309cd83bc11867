"""Least squares with a Gaussian design and Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import sums
from graftsim.layouts import Array, Layout
from graftsim.problems import arguments
from graftsim.problems.problem import Numbers, expression
from graftsim.problems.randomness import DATA, batch, generator

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LeastSquares:
    """``|X w - y|^2 / (2 n)`` with X of shape (n, d) standard normal and y = X w* + ``noise`` times standard normal,
    w* standard normal, all drawn with the seed ``draw``. A step sees the mean over a mini-batch. The start is zero.
    """

    samples: int
    dimension: int
    noise: float
    batch: int
    draw: int = 0

    def __str__(self) -> str:
        return expression("least_squares", self)

    @cached_property
    def layout(self) -> Layout:
        return Layout.of({"w": (self.dimension,)})

    @cached_property
    def data(self) -> tuple[Floats, Floats]:
        """X of shape (n, d) and y of shape (n,)."""
        source = generator(self.draw, DATA)
        x, truth = source.standard_normal((self.samples, self.dimension)), source.standard_normal(self.dimension)
        return x, x @ truth + self.noise * source.standard_normal(self.samples)

    @cached_property
    def solution(self) -> Floats:
        """The minimum of least norm, shape (d,)."""
        return np.asarray(np.linalg.lstsq(*self.data, rcond=None)[0], np.float64)

    def start(self, seed: int, dtype: Any) -> Array:
        return np.zeros(self.dimension, dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        rows = batch(self.samples, self.batch, step, seed)
        x, y = self.data[0][rows], self.data[1][rows]
        found = x.T @ (x @ weights.astype(np.float64) - y) / len(y)
        return np.asarray(found.astype(weights.dtype))

    def loss(self, weights: Array) -> float:
        residuals = self.data[0] @ weights.astype(np.float64) - self.data[1]
        return float((residuals * residuals).sum() / (2 * self.samples))

    def measures(self, weights: Array) -> Numbers:
        return {"loss": self.loss(weights), "distance": sums.norm(weights.astype(np.float64) - self.solution)}

    def predictions(self) -> dict[str, Numbers]:
        """``minimum``: where every method in the row span of X ends, if it converges."""
        return {"minimum": {"loss": self.loss(self.solution), "distance": 0.0}}


def least_squares(
    samples: Any = 50, dimension: Any = 10, noise: Any = 0.1, batch: Any = None, draw: Any = 0
) -> LeastSquares:
    """At most ten million numbers in the design."""
    n = arguments.integer("least_squares, samples", samples, 1, arguments.COORDINATES)
    d = arguments.integer("least_squares, dimension", dimension, 1, arguments.COORDINATES // n)
    sigma = arguments.real("least_squares, noise", noise, 0)
    size = n if batch is None else arguments.integer("least_squares, batch", batch, 1, n)
    return LeastSquares(n, d, sigma, size, arguments.integer("least_squares, draw", draw, 0, arguments.SEEDS))
