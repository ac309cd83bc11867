"""graftsim's own adapter for JAX as a target: ``graftsim check graftsim_jax`` judges both classes here.

``Machines`` runs every machine of the golden cases by :func:`graftsim_jax.machine`. ``Grafts`` runs every golden graft
of optimizers that optax has by :func:`graftsim_jax.graft`, grafts of grafts too, under the dialects of optax; where
optax's own optimizer differs from its machine, as Adam does at eps = 0 and a zero gradient, so does a graft of it.

64 bits are enabled where the weights are float64; beside float32 weights JAX is as it is installed. Hyperparameters are
arguments of a compiled step, so there is one compilation for all cases of a machine over a layout.
"""

from __future__ import annotations

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import graftsim_jax
from graftsim import notation
from graftsim.layouts import Array, Layout
from graftsim.program import Program, Rank
from graftsim_conformance import candidates, claim, recipes
from graftsim_conformance.dialects import paths, signed
from graftsim_conformance.optax_native import fields
from graftsim_conformance.recipes import ROLES, Part, Values

MODES = ("", "jit")
"""Eagerly; as one compiled step."""
FRAMEWORK = "optax:"

Tree = Any


# -- a run -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def world(wide: bool) -> Iterator[None]:
    """On the CPU, with 64 bits or as JAX is installed."""
    with jax.enable_x64(wide), jax.default_device(jax.devices("cpu")[0]):
        yield


def tree(layout: Layout, flat: Array) -> Tree:
    """Arrays by name, in the order of the layout, which a plain dict would not keep."""
    parts = layout.unflatten(flat)
    return OrderedDict((name, jnp.asarray(np.array(part))) for name, part in zip(layout.names, parts, strict=True))


def flat(values: Tree) -> Array:
    """All numbers of a tree, in the dtype that they have."""
    return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(values)])


class _Run:
    """What candidates share: weights, state and the world that a run is in."""

    modes = MODES
    distributions = ("jax", "optax")

    fused = False
    """Whether XLA sees a step as a whole."""

    def begin(self, layout: Layout, weights: Array) -> None:
        self.layout, self.wide = layout, weights.dtype == np.float64
        self.set(weights)

    def set(self, weights: Array) -> None:
        with world(self.wide):
            self.params = tree(self.layout, weights)

    def weights(self) -> Array:
        return flat(self.params)


# -- machines ----------------------------------------------------------------------------------------------------------


class _Machine:
    """A machine whose hyperparameters are given at each step: eight bytes each, as JAX may have no 64 bits."""

    def __init__(self, expression: str, paths: Sequence[str], mode: str) -> None:
        self._values: dict[str, Any] = {}
        given = {path: functools.partial(self._value, path) for path in paths}
        self._paths, self._optimizer = tuple(paths), graftsim_jax.machine(expression, **given)
        self._advance = jax.jit(self._step) if mode else self._step

    def init(self, arguments: Values, params: Tree) -> Any:
        self._hold(self._bits(arguments))
        return self._optimizer.init(params)

    def step(self, arguments: Values, params: Tree, gradients: Tree, state: Any) -> tuple[Tree, Any]:
        """Updates and state."""
        return self._advance(self._bits(arguments), params, gradients, state)

    def _bits(self, arguments: Values) -> Any:
        return np.array([arguments[path] for path in self._paths], np.float64).view(np.uint32).reshape(-1, 2)

    def _hold(self, bits: Any) -> None:
        with jax.enable_x64(True):
            values = lax.bitcast_convert_type(bits, np.float64)
            self._values = {path: values[number] for number, path in enumerate(self._paths)}

    def _value(self, path: str, count: Any) -> Any:
        return self._values[path]

    def _step(self, bits: Any, params: Tree, gradients: Tree, state: Any) -> tuple[Tree, Any]:
        self._hold(bits)
        found: tuple[Tree, Any] = self._optimizer.update(gradients, state, params)
        return found


@functools.lru_cache(maxsize=64)
def _machine(expression: str, paths: tuple[str, ...], mode: str) -> _Machine:
    """One object for all runs of a machine, which share what is compiled for it."""
    return _Machine(expression, paths, mode)


class Machines(_Run):
    """A machine of the spec as an optax transformation."""

    machines = recipes.with_all_gradients()
    profiles = recipes.FLUSHES
    lawful = staticmethod(recipes.lawful(machines, compiled=False))

    def __init__(self, machine: str, mode: str = "") -> None:
        self._expression, self._mode, self.fused = machine, mode, bool(mode)

    def start(self, layout: Layout, weights: Array, arguments: Values) -> None:
        self.begin(layout, weights)
        self._program = claim.program_of(notation.parse(self._expression), layout, str(weights.dtype), arguments)
        self._machine = _machine(self._expression, tuple(arguments), self._mode)
        with world(self.wide):
            self._state = self._machine.init(arguments, self.params)

    def step(self, gradients: Array, arguments: Values) -> Array:
        with world(self.wide):
            given = tree(self.layout, gradients)
            updates, self._state = self._machine.step(arguments, self.params, given, self._state)
            self.params = optax.apply_updates(self.params, updates)
        return self.weights()

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        return {slot: _read(self._state.slots[path]) for slot, path in names.items()}

    def write_state(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        self.set(weights)
        with world(self.wide):
            slots = {path: _written(self._program, path, state[path], old) for path, old in self._state.slots.items()}
            self._state = self._state._replace(slots=slots, count=jnp.asarray(step, jnp.int32))

    def info(self) -> dict[str, Array]:
        """Norms and ratios; where JAX has no 64 bits they are recorded in 32, and not shown."""
        return {path: flat(value) for path, value in self._state.info.items()} if self.wide else {}


def _read(kept: Any) -> Array:
    """A slot; group values that are kept as their bits are put together."""
    found = flat(kept)
    return found.view(np.float64) if found.dtype == np.uint32 else found


def _written(program: Program, path: str, value: Array, old: Any) -> Any:
    """A slot's flat value in the form that the machine keeps."""
    kind = program.slots[path].kind
    if kind.rank >= Rank.COORDINATE:
        parts = claim.split(value, claim.shapes(kind, program.layout))
        return jax.tree.unflatten(jax.tree.structure(old), [jnp.asarray(part) for part in parts])
    if old.dtype == np.uint32:
        return jnp.asarray(np.asarray(value, np.float64).view(np.uint32).reshape(-1, 2))
    return jnp.asarray(value, old.dtype)


# -- grafts ------------------------------------------------------------------------------------------------------------


class _Graft:
    """A part whose hyperparameters are given at each step: those of optax's optimizers as the numbers that a caller
    writes, those of grafts in eight bytes each."""

    def __init__(self, part: Part, mode: str) -> None:
        self.part = part
        self._advance = jax.jit(self._step) if mode else self._step

    def init(self, arguments: Values, params: Tree) -> Any:
        return self._optimizer(self.part, self._native(arguments), arguments).init(params)

    def step(self, arguments: Values, params: Tree, gradients: Tree, state: Any) -> tuple[Tree, Any, Any]:
        """Updates, state, and the updates of both children where there are any."""
        own = {path: np.float64(arguments[path]).reshape(1).view(np.uint32) for path in self._own(self.part)}
        return self._advance(self._native(arguments), own, params, gradients, state)

    def _own(self, part: Part) -> Iterator[str]:
        """The paths of the hyperparameters of grafts."""
        for child in part.children:
            yield from self._own(child)
        yield from (part.prefix + name for name in ("eps", "scale") if part.children)

    def _native(self, arguments: Values) -> dict[str, dict[str, float]]:
        """The keywords of each optimizer that hyperparameters give; the others are the same in every run."""
        return {
            leaf.prefix: {k: x for k, x in leaf.native(arguments).items() if paths(leaf.row.arguments[k])}
            for leaf in self.part.leaves()
            if leaf.row is not None
        }

    def _step(self, native: Any, own: Any, params: Tree, gradients: Tree, state: Any) -> tuple[Tree, Any, Any]:
        with jax.enable_x64(True):
            values = {path: lax.bitcast_convert_type(bits, np.float64) for path, bits in own.items()}
        steps = [
            self._optimizer(child, native, values).update(gradients, getattr(state, role), params)[0]
            for role, child in zip(ROLES, self.part.children, strict=False)
        ]
        updates, state = self._optimizer(self.part, native, values).update(gradients, state, params)
        return updates, state, steps

    def _optimizer(self, part: Part, native: Any, values: Values) -> Any:
        if part.row is not None:
            fixed = {keyword: value for keyword, value in part.row.arguments.items() if not paths(value)}
            return candidates.load(part.row.target)(**native[part.prefix], **fixed)
        children = [self._optimizer(child, native, values) for child in part.children]
        eps, scale = (values[part.prefix + name] for name in ("eps", "scale"))
        return graftsim_jax.graft(*children, partition=str(part.instance.partition), eps=eps, scale=scale)


@functools.lru_cache(maxsize=64)
def _graft(expression: str, mode: str) -> _Graft:
    return _Graft(recipes.part(notation.parse(expression), FRAMEWORK), mode)


class Grafts(_Run):
    """A graft of optimizers of optax, or one of them alone."""

    machines = recipes.grafts(FRAMEWORK, recipes.with_all_gradients())
    """Those whose groups are of whole leaves, axes or blocks, as those of ``graft`` are."""
    profiles = recipes.profiles(FRAMEWORK)
    """Those of optax, which computes the steps of the children."""
    lawful = staticmethod(recipes.lawful(machines, compiled=True))

    def __init__(self, machine: str, mode: str = "") -> None:
        self._graft, self.fused = _graft(machine, mode), bool(mode)
        self._part = self._graft.part

    def start(self, layout: Layout, weights: Array, arguments: Values) -> None:
        self.begin(layout, weights)
        self._steps: Sequence[Tree] = ()
        with world(self.wide):
            self._state = self._graft.init(arguments, self.params)

    def step(self, gradients: Array, arguments: Values) -> Array:
        with world(self.wide):
            given = tree(self.layout, gradients)
            updates, self._state, self._steps = self._graft.step(arguments, self.params, given, self._state)
            self.params = optax.apply_updates(self.params, updates)
        return self.weights()

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for part, state in self._part.beside(self._state):
            if part.row is None:
                continue
            kept = dict(fields(state))
            for slot, source in part.row.state.items():
                name, sign = signed(source)
                found[part.prefix + slot] = sign * self._by_tensor(kept[name])
        return {slot: found[path] for slot, path in names.items() if path in found}

    def _by_tensor(self, value: Any) -> Array:
        """Coordinates as they are; one number for all tensors as one for each."""
        return np.repeat(flat(value), len(self.layout.tensors)) if isinstance(value, jax.Array) else flat(value)

    def write_state(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        self.set(weights)
        with world(self.wide):
            self._state = self._set(self._part, self._state, state, step)

    def _set(self, part: Part, kept: Any, values: Mapping[str, Array], step: int) -> Any:
        if part.row is None:
            children = {role: self._set(child, getattr(kept, role), values, step)
                        for role, child in zip(ROLES, part.children, strict=True)}  # fmt: skip
            return kept._replace(**children, count=jnp.asarray(step, jnp.int32))
        own = part.own(values)
        sources = {signed(source)[0]: (slot, signed(source)[1]) for slot, source in part.row.state.items()}
        return _replaced(kept, lambda name, old: self._like(old, own, *sources[name]) if name in sources else old)

    def _like(self, old: Any, own: Mapping[str, Array], slot: str, sign: float) -> Any:
        if slot not in own:
            return old
        value = own[slot]
        if not isinstance(old, jax.Array):
            leaves, structure = jax.tree.flatten(old)
            parts = claim.split(sign * value, [leaf.shape for leaf in leaves])
            new = [jnp.asarray(part, leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
            return jax.tree.unflatten(structure, new)
        return jnp.asarray(sign * recipes.shared(slot, value), old.dtype)

    def info(self) -> dict[str, Array]:
        """The steps of the children; norms and ratios too, where JAX has 64 bits."""
        if not self._steps:
            return {}
        found = {f"{role}.delta": flat(steps) for role, steps in zip(ROLES, self._steps, strict=True)}
        if self.wide:
            recorder = graftsim_jax.Recorder(self.params, str(self._part.instance.partition))
            found |= {path: np.asarray(values) for path, values in recorder.row(self._state).items()}
        return found


def _replaced(state: Any, change: Callable[[str, Any], Any]) -> Any:
    """A state tree in which the fields of named tuples are changed, by ``class.field``."""
    if not isinstance(state, tuple):
        return state
    if not hasattr(state, "_fields"):
        return tuple(_replaced(part, change) for part in state)
    parts = {name: change(f"{type(state).__name__}.{name}", getattr(state, name)) for name in state._fields}
    return type(state)(**{name: _replaced(part, change) for name, part in parts.items()})
