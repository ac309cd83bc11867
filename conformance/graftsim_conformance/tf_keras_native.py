"""TensorFlow's own optimizers as candidates: those of tf_keras (Keras 2), its legacy ones, and tf.compat.v1.train.

tf_keras is imported by whoever names one of its optimizers, and not here.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim_conformance.dialects import signed

tensorflow: Any = importlib.import_module("tensorflow")  # has no types
RATE = "learning_rate"
MODES = ("", "compiled", "xla")
"""Eagerly, as a ``tf.function``, and as one that XLA compiles. Those of tf.compat.v1.train are run eagerly only."""


def backend() -> tuple[str, str]:
    """Name and version of what runs them; as a backend it is the key of what their dialects say of TensorFlow."""
    return "tensorflow", str(tensorflow.__version__)


class TensorFlowCandidate:
    """An optimizer class of tf_keras.optimizers, tf_keras.optimizers.legacy or tf.compat.v1.train, on the CPU.

    Variables have the weights' dtype, which is tf_keras's default while they run. The learning rate is assigned before
    each step, or, for tf.compat.v1.train, asked for through a function; everything else must stay as it is. State is
    named as the optimizer names its slots, or it is one variable for all tensors, an attribute.
    """

    def __init__(self, optimizer: Any, mode: str = "") -> None:
        self._old = isinstance(optimizer, type) and issubclass(optimizer, tensorflow.compat.v1.train.Optimizer)
        modes = MODES[:1] if self._old else MODES
        if mode not in modes:
            known = ", ".join(filter(None, modes)) or "left out"
            raise GraftsimError(f"for this optimizer mode must be {known}; received {mode!r}")
        self._make, self._mode = optimizer, mode

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._layout, self._arguments, self._dtype = layout, dict(arguments), str(weights.dtype)
        given = dict(arguments)
        if self._old and RATE in given:
            given[RATE] = lambda: self._arguments[RATE]
        with _on_the_cpu(self._dtype):
            self._variables = [
                tensorflow.Variable(np.array(part), name=f"tensor{number}")
                for number, part in enumerate(layout.unflatten(weights))
            ]
            self._optimizer = self._make(**given)
            for make_slots in ("build", "_create_all_weights"):  # Keras 2, legacy; else the first step makes them
                if hasattr(self._optimizer, make_slots):
                    getattr(self._optimizer, make_slots)(self._variables)
        self._apply: Callable[[list[Any]], None] = self._once
        if self._mode:
            self._apply = tensorflow.function(self._once, jit_compile=self._mode == "xla")

    def step(self, gradients: Array, arguments: Mapping[str, Any]) -> Array:
        for keyword, value in arguments.items():
            if keyword != RATE and value != self._arguments[keyword]:
                raise GraftsimError(f"{keyword} must not change during a run of {self._name}; it went to {value}")
        self._arguments.update(arguments)
        with _on_the_cpu(self._dtype):
            if RATE in arguments and not self._old:
                self._optimizer.learning_rate = arguments[RATE]
            self._apply([tensorflow.constant(np.array(part)) for part in self._layout.unflatten(gradients)])
        return self._flat(self._variables)

    def _once(self, gradients: list[Any]) -> None:
        self._optimizer.apply_gradients(zip(gradients, self._variables, strict=True))

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        found = {}
        for slot, source in names.items():
            name, sign = signed(source)
            variables = [self._slot(name, variable) for variable in self._variables]
            if all(variable is not None for variable in variables):
                found[slot] = sign * self._flat(variables)
        return found

    def _slot(self, name: str, variable: Any) -> Any:
        """The slot of one tensor; else the one variable of all tensors; None where there is neither yet."""
        if hasattr(self._optimizer, "get_slot_names"):
            own = self._optimizer.get_slot(variable, name) if name in self._optimizer.get_slot_names() else None
        else:
            named = {each.name.partition(":")[0]: each for each in self._optimizer.variables}
            own = named.get(f"{name}/{variable.name.partition(':')[0]}")
        return getattr(self._optimizer, name, None) if own is None else own

    @property
    def _name(self) -> str:
        return str(getattr(self._make, "__name__", self._make))

    @staticmethod
    def _flat(variables: list[Any]) -> Array:
        return np.concatenate([variable.numpy().reshape(-1).astype(np.float64) for variable in variables])


@contextlib.contextmanager
def _on_the_cpu(dtype: str) -> Iterator[None]:
    """On the CPU, with the default dtype of tf_keras, where it is loaded, that of the weights."""
    backend = getattr(sys.modules.get("tf_keras"), "backend", None)
    before = backend.floatx() if backend else ""
    if backend:
        backend.set_floatx(dtype)
    try:
        with tensorflow.device("cpu"):
            yield
    finally:
        if backend:
            backend.set_floatx(before)
