"""optax's optimizers as candidates. The only module here that imports jax and optax."""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim_conformance.dialects import signed

RATE = "learning_rate"
MODES = ("", "jit", "x64")
"""Eagerly; as one compiled step; eagerly, with 64 bits enabled also where the weights are float32."""
LONGEST = 1024
"""Steps of a run: the table of learning rates has one size, so that a step is compiled once."""


class OptaxCandidate:
    """A function that returns an ``optax.GradientTransformation``, run on CPU arrays of the weights' dtype.

    64 bits are enabled where the weights are float64, and for float32 under the mode ``x64`` alone: JAX as it is
    installed has none, and then scalars such as ``1 - b2 ** count`` are float32.

    The learning rate is a schedule that looks up a table by the count that optax gives it, so a count that starts at 1
    shows; rates of steps to come are NaN in it. Everything else must stay as it is at the first step, and so must the
    learning rate of an optimizer that says that it takes no schedule.
    """

    def __init__(self, optimizer: Any, mode: str = "") -> None:
        if mode not in MODES:
            raise GraftsimError(f"mode must be one of {', '.join(filter(None, MODES))}; received {mode!r}")
        self._make, self._mode = optimizer, mode
        self._scheduled = _takes_schedule(optimizer)

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._layout, self._arguments = layout, dict(arguments)
        self._rates, self._steps = np.full(LONGEST, np.nan, weights.dtype), 0
        self._wide = weights.dtype == np.float64 or self._mode == "x64"
        scheduled = self._scheduled and RATE in arguments
        fixed = {keyword: value for keyword, value in arguments.items() if not (scheduled and keyword == RATE)}
        build = _build(self._make, tuple(fixed.items()), scheduled)
        with self._world():
            optimizer = build(lambda: jnp.asarray(self._rates))
            self._advance = _compiled(build) if self._mode == "jit" else _eager(optimizer)
            self._weights = self._arrays(weights)
            self._state = optimizer.init(self._weights)

    def step(self, gradients: Array, arguments: Mapping[str, Any]) -> Array:
        for keyword, value in arguments.items():
            if value != self._arguments[keyword] and not (self._scheduled and keyword == RATE):
                raise GraftsimError(f"{keyword} must not change during a run of an optax optimizer; it went to {value}")
        if self._steps == LONGEST:
            raise GraftsimError(f"a run of an optax optimizer must have at most {LONGEST} steps; this is one more")
        self._rates[self._steps] = arguments.get(RATE, np.nan)
        self._steps += 1
        with self._world():
            parts = self._arrays(gradients)
            self._weights, self._state = self._advance(self._rates.copy(), self._weights, parts, self._state)
        return self._flat(self._weights)

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        kept = dict(fields(self._state))
        found = {}
        for slot, source in names.items():
            name, sign = signed(source)
            if name in kept:
                value = kept[name]
                per_tensor = value if isinstance(value, list) else [value] * len(self._layout.tensors)
                found[slot] = sign * self._flat(per_tensor)
        return found

    @contextlib.contextmanager
    def _world(self) -> Iterator[None]:
        with jax.enable_x64(self._wide), jax.default_device(jax.devices("cpu")[0]):
            yield

    def _arrays(self, flat: Array) -> list[Any]:
        return [jnp.asarray(np.array(part)) for part in self._layout.unflatten(flat)]

    @staticmethod
    def _flat(arrays: list[Any]) -> Array:
        return np.concatenate([np.asarray(array).reshape(-1).astype(np.float64) for array in arrays])


Build = Callable[[Callable[[], Any]], Any]
"""Makes the optimizer, given what returns the table of learning rates."""
Advance = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
"""From the table, the weights, the gradients and the state to the next weights and state."""


@functools.lru_cache(maxsize=256)
def _build(make: Any, fixed: tuple[tuple[str, Any], ...], scheduled: bool) -> Build:
    """One object for one set of arguments, so that runs which share it share what is compiled for it."""

    def build(rates: Callable[[], Any]) -> Any:
        rate = {RATE: lambda count: rates()[count]} if scheduled else {}
        return make(**rate, **dict(fixed))

    return build


def _eager(optimizer: Any) -> Advance:
    def advance(rates: Any, weights: Any, gradients: Any, state: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state

    return advance


@functools.lru_cache(maxsize=256)
def _compiled(build: Build) -> Advance:
    """The table is an argument, so that one compiled step serves the whole run."""

    def advance(rates: Any, weights: Any, gradients: Any, state: Any) -> tuple[Any, Any]:
        return _eager(build(lambda: rates))(rates, weights, gradients, state)

    compiled: Advance = jax.jit(advance)
    return compiled


def _takes_schedule(make: Any) -> bool:
    """Whether the learning rate may be a function of the count; one that says nothing of it may."""
    parameter = inspect.signature(make).parameters.get(RATE)
    members = typing.get_args(parameter.annotation) if parameter is not None else ()
    return not members or any(typing.get_origin(member) is collections.abc.Callable for member in members)


def fields(state: Any) -> Iterator[tuple[str, Any]]:
    """``class.field`` and value of every named tuple in a state tree."""
    if isinstance(state, tuple):
        names = getattr(state, "_fields", None)
        for position, part in enumerate(state):
            if names:
                yield f"{type(state).__name__}.{names[position]}", part
            yield from fields(part)
