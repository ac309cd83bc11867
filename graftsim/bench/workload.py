"""Adam#SGD(momentum) as all contestants run it: tensors, gradients, and its equations in float64 NumPy.

The equations stand here a second time, in the plainest form, so that a fault in the simulator would show as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.layouts import Array

BETA1, BETA2, EPS, MOMENTUM = 0.9, 0.999, 1e-8, 0.9
"""The defaults of the machines, of torch and of optax alike."""

FACTORS = (1.0, -0.5, 3.0)
"""What the gradient is multiplied by at the steps of a check: constant gradients would hide the betas."""


@dataclass(frozen=True)
class Rates:
    """The two learning rates; all else has the value above."""

    adam: float
    momentum: float
    magnitude: str = "adam"
    """``adam``, or ``lamb`` with the same rate."""
    mass: float = MOMENTUM
    """The momentum of SGD; 0 is SGD without it."""

    @staticmethod
    def of(values: Mapping[str, Any]) -> Rates:
        return Rates(
            values["adam_lr"], values["momentum_lr"], values.get("magnitude", "adam"), values.get("momentum", MOMENTUM)
        )

    @property
    def machine(self) -> str:
        return f"{self.magnitude}(lr={self.adam!r}, eps={EPS!r})#momentum(lr={self.momentum!r})"


def shapes(size: int, tensors: int) -> dict[str, tuple[int]]:
    """``tensors`` vectors of nearly equal length with ``size`` coordinates in all."""
    cuts = [size * k // tensors for k in range(tensors + 1)]
    return {f"tensor{k}": (cuts[k + 1] - cuts[k],) for k in range(tensors)}


def gradient(size: int, dtype: str) -> Array:
    """Normal numbers, none of which squares to a subnormal one."""
    drawn = np.random.default_rng(0).standard_normal(size, np.float32).astype(dtype, copy=False)
    return np.where(np.abs(drawn) < 1e-6, np.array(1e-6, dtype), drawn)


@dataclass
class Equations:
    """Both optimizers on one tensor, in float64; ``weights`` begin at 0, so that they are the sum of the steps."""

    rates: Rates
    weights: NDArray[np.float64]
    m: Any = 0.0
    v: Any = 0.0
    b: Any = 0.0
    t: int = 0
    record: list[tuple[float, float, float]] = field(default_factory=list)
    """Both norms and the ratio at each step."""

    def steps(self, g: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The steps of Adam and of momentum."""
        self.t += 1
        g = g.astype(np.float64)
        self.m = BETA1 * self.m + (1 - BETA1) * g
        self.v = BETA2 * self.v + (1 - BETA2) * g * g
        self.b = self.rates.mass * self.b + g
        root = np.sqrt(self.v / (1 - BETA2**self.t)) + EPS
        u = (self.m / (1 - BETA1**self.t)) / root
        return -self.rates.adam * self.trust(u) * u, -self.rates.momentum * self.b

    def trust(self, u: NDArray[np.float64]) -> float:
        """LAMB's ratio of norms; 1 where either is 0, and for Adam."""
        n_w, n_u = float(np.linalg.norm(self.weights)), float(np.linalg.norm(u))
        return n_w / n_u if self.rates.magnitude == "lamb" and n_w and n_u else 1.0

    def graft(self, g: NDArray[Any]) -> None:
        """One step of Adam#SGD(momentum)."""
        adam, momentum = self.steps(g)
        n_m, n_d = float(np.linalg.norm(adam)), float(np.linalg.norm(momentum))
        ratio = n_m / n_d if n_d else 0.0
        self.weights = self.weights + ratio * momentum
        self.record.append((n_m, n_d, ratio))

    def both(self, g: NDArray[Any]) -> None:
        """Adam's step, then momentum's, on the same weights: no graft."""
        adam, momentum = self.steps(g)
        self.weights = self.weights + adam + momentum
