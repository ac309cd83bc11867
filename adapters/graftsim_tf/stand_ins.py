"""What a child optimizer is handed in place of a variable: it takes note of the step instead of taking it."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from graftsim_tf.backends import Tensor, numpy

_numbers = itertools.count()


class StandIn:
    """A variable whose changes are kept as a step.

    What is added to it is the step, to the bit: nothing is lost to the rounding of weights, so the size of an
    optimizer's learning rate cannot be seen in its direction. It reads as the weights with the step added, which is
    what an optimizer's later lines expect. Of an optimizer that assigns whole new weights (Ftrl, ScheduleFreeAdamW)
    the step is the difference.
    """

    def __init__(self, variable: Any) -> None:
        self.name, self.shape = variable.name, tuple(variable.shape)
        self.path = getattr(variable, "path", variable.name)
        self.dtype = keras.backend.standardize_dtype(variable.dtype)
        self._unique_id = f"graftsim_stand_in_{next(_numbers)}"  # Keras on TensorFlow knows variables by this
        self._weights: Any = None
        self._step: Tensor = None
        self._assigned: Tensor = None

    def begin(self, weights: Any, in_place: bool = False) -> None:
        """Stand for these weights, or for zeros that may be changed in place by what does not read weights."""
        self._weights, self._step = weights, None
        self._assigned = ops.zeros(self.shape, self.dtype) if in_place else None
        if in_place:
            self._weights = None

    def end(self) -> Tensor:
        """The step; nothing of it is kept."""
        step, assigned, weights = self._step, self._assigned, self._weights
        self._weights = self._step = self._assigned = None
        if assigned is not None:
            return assigned if weights is None else assigned - ops.convert_to_tensor(weights)
        return ops.zeros(self.shape, self.dtype) if step is None else step

    @property
    def value(self) -> Tensor:
        if self._assigned is not None:
            return self._assigned
        weights = ops.convert_to_tensor(self._weights)
        return weights if self._step is None else weights + self._step

    def assign(self, value: Any) -> None:
        self._assigned = ops.cast(ops.convert_to_tensor(value), self.dtype)

    def assign_add(self, value: Any) -> None:
        value = ops.cast(ops.convert_to_tensor(value), self.dtype)
        if self._assigned is not None:
            self._assigned = self._assigned + value
        else:
            self._step = value if self._step is None else self._step + value

    def assign_sub(self, value: Any) -> None:
        self.assign_add(ops.negative(ops.convert_to_tensor(value)))

    def numpy(self) -> Any:
        return numpy(self.value)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Tensor:
        return self.value if dtype is None else ops.cast(self.value, dtype)

    def __jax_array__(self) -> Tensor:
        return self.value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.numpy(), dtype)

    def __getitem__(self, index: Any) -> Tensor:
        return self.value[index]


def _forward(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *others: function(self.value, *others)


def _backward(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: function(other, self.value)


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "lt", "le", "gt", "ge"):
    setattr(StandIn, f"__{_name}__", _forward(getattr(operator, _name)))
for _name in ("add", "sub", "mul", "truediv", "pow", "matmul"):
    setattr(StandIn, f"__r{_name}__", _backward(getattr(operator, _name)))
for _name in ("neg", "abs"):
    setattr(StandIn, f"__{_name}__", _forward(getattr(operator, _name)))
