"""Quadratics, ``F(w) = w' H w / 2``: diagonal, or with the same eigenvalues in another orthonormal basis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import sums
from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim.problems import arguments
from graftsim.problems.problem import Kernel, Numbers, expression
from graftsim.problems.randomness import DATA, generator


@dataclass(frozen=True)
class Quadratic:
    """``F(w) = (Q w)' diag(eigenvalues) (Q w) / 2``, least at w = 0.

    Q is the identity, or with ``rotation`` (a seed) the Householder reflection ``I - 2 v v' / v'v`` of a Gaussian v,
    which makes the Hessian dense and costs no matrix. The start is ``begin``, by default all ones.
    """

    eigenvalues: tuple[float, ...]
    begin: tuple[float, ...]
    rotation: int | None = None

    def __str__(self) -> str:
        return expression("quadratic", self)

    @cached_property
    def layout(self) -> Layout:
        return Layout.of({"w": (len(self.eigenvalues),)})

    @cached_property
    def spectrum(self) -> NDArray[np.float64]:
        """The eigenvalues as an array."""
        return np.array(self.eigenvalues)

    @cached_property
    def _normal(self) -> NDArray[np.float64] | None:
        """The unit normal of the reflection's plane."""
        if self.rotation is None:
            return None
        v = generator(self.rotation, DATA).standard_normal(len(self.eigenvalues))
        return np.asarray(v / np.sqrt((v * v).sum()))

    def turned(self, w: Array) -> NDArray[np.float64]:
        """Q w, which is also Q' w."""
        wide = w.astype(np.float64)
        if self._normal is None:
            return wide
        return np.asarray(wide - (2 * (self._normal * wide).sum()) * self._normal)

    def start(self, seed: int, dtype: Any) -> Array:
        return np.array(self.begin, dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        return self.turned(self.spectrum * self.turned(weights)).astype(weights.dtype)

    def loss(self, weights: Array) -> float:
        turned = self.turned(weights)
        return float(0.5 * np.cumsum(self.spectrum * turned * turned)[-1])  # from the first to the last

    @cached_property
    def kernel(self) -> Kernel | None:
        """In its eigenbasis the quadratic can be compiled."""
        return None if self.rotation is not None else Kernel("diagonal", self.spectrum)

    def measures(self, weights: Array) -> Numbers:
        return {"loss": self.loss(weights), "distance": sums.norm(weights)}

    def predictions(self) -> dict[str, Numbers]:
        """Where every method that converges ends, if no eigenvalue is zero."""
        return {"minimum": {"loss": 0.0, "distance": 0.0}} if min(self.eigenvalues) > 0 else {}


def quadratic(
    eigenvalues: Any = None, dimension: Any = None, condition: Any = 100.0, begin: Any = None, rotation: Any = None
) -> Quadratic:
    """From a list of eigenvalues (not negative), or from a dimension: a geometric row from 1 to ``condition``."""
    if (eigenvalues is None) == (dimension is None):
        raise GraftsimError("quadratic: needs either eigenvalues=[...] or dimension=n, condition=c")
    if eigenvalues is None:
        n = arguments.integer("quadratic, dimension", dimension, 1, arguments.COORDINATES)
        c = arguments.real("quadratic, condition", condition, 1)
        eigenvalues = np.geomspace(1.0, c, n).tolist()
    values = arguments.reals("quadratic, eigenvalues", eigenvalues, low=0)
    ones = (1.0,) * len(values)
    first = ones if begin is None else arguments.reals("quadratic, begin", begin, len(values))
    turn = None if rotation is None else arguments.integer("quadratic, rotation", rotation, 0, arguments.SEEDS)
    return Quadratic(values, first, turn)
