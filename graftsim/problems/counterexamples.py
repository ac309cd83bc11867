"""Two quadratics on which grafting two good methods is bad: section 3 of the 2021 paper, with numbers of our own.

Both are ``F(w) = (w_1^2 + 100 w_2^2) / 2``. In each, magnitude and direction alone converge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graftsim import sums
from graftsim.layouts import Array, Layout
from graftsim.problems.problem import Kernel, Numbers

_LAYOUT = Layout.of({"w": (2,)})
HESSIAN = (1.0, 100.0)


def _loss(weights: Array) -> float:
    first, second = (float(weight) for weight in weights)
    return 0.5 * (HESSIAN[0] * first * first + HESSIAN[1] * second * second)


_KERNEL = Kernel("diagonal", np.array(HESSIAN))


def _gradient(weights: Array) -> Array:
    return (np.array(HESSIAN) * weights.astype(np.float64)).astype(weights.dtype)


@dataclass(frozen=True)
class NotDescent:
    """From w = (1, 1e-3) one step of the graft takes F from 0.50005 to 141.2, although neither child can increase F.

    The magnitude's step is long because it goes along w_1, the direction's is nearly along the steep w_2.
    """

    layout: ClassVar[Layout] = _LAYOUT
    kernel: ClassVar[Kernel] = _KERNEL
    magnitude: ClassVar[str] = "sgd(lr=[1.9, 1e-4])"
    direction: ClassVar[str] = "sgd(lr=[1e-3, 0.019])"

    def __str__(self) -> str:
        return "not_descent()"

    def start(self, seed: int, dtype: Any) -> Array:
        return np.array([1.0, 1e-3], dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        return _gradient(weights)

    def loss(self, weights: Array) -> float:
        return _loss(weights)

    def measures(self, weights: Array) -> Numbers:
        return {"loss": _loss(weights)}

    def predictions(self) -> dict[str, Numbers]:
        """``one step``: F(w + (|m| / |d|) d) with m = -(1.9, 1e-5) and d = -(1e-3, 1.9e-3)."""
        ratio = math.hypot(1.9, 1e-5) / math.hypot(1e-3, 1.9e-3)
        return {"one step": {"loss": 0.5 * ((1 - 1e-3 * ratio) ** 2 + 100 * (1e-3 - 1.9e-3 * ratio) ** 2)}}


@dataclass(frozen=True)
class Divergent:
    """The graft multiplies w by -8.0550 at each step, from w parallel to H v, v = (sqrt 0.99, 0.1).

    The magnitude has the dense preconditioner P = 0.9 v v' + 1e-3 I and the direction H^-1 / 2 (half the inverse; not
    the root of the inverse). With spectral radii 0.9511 and 0.5 both converge. As the direction's step is -w / 2, the
    graft moves along w: it multiplies by 1 - |P H w| / |w|, here with H w = H^2 v.
    """

    layout: ClassVar[Layout] = _LAYOUT
    kernel: ClassVar[Kernel] = _KERNEL
    magnitude: ClassVar[str] = f"rank_one(v=[{math.sqrt(0.99)!r}, 0.1], along=0.9, identity=1e-3)"
    direction: ClassVar[str] = "sgd(lr=[0.5, 0.005])"

    def __str__(self) -> str:
        return "divergent()"

    def start(self, seed: int, dtype: Any) -> Array:
        u = np.array([math.sqrt(0.99), 10.0])
        return (u / sums.norm(u)).astype(dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        return _gradient(weights)

    def loss(self, weights: Array) -> float:
        return _loss(weights)

    def measures(self, weights: Array) -> Numbers:
        return {"loss": _loss(weights), "distance": sums.norm(weights)}

    @property
    def multiplier(self) -> float:
        """What a step multiplies w by: 1 - |P H w| at |w| = 1."""
        v = (math.sqrt(0.99), 0.1)
        hw = [h * w for h, w in zip(HESSIAN, self.start(0, np.float64).tolist(), strict=True)]
        along = 0.9 * (v[0] * hw[0] + v[1] * hw[1])
        return 1 - math.hypot(along * v[0] + 1e-3 * hw[0], along * v[1] + 1e-3 * hw[1])

    def predictions(self) -> dict[str, Numbers]:
        first = _loss(self.start(0, np.float64))
        return {"one step": {"loss": self.multiplier**2 * first, "distance": abs(self.multiplier)}}


def not_descent() -> NotDescent:
    """The problem has no arguments."""
    return NotDescent()


def divergent() -> Divergent:
    """The problem has no arguments."""
    return Divergent()
