"""optax's optimizers as candidates. The only module here that imports jax and optax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim_conformance.dialects import signed

RATE = "learning_rate"
MODES = ("",)


class OptaxCandidate:
    """A function that returns an ``optax.GradientTransformation``, run eagerly on CPU arrays with 64 bits enabled.

    The learning rate is a schedule that looks up a float64 table by the count that optax gives it, so a count that
    starts at 1 shows. Everything else must stay as it is at the first step.
    """

    def __init__(self, optimizer: Any, mode: str = "") -> None:
        if mode not in MODES:
            raise GraftsimError(f"mode must be one of {', '.join(filter(None, MODES))}; received {mode!r}")
        self._make = optimizer

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._layout, self._arguments, self._rates = layout, dict(arguments), list[float]()
        given = dict(arguments)
        if RATE in given:
            given[RATE] = lambda count: self._rates[int(count)]
        with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            self._weights = self._arrays(weights)
            self._optimizer = self._make(**given)
            self._state = self._optimizer.init(self._weights)

    def step(self, gradients: Array, arguments: Mapping[str, Any]) -> Array:
        for keyword, value in arguments.items():
            if keyword != RATE and value != self._arguments[keyword]:
                raise GraftsimError(f"{keyword} must not change during a run of an optax optimizer; it went to {value}")
        self._rates.append(arguments.get(RATE, float("nan")))
        with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            updates, self._state = self._optimizer.update(self._arrays(gradients), self._state, self._weights)
            self._weights = optax.apply_updates(self._weights, updates)
        return self._flat(self._weights)

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        fields = dict(_fields(self._state))
        found = {}
        for slot, source in names.items():
            name, sign = signed(source)
            if name in fields:
                value = fields[name]
                per_tensor = value if isinstance(value, list) else [value] * len(self._layout.tensors)
                found[slot] = sign * self._flat(per_tensor)
        return found

    def _arrays(self, flat: Array) -> list[Any]:
        return [jnp.asarray(np.array(part)) for part in self._layout.unflatten(flat)]

    @staticmethod
    def _flat(arrays: list[Any]) -> Array:
        return np.concatenate([np.asarray(array).reshape(-1).astype(np.float64) for array in arrays])


def _fields(state: Any) -> Iterator[tuple[str, Any]]:
    """``class.field`` and value of every named tuple in a state tree."""
    if isinstance(state, tuple):
        names = getattr(state, "_fields", None)
        for position, part in enumerate(state):
            if names:
                yield f"{type(state).__name__}.{names[position]}", part
            yield from _fields(part)
