"""AdaGrad with the pseudo-inverse against linear losses (2020 paper, appendix D.2): regret, curvature, bounds.

With G_t = G_{t-1} + g_t^2, h = sqrt(G_T) by coordinate, D_i = max_t |w_{t,i} - w*_i| and learning rate eta,

    sum_t g_t' H_t^+ g_t <= 2 sum_i h_i                                   (the lemma)
    Regret = sum_t g_t'(w_t - w*) <= sum_i (D_i^2 / (2 eta) + eta) h_i    (the theorem, with its constants)
"""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graftsim.compiler import build
from graftsim.engine import Engine
from graftsim.machines import Library

Floats = NDArray[np.float64]


ADAGRAD = "adagrad(lr={lr}, eps=0)"
AS_PRINTED = "adagrad_printed(lr={lr})"


@cache
def printed() -> Library:
    """The machines of the spec, and those that the papers print and do not mean."""
    folder = Path(str(importlib.resources.files("graftsim.experiments.papers") / "printed"))
    return Library(sorted(folder.glob("*.yaml")))


@dataclass(frozen=True)
class Play:
    """What a machine did against a stream of linear losses g_t'w, from w = 0."""

    lr: float
    regret: float
    curvature: float
    """sum_t g_t' H_t^+ g_t = -sum_t g_t' delta_t / lr."""
    roots: Floats
    """h, shape (d,)."""
    distances: Floats
    """D, shape (d,)."""

    @property
    def lemma(self) -> float:
        """The bound of the curvature."""
        return 2 * float(self.roots.sum())

    @property
    def bound(self) -> float:
        """The bound of the regret, with its two terms."""
        return float(((self.distances**2 / (2 * self.lr) + self.lr) * self.roots).sum())

    @property
    def printed_bound(self) -> float:
        """What the paper's O(...) is of: the largest distance times the sum of roots."""
        return float(self.distances.max() * self.roots.sum())


def play(machine: str, gradients: Floats, best: Floats, lr: float) -> Play:
    """A machine, with a place for ``{lr}``, against gradients of shape (T, d); ``best`` is the fixed w*, shape (d,)."""
    size = gradients.shape[1]
    engine = Engine(build(machine.format(lr=repr(lr)), {"w": (size,)}, machines=printed()))
    weights, state, regret, curvature, distances = np.zeros(size), engine.initial_state(), 0.0, 0.0, np.zeros(size)
    for step, gradient in enumerate(gradients, 1):
        distances = np.maximum(distances, np.abs(weights - best))
        out = engine.step(weights, gradient, state, step)
        regret += float(gradient @ (weights - best))
        curvature -= float(gradient @ out.delta) / lr
        weights, state = out.weights, out.state
    return Play(lr, regret, curvature, np.sqrt(state["a"]), distances)


STREAMS = ("gaussian", "sparse", "heavy tails", "one hot", "constant", "geometric")


def stream(kind: str, steps: int, size: int, seed: int) -> Floats:
    """Gradients of shape (steps, size)."""
    rng = np.random.default_rng(seed)
    match kind:
        case "gaussian":
            return rng.standard_normal((steps, size))
        case "sparse":
            return rng.standard_normal((steps, size)) * (rng.random((steps, size)) < 0.05)
        case "heavy tails":
            return rng.standard_cauchy((steps, size))
        case "one hot":
            return np.asarray(np.eye(size)[rng.integers(0, size, steps)] * rng.choice([-1.0, 1.0], (steps, 1)))
        case "constant":
            return np.ones((steps, size))
        case _:
            return np.asarray(1.5 ** np.arange(steps)[:, None] * rng.choice([-1.0, 1.0], (steps, size)))
