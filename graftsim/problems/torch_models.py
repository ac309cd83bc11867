"""Losses in torch at flat NumPy weights: values, and gradients by its automatic differentiation.

Torch computes in float32 on one thread; weights are rounded to float32 before and gradients are exact in float64 after.
A model is a function of tensors by name, which are views of one flat tensor, so that the gradient comes flat as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.layouts import Array, Layout
from graftsim.problems.threads import one_torch_thread

Tensors = Mapping[str, Any]


def gradient(layout: Layout, weights: Array, loss: Callable[[Tensors], Any]) -> NDArray[np.float64]:
    """The derivative of a scalar tensor by all weights, flat."""
    with one_torch_thread() as torch:
        flat = torch.from_numpy(_single(weights)).requires_grad_()
        (found,) = torch.autograd.grad(loss(_views(layout, flat)), flat)
    return np.asarray(found.numpy(), np.float64)


def value(layout: Layout, weights: Array, function: Callable[[Tensors], Any]) -> NDArray[np.float64]:
    """A tensor without its derivatives."""
    with one_torch_thread() as torch, torch.no_grad():
        found = function(_views(layout, torch.from_numpy(_single(weights))))
    return np.asarray(found.numpy(), np.float64)


def _single(weights: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # beyond float32 a weight is infinite, and the run diverges
        return np.array(weights, np.float32)


def _views(layout: Layout, flat: Any) -> Tensors:
    parts = flat.split(list(layout.sizes))
    return {name: part.view(shape) for (name, shape), part in zip(layout.tensors, parts, strict=True)}
