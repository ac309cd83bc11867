"""Keras's optimizers as candidates. The only module here that imports keras.

Keras has one backend a process, which the environment variable ``KERAS_BACKEND`` (jax, torch or tensorflow) chooses
when keras is first imported: ``KERAS_BACKEND=jax graftsim check keras.optimizers:Adam``.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim_conformance.dialects import signed

RATE = "learning_rate"
MODES = ("", "compiled", "xla")
"""How Keras runs a step: eagerly; as one compiled function (``stateless_apply`` under ``jax.jit``, or ``tf.function``);
and, on tensorflow alone, as a ``tf.function`` that XLA compiles."""
COMPILERS = {"jax": ("", "compiled"), "torch": ("",), "tensorflow": MODES}


def backend() -> tuple[str, str]:
    """Name and version of the backend of this process."""
    name = str(keras.backend.backend())
    return name, str(getattr(importlib.import_module(name), "__version__", "unknown"))


class KerasCandidate:
    """An optimizer class of Keras, on variables of the weights' dtype on the CPU.

    The learning rate is assigned before each step, as callbacks do. Everything else must stay as it is at the first
    step. State is named as Keras names the variables: ``velocity`` is ``<variable>_velocity`` of each tensor. Or it is
    one variable for all tensors, as ``iteration`` is, or an attribute that holds one. Tensors without coordinates are
    left out on TensorFlow, where Keras cannot add two of them.
    """

    def __init__(self, optimizer: Any, mode: str = "") -> None:
        modes = COMPILERS[keras.backend.backend()]
        if mode not in modes:
            known = ", ".join(filter(None, modes)) or "left out"
            raise GraftsimError(f"on {keras.backend.backend()} mode must be {known}; received {mode!r}")
        self._make, self._mode = optimizer, mode

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._layout, self._arguments, self._dtype = layout, dict(arguments), str(weights.dtype)
        with on_the_cpu(self._dtype):
            self._variables = [
                keras.Variable(np.array(part), dtype=self._dtype, name=f"tensor{number}")
                for number, part in enumerate(self._parts(weights))
            ]
            self._optimizer = self._make(**arguments)
            self._optimizer.build(self._variables)
            self._apply = self._compiled() if self._mode else self._optimizer.apply

    def step(self, gradients: Array, arguments: Mapping[str, Any]) -> Array:
        for keyword, value in arguments.items():
            if keyword != RATE and value != self._arguments[keyword]:
                raise GraftsimError(f"{keyword} must not change during a run of a Keras optimizer; it went to {value}")
        with on_the_cpu(self._dtype):
            if RATE in arguments:
                self._optimizer.learning_rate = arguments[RATE]
            self._apply([keras.ops.convert_to_tensor(np.array(part)) for part in self._parts(gradients)])
            return self._flat(self._variables)

    def _parts(self, flat: Array) -> list[Array]:
        every = keras.backend.backend() != "tensorflow"
        return [part for part in self._layout.unflatten(flat) if every or part.size]

    def _compiled(self) -> Callable[[list[Any]], None]:
        """A step as one function; on jax what it returns is put back into the variables, as Keras's trainer does."""
        if keras.backend.backend() == "tensorflow":
            tensorflow: Any = importlib.import_module("tensorflow")
            whole: Callable[[list[Any]], None] = tensorflow.function(
                self._optimizer.apply, jit_compile=self._mode == "xla"
            )
            return whole
        import jax

        pure = jax.jit(self._optimizer.stateless_apply)

        def apply(gradients: list[Any]) -> None:
            kept = (self._optimizer.variables, self._variables)
            values = [[variable.value for variable in variables] for variables in kept]
            weights, state = pure(values[0], gradients, values[1])
            for variable, value in zip([*kept[1], *kept[0]], [*weights, *state], strict=True):
                variable.assign(value)

        return apply

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        owned = {variable.name: variable for variable in self._optimizer.variables}
        found = {}
        for slot, source in names.items():
            name, sign = signed(source)
            shared = owned.get(name, getattr(self._optimizer, name, None))
            slots = [owned.get(f"{variable.name}_{name}", shared) for variable in self._variables]
            if all(variable is shared for variable in slots):
                slots = [shared] * len(self._layout.tensors)
            if all(variable is not None for variable in slots):
                found[slot] = sign * self._flat(slots)
        return found

    @staticmethod
    def _flat(variables: list[Any]) -> Array:
        arrays = [keras.ops.convert_to_numpy(variable.value) for variable in variables]
        return np.concatenate([array.reshape(-1).astype(np.float64) for array in arrays])


@contextlib.contextmanager
def on_the_cpu(dtype: str) -> Iterator[None]:
    """On the CPU, with Keras's default dtype that of the weights: its learning rate is a variable of the default."""
    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        with keras.device("cpu"), _wide(dtype):
            yield
    finally:
        keras.config.set_floatx(before)


def _wide(dtype: str) -> contextlib.AbstractContextManager[None]:
    """JAX has no float64 unless it is asked for; the other backends do."""
    if keras.backend.backend() != "jax" or dtype != "float64":
        return contextlib.nullcontext()
    import jax

    found: contextlib.AbstractContextManager[None] = jax.enable_x64(True)
    return found
