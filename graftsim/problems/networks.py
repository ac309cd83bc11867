"""Fully connected networks with the mean cross-entropy of a softmax: scores and gradient, written by hand.

Layer by layer h' = f(W h + b), with f the activation but after the last layer, whose values are the scores z. Then

    F = mean of (log sum_c exp(z_c) - z_label),    dF/dz = (softmax(z) - onehot(label)) / n,
    dF/dW = (dF/dz)' h,   dF/db = column sums of dF/dz,   dF/dh = (dF/dz) W, times f'.

All is float64. Weights have shape (out, in).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from graftsim.layouts import Array, Layout, Shape
from graftsim.problems import starts
from graftsim.problems.softmaxes import Labels, slope
from graftsim.problems.threads import one_blas_thread

Floats = NDArray[np.float64]


def _relu(z: Floats) -> Floats:
    return np.asarray(np.maximum(z, 0.0))


def _relu_slope(h: Floats) -> Floats:
    return np.asarray(h > 0, np.float64)


def _tanh(z: Floats) -> Floats:
    return np.asarray(np.tanh(z))


def _tanh_slope(h: Floats) -> Floats:
    return np.asarray(1 - h * h)


@dataclass(frozen=True)
class Activation:
    """A function, its slope in terms of its value, and the gain that keeps the variance of what passes it."""

    function: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    gain: float


ACTIVATIONS: Mapping[str, Activation] = {
    "relu": Activation(_relu, _relu_slope, 2.0),
    "tanh": Activation(_tanh, _tanh_slope, 1.0),
}


@dataclass(frozen=True)
class Network:
    """A network by the widths of its layers, inputs and classes among them."""

    widths: tuple[int, ...]
    activation: str

    @cached_property
    def layout(self) -> Layout:
        """``hidden0.weight``, ``hidden0.bias``, ..., ``output.weight``, ``output.bias``."""
        names = [f"hidden{i}" for i in range(len(self.widths) - 2)] + ["output"]
        shapes: dict[str, Shape] = {}
        for name, fan_in, fan_out in zip(names, self.widths, self.widths[1:], strict=False):
            shapes |= {f"{name}.weight": (fan_out, fan_in), f"{name}.bias": (fan_out,)}
        return Layout.of(shapes)

    def start(self, seed: int) -> Floats:
        """Weights that keep the variance of what passes them; biases are zero."""
        gain = ACTIVATIONS[self.activation].gain
        return starts.uniform(
            self.layout,
            seed,
            lambda name, shape: starts.kept_variance(1.0 if name.startswith("output") else gain, shape),
        )

    def scores(self, weights: Array, x: Floats) -> Floats:
        """z, shape (n, classes)."""
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            return self._values(self._tensors(weights), x)[-1]

    def gradient(self, weights: Array, x: Floats, labels: Labels) -> Floats:
        """dF/dw, flat."""
        tensors, activation = self._tensors(weights), ACTIVATIONS[self.activation]
        flat = np.empty(self.layout.size)
        found = self.layout.unflatten(flat)
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            *values, z = self._values(tensors, x)
            back = slope(z, labels)
            for layer in reversed(range(len(values))):
                np.matmul(back.T, values[layer], out=found[2 * layer])
                back.sum(axis=0, out=found[2 * layer + 1])
                if layer:
                    back = (back @ tensors[2 * layer]) * activation.slope(values[layer])
        return flat

    def _tensors(self, weights: Array) -> list[Array]:
        return self.layout.unflatten(weights.astype(np.float64))

    def _values(self, tensors: list[Array], x: Floats) -> list[Floats]:
        """The inputs, the values of each hidden layer, the scores."""
        function, values = ACTIVATIONS[self.activation].function, [x]
        for layer in range(0, len(tensors), 2):
            z = values[-1] @ tensors[layer].T + tensors[layer + 1]
            values.append(z if layer == len(tensors) - 2 else function(z))
        return values
