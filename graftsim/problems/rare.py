"""Rare coordinates with hinge loss, on which AdaGrad learns each coordinate at its first visit and SGD does not.

Source: appendix D.1 of the 2020 paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim.problems import arguments
from graftsim.problems.problem import Numbers, expression
from graftsim.problems.randomness import DATA, Index, batch, generator, shuffled


@dataclass(frozen=True)
class Rare:
    """Examples are unit vectors e_i, i uniform on d ``coordinates``, all with label 1 and loss [1 - w_i]_+.

    The training sample has ``share * coordinates`` of them, drawn with the seed ``draw``, with or without
    replacement. A step sees one; each pass over the sample has an order of its own, from the run's seed. The
    subgradient at a margin of exactly 1 is 0. The start is zero. The loss is that of a new example, the mean of
    [1 - w_i]_+ over all coordinates.
    """

    coordinates: int
    share: float
    replacement: bool = False
    draw: int = 0

    def __str__(self) -> str:
        return expression("rare", self)

    @cached_property
    def layout(self) -> Layout:
        return Layout.of({"w": (self.coordinates,)})

    @property
    def samples(self) -> int:
        """The number of training examples, which is the number of steps of one pass."""
        return round(self.share * self.coordinates)

    @cached_property
    def sample(self) -> Index:
        """The coordinate of each training example, shape (samples,)."""
        if self.replacement:
            return np.floor(generator(self.draw, DATA).random(self.samples) * self.coordinates).astype(np.int64)
        return shuffled(self.coordinates, self.draw, DATA)[: self.samples]

    @property
    def unseen(self) -> float:
        """The share of coordinates that are not in the sample."""
        return 1 - len(np.unique(self.sample)) / self.coordinates

    def visited(self, step: int, seed: int) -> int:
        """The coordinate that a step sees."""
        if self.samples == 1:
            return int(self.sample[0])
        return int(self.sample[batch(self.samples, 1, step, seed)][0])

    def start(self, seed: int, dtype: Any) -> Array:
        return np.zeros(self.coordinates, dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        found = np.zeros_like(weights)
        place = self.visited(step, seed)
        found[place] = -1 if weights[place] < 1 else 0
        return found

    def loss(self, weights: Array) -> float:
        return float(np.maximum(0.0, 1.0 - weights.astype(np.float64)).mean())

    def measures(self, weights: Array) -> Numbers:
        """The mean hinge and the share of misread coordinates, a score of exactly 0 among them."""
        return {"test hinge": self.loss(weights), "test error": float((weights <= 0).mean())}

    def predictions(self) -> dict[str, Numbers]:
        """After one pass: ``first visit`` for AdaGrad with lr = 1 and eps = 0, which is done with a coordinate when it
        has seen it: the share of unseen coordinates, 1 - c without replacement; ``first visit, expected`` over draws,
        (1 - 1/d)^(cd) with replacement; ``decaying rate`` for SGD with lr = 1 / sqrt(step), without replacement: the
        mean hinge is 1 - (sum over t of 1 / sqrt t) / d.
        """
        d, n = self.coordinates, self.samples
        seen = {"test hinge": self.unseen, "test error": self.unseen}
        if self.replacement:
            return {"first visit": seen, "first visit, expected": dict.fromkeys(seen, (1 - 1 / d) ** n)}
        hinge = 1 - math.fsum(1 / math.sqrt(t) for t in range(1, n + 1)) / d
        return {
            "first visit": seen,
            "first visit, expected": dict.fromkeys(seen, 1 - n / d),
            "decaying rate": {"test hinge": hinge, "test error": self.unseen},
        }


def rare(coordinates: Any = 1600, share: Any = 0.5, replacement: Any = False, draw: Any = 0) -> Rare:
    """``share * coordinates`` must be a whole number of examples, at most ``coordinates``."""
    d = arguments.integer("rare, coordinates", coordinates, 1, arguments.COORDINATES)
    c = arguments.real("rare, share", share, 0, 1)
    if round(c * d) < 1 or abs(c * d - round(c * d)) > 1e-9 * d:
        raise GraftsimError(
            f"rare, share: share * coordinates must be a whole number from 1 to {d}; received {c:g} * {d} = {c * d:g}"
        )
    again = arguments.flag("rare, replacement", replacement)
    return Rare(d, c, again, arguments.integer("rare, draw", draw, 0, arguments.SEEDS))
