"""Wilson's construction, on which AdaGrad misreads every new negative example and gradient descent none.

Source: Wilson, Roelofs, Stern, Srebro & Recht 2017, section 3.3; appendix D.1 of the 2020 paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim.problems import arguments
from graftsim.problems.problem import Numbers, expression
from graftsim.problems.randomness import DATA, batch, generator

Floats = NDArray[np.float64]
SAMPLES = 1_000_000


@dataclass(frozen=True)
class Wilson:
    """Least squares ``|X w - y|^2 / 2`` over ``positives`` samples with y = 1, then ``negatives`` with y = -1.

    Sample i has the shared features (y_i, 1, 1) and five of its own, of which the first (y_i = 1) or all
    (y_i = -1) are 1, or y_i in the ``reflected`` copy. A new example's own features are unseen: only the three shared
    weights read it, so score(+1) = w_0 + w_1 + w_2 and score(-1) = -w_0 + w_1 + w_2. The start is zero.

    With fewer samples than ``batch`` asks for, a step sees all; the gradient is the sum over the batch, not the mean.
    The closed forms are those of the full batch.
    """

    positives: int
    negatives: int
    batch: int
    reflected: bool = False

    def __str__(self) -> str:
        return expression("wilson", self)

    @property
    def samples(self) -> int:
        """The number of training samples, n."""
        return self.positives + self.negatives

    @cached_property
    def layout(self) -> Layout:
        return Layout.of({"shared": (3,), "own": (self.samples, 5)})

    @cached_property
    def labels(self) -> Floats:
        """y, shape (n,)."""
        return np.concatenate([np.ones(self.positives), -np.ones(self.negatives)])

    @cached_property
    def own(self) -> Floats:
        """The values of each sample's own five features, shape (n, 5)."""
        values = np.where(self.labels[:, None] > 0, np.eye(1, 5), np.ones((1, 5)))
        return np.asarray(values * self.labels[:, None] if self.reflected else values)

    def design(self) -> Floats:
        """The whole matrix X, shape (n, 3 + 5 n); runs do without it."""
        shared = np.stack([self.labels, np.ones(self.samples), np.ones(self.samples)], axis=1)
        blocks = np.zeros((self.samples, self.samples, 5))
        blocks[np.arange(self.samples), np.arange(self.samples)] = self.own
        return np.concatenate([shared, blocks.reshape(self.samples, -1)], axis=1)

    def residuals(self, weights: Array, rows: Any = slice(None)) -> Floats:
        """(X w - y) of some rows."""
        w, y = weights.astype(np.float64), self.labels[rows]
        own = self.own[rows] * w[3:].reshape(-1, 5)[rows]
        blocks = own[:, 0] + own[:, 1] + own[:, 2] + own[:, 3] + own[:, 4]
        return np.asarray(y * w[0] + w[1] + w[2] + blocks - y)

    def start(self, seed: int, dtype: Any) -> Array:
        return np.zeros(self.layout.size, dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        rows = batch(self.samples, self.batch, step, seed)
        residuals = self.residuals(weights, rows)
        found = np.zeros(self.layout.size)
        found[0] = math.fsum((self.labels[rows] * residuals).tolist())
        found[1:3] = math.fsum(residuals.tolist())
        found[3:].reshape(-1, 5)[rows] = self.own[rows] * residuals[:, None]
        return found.astype(weights.dtype)

    def loss(self, weights: Array) -> float:
        residuals = self.residuals(weights)
        return 0.5 * math.fsum((residuals * residuals).tolist())

    def measures(self, weights: Array) -> Numbers:
        """Both scores, and the share of new examples that are misread if the classes come as often as in training."""
        first, second, third = weights[:3].astype(np.float64).tolist()
        return self._with_error(first + second + third, -first + second + third)

    def _with_error(self, positive: float, negative: float) -> Numbers:
        wrong = self.positives * (positive <= 0) + self.negatives * (negative >= 0)
        return {"score(+1)": positive, "score(-1)": negative, "test error": wrong / self.samples}

    def predictions(self) -> dict[str, Numbers]:
        """``row span``: the interpolant of least norm, where gradient descent ends, and every method whose direction
        is the gradient. It is X' c with c = A on positives and B on negatives,

            (3a + 1) A + b B = 1,  a A + (3b + 5) B = -1,  Delta = 8ab + 15a + 3b + 5,
            A = (4b + 5) / Delta,  B = -(4a + 1) / Delta,  score(+1) = 1 - A,  score(-1) = -1 - 5B.

        ``sign ray``, where the positives outnumber the negatives: AdaGrad with eps = 0, and every method whose
        direction is AdaGrad's, stays on the multiples of sign(X'y) and ends at a quarter of it.
        """
        a, b = self.positives, self.negatives
        delta = 8 * a * b + 15 * a + 3 * b + 5
        found = {"row span": self._with_error(1 - (4 * b + 5) / delta, -1 + 5 * (4 * a + 1) / delta)}
        if a > b:
            found["sign ray"] = self._with_error(0.75, 0.25)
        return found


def wilson(
    positives: Any = None, negatives: Any = None, samples: Any = None, p: Any = None, draw: Any = 0,
    batch: Any = None, reflected: Any = False,
) -> Wilson:  # fmt: skip
    """From class counts, or from ``samples`` labels drawn (seed ``draw``) with probability ``p`` of y = 1."""
    counts, drawn = (positives, negatives) != (None, None), (samples, p) != (None, None)
    if counts == drawn:
        raise GraftsimError("wilson: needs either positives=a, negatives=b or samples=n, p=probability of a positive")
    if drawn:
        n = arguments.integer("wilson, samples", samples, 1, SAMPLES)
        chance = arguments.real("wilson, p", p, 0, 1)
        seed = arguments.integer("wilson, draw", draw, 0, arguments.SEEDS)
        positives = int((generator(seed, DATA).random(n) < chance).sum())
        negatives = n - positives
    a = arguments.integer("wilson, positives", positives, 0, SAMPLES)
    b = arguments.integer("wilson, negatives", 0 if negatives is None else negatives, 0, SAMPLES)
    if a + b == 0:
        raise GraftsimError("wilson: there must be at least one sample; received positives=0, negatives=0")
    size = a + b if batch is None else arguments.integer("wilson, batch", batch, 1, a + b)
    return Wilson(a, b, size, arguments.flag("wilson, reflected", reflected))
