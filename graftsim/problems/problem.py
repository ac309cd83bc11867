"""What a problem is: weights with names, a gradient at each step, a loss, and closed forms of the outcome."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graftsim.layouts import Array, Layout

Gradients = Array | list[Array | None]
Numbers = dict[str, float]


@dataclass(frozen=True, eq=False)
class Kernel:
    """What a compiled run calls: ``<name>_gradient(w, g, data)`` and ``<name>_loss(w, data)`` of
    :mod:`graftsim.problems.kernels`, with the same bits as the problem's methods. They depend on the weights alone."""

    name: str
    data: NDArray[np.float64]


class Problem(Protocol):
    """A problem's data are its own: two problems with equal expressions are the same problem. A run's seed chooses
    only what the run draws, such as the order of mini-batches.

    ``str(problem)`` is an expression that :func:`graftsim.problems.parse` reads back.
    """

    @property
    def layout(self) -> Layout:
        """Names and shapes of the weights."""

    def start(self, seed: int, dtype: Any) -> Array:
        """The weights before the first step: flat, shape (coordinates,), of the dtype."""

    def gradients(self, weights: Array, step: int, seed: int) -> Gradients:
        """The gradient that step ``step`` (1 for the first) sees at ``weights``, of the weights' dtype.

        Flat, shape (coordinates,), or one array a tensor with None where a tensor has no gradient. A pure function of
        its arguments, so that a run goes on from any step to the same bits. It is computed in float64 and rounded to
        the weights' dtype once; models in torch compute in float32.
        """

    def loss(self, weights: Array) -> float:
        """The loss on all of the problem's data (NaN where there is none)."""

    def measures(self, weights: Array) -> Numbers:
        """What one wants to know of the weights that a run ended with."""

    def predictions(self) -> dict[str, Numbers]:
        """Closed forms of measures, by the name of what they hold for."""


def expression(name: str, problem: Any) -> str:
    """``name(field=value, ...)`` of a dataclass, without the fields that are None."""
    values = {field.name: getattr(problem, field.name) for field in dataclasses.fields(problem)}
    parts = [f"{key}={_literal(value)}" for key, value in values.items() if value is not None]
    return f"{name}({', '.join(parts)})"


def _literal(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)
