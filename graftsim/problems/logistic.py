"""Logistic regression on a real data set, scikit-learn's copy of the Wisconsin breast cancer data."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim.problems import arguments
from graftsim.problems.problem import Numbers, expression
from graftsim.problems.randomness import batch

Floats = NDArray[np.float64]
FEATURES = 30
HELD_OUT = 5
"""Every fifth of the 569 examples is kept for the test error, 113 in all."""
TRAINING = 456


@dataclass(frozen=True)
class Logistic:
    """The mean of ``log(1 + exp(-y (x'w + bias)))`` plus ``l2 |w|^2 / 2``, labels y in {-1, 1}.

    Features are standardised with the mean and deviation of the training examples. The start is zero.
    """

    l2: float
    batch: int

    layout: ClassVar[Layout] = Layout.of({"weight": (FEATURES,), "bias": ()})

    def __str__(self) -> str:
        return expression("logistic", self)

    def start(self, seed: int, dtype: Any) -> Array:
        return np.zeros(self.layout.size, dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        rows = batch(TRAINING, self.batch, step, seed)
        x, y = (values[rows] for values in breast_cancer()[:2])
        w = weights.astype(np.float64)
        slope = -y * _probability(-y * _scores(x, w))  # of the loss by the score
        found = np.append(x.T @ slope / len(y) + self.l2 * w[:-1], slope.mean())
        return found.astype(weights.dtype)

    def loss(self, weights: Array) -> float:
        x, y, _, _ = breast_cancer()
        w = weights.astype(np.float64)
        penalty = 0.5 * self.l2 * float((w[:-1] * w[:-1]).sum())
        return float(np.logaddexp(0.0, -y * _scores(x, w)).mean()) + penalty

    def measures(self, weights: Array) -> Numbers:
        """The loss, and the share of misread examples; a score of 0 is misread."""
        x, y, x_new, y_new = breast_cancer()
        w = weights.astype(np.float64)
        return {
            "loss": self.loss(weights),
            "training error": float((y * _scores(x, w) <= 0).mean()),
            "test error": float((y_new * _scores(x_new, w) <= 0).mean()),
        }

    def predictions(self) -> dict[str, Numbers]:
        return {}


def _scores(x: Floats, w: Floats) -> Floats:
    return np.asarray(x @ w[:-1] + w[-1])


def _probability(score: Floats) -> Floats:
    """1 / (1 + exp(-score)), which cannot overflow in this form."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * score)))


@functools.cache
def breast_cancer() -> tuple[Floats, Floats, Floats, Floats]:
    """Training features (455, 30) and labels (455,), then those that are held out."""
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError:
        raise GraftsimError(
            "logistic needs scikit-learn, which is not installed; run: pip install 'graftsim[data]'"
        ) from None
    x, y = load_breast_cancer(return_X_y=True)
    held_out = np.arange(len(y)) % HELD_OUT == HELD_OUT - 1
    known = x[~held_out]
    x = (x - known.mean(axis=0)) / known.std(axis=0)
    labels = np.where(y > 0, 1.0, -1.0)
    return x[~held_out], labels[~held_out], x[held_out], labels[held_out]


def logistic(l2: Any = 1e-4, batch: Any = None) -> Logistic:
    """Full batch by default."""
    size = TRAINING if batch is None else arguments.integer("logistic, batch", batch, 1, TRAINING)
    return Logistic(arguments.real("logistic, l2", l2, 0), size)
