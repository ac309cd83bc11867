"""Keras's optimizers as candidates. The only module here that imports keras.

Keras has one backend a process, which the environment variable ``KERAS_BACKEND`` (jax, torch or tensorflow) chooses
when keras is first imported: ``KERAS_BACKEND=jax graftsim check keras.optimizers:Adam``.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim_conformance.dialects import signed

RATE = "learning_rate"
MODES = ("",)


def backend() -> tuple[str, str]:
    """Name and version of the backend of this process."""
    name = str(keras.backend.backend())
    return name, str(getattr(importlib.import_module(name), "__version__", "unknown"))


class KerasCandidate:
    """An optimizer class of Keras, run eagerly on float64 variables on the CPU.

    The learning rate is assigned before each step, as callbacks do. Everything else must stay as it is at the first
    step. State is named as Keras names the variables: ``velocity`` is ``<variable>_velocity`` of each tensor. Or it is
    one variable for all tensors, as ``iteration`` is, or an attribute that holds one.
    """

    def __init__(self, optimizer: Any, mode: str = "") -> None:
        if mode not in MODES:
            raise GraftsimError(f"mode must be one of {', '.join(filter(None, MODES))}; received {mode!r}")
        self._make = optimizer

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._layout, self._arguments = layout, dict(arguments)
        with _float64():
            self._variables = [
                keras.Variable(np.array(part), dtype="float64", name=f"tensor{number}")
                for number, part in enumerate(layout.unflatten(weights))
            ]
            self._optimizer = self._make(**arguments)
            self._optimizer.build(self._variables)

    def step(self, gradients: Array, arguments: Mapping[str, Any]) -> Array:
        for keyword, value in arguments.items():
            if keyword != RATE and value != self._arguments[keyword]:
                raise GraftsimError(f"{keyword} must not change during a run of a Keras optimizer; it went to {value}")
        with _float64():
            if RATE in arguments:
                self._optimizer.learning_rate = arguments[RATE]
            parts = [keras.ops.convert_to_tensor(np.array(part)) for part in self._layout.unflatten(gradients)]
            self._optimizer.apply(parts, self._variables)
            return self._flat(self._variables)

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        owned = {variable.name: variable for variable in self._optimizer.variables}
        found = {}
        for slot, source in names.items():
            name, sign = signed(source)
            shared = owned.get(name, getattr(self._optimizer, name, None))
            slots = [owned.get(f"{variable.name}_{name}", shared) for variable in self._variables]
            if all(variable is not None for variable in slots):
                found[slot] = sign * self._flat(slots)
        return found

    @staticmethod
    def _flat(variables: list[Any]) -> Array:
        arrays = [keras.ops.convert_to_numpy(variable.value) for variable in variables]
        return np.concatenate([array.reshape(-1).astype(np.float64) for array in arrays])


@contextlib.contextmanager
def _float64() -> Iterator[None]:
    """On the CPU, with float64 as Keras's default: its learning rate is a variable of the default dtype."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        with keras.device("cpu"), _wide():
            yield
    finally:
        keras.config.set_floatx(before)


def _wide() -> contextlib.AbstractContextManager[None]:
    """JAX has no float64 unless it is asked for; the other backends do."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    found: contextlib.AbstractContextManager[None] = jax.enable_x64(True)
    return found
