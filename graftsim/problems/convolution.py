"""A small convolutional network, in torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.layouts import Array, Layout, Shape
from graftsim.problems import starts, torch_models
from graftsim.problems.softmaxes import Labels
from graftsim.problems.threads import torch_module
from graftsim.problems.torch_models import Tensors

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Convolution:
    """For each of ``channels`` a 3 x 3 convolution of the same size, relu and 2 x 2 maxima; then a layer of ``dense``
    units with relu, then the scores. Pictures are grey, of ``shape`` (height, width)."""

    shape: Shape
    channels: tuple[int, ...]
    dense: int
    classes: int

    @cached_property
    def layout(self) -> Layout:
        """``conv0.weight`` (out, in, 3, 3), ``conv0.bias``, ..., ``dense.weight``, ..., ``output.bias``."""
        shapes: dict[str, Shape] = {}
        planes = 1
        for i, out in enumerate(self.channels):
            shapes |= {f"conv{i}.weight": (out, planes, 3, 3), f"conv{i}.bias": (out,)}
            planes = out
        units = planes * math.prod(side >> len(self.channels) for side in self.shape)
        for name, fan_in, fan_out in (("dense", units, self.dense), ("output", self.dense, self.classes)):
            shapes |= {f"{name}.weight": (fan_out, fan_in), f"{name}.bias": (fan_out,)}
        return Layout.of(shapes)

    def start(self, seed: int) -> Floats:
        """Weights that keep the variance of what passes them; biases are zero."""
        return starts.uniform(
            self.layout,
            seed,
            lambda name, shape: starts.kept_variance(1.0 if name.startswith("output") else 2.0, shape),
        )

    def scores(self, weights: Array, x: Floats) -> Floats:
        """z, shape (n, classes)."""
        return torch_models.value(self.layout, weights, lambda tensors: self._forward(tensors, x))

    def gradient(self, weights: Array, x: Floats, labels: Labels) -> Floats:
        """The derivative of the mean cross-entropy, flat."""

        def loss(tensors: Tensors) -> Any:
            torch = torch_module()
            return torch.nn.functional.cross_entropy(self._forward(tensors, x), torch.from_numpy(labels))

        return torch_models.gradient(self.layout, weights, loss)

    def _forward(self, tensors: Tensors, x: Floats) -> Any:
        torch = torch_module()
        f = torch.nn.functional
        h = torch.from_numpy(x.astype(np.float32)).view(-1, 1, *self.shape)
        for i in range(len(self.channels)):
            h = f.conv2d(h, tensors[f"conv{i}.weight"], tensors[f"conv{i}.bias"], padding=1)
            h = f.max_pool2d(f.relu(h), 2)
        h = f.relu(f.linear(h.flatten(1), tensors["dense.weight"], tensors["dense.bias"]))
        return f.linear(h, tensors["output.weight"], tensors["output.bias"])
