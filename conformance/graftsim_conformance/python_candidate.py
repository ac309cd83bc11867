"""Python objects as candidates: ``init`` and ``step`` on NumPy arrays, without side effects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from graftsim import notation
from graftsim.errors import GraftsimError, nearest
from graftsim.layouts import Array, Layout, Shape
from graftsim.program import StateSlot
from graftsim_conformance import claim
from graftsim_conformance.guard import guarded
from graftsim_conformance.verdicts import CandidateError, Verdict

ABILITIES = ("missing",)

Tensors = Mapping[str, Array]
"""Name of a tensor to its array."""


class Optimizer(Protocol):
    """What a third party writes.

    ``weights`` and ``gradients`` map names to arrays of one dtype; a missing gradient is None. ``hyperparameters`` are
    by the machine's paths (``lr``, ``magnitude.lr``), as in force at the step. The state may be anything; where it is a
    mapping with the machine's slots (``"magnitude.m"``, or ``"m"`` within ``"magnitude"``), these are compared. A slot
    of coordinates maps names to arrays; one of groups is an array, a mapping by group, or one number for all groups.

    Both are functions: what they are given stays as it is. ``NotImplementedError`` says that a case is not supported.
    An attribute ``dtypes`` may name the dtypes that are; ``abilities = ("missing",)`` declares missing gradients.
    """

    def init(self, weights: Tensors, hyperparameters: Mapping[str, float]) -> Any:
        """The state before the first step."""

    def step(
        self,
        weights: Tensors,
        gradients: Mapping[str, Array | None],
        state: Any,
        step: int,
        hyperparameters: Mapping[str, float],
    ) -> tuple[Any, ...]:
        """The weights after a step, the state, and optionally a mapping of info: norms, ratios, children's deltas.

        ``step`` is 1 at the first.
        """
        ...


class PythonCandidate:
    """An :class:`Optimizer` on flat arrays.

    Args:
        optimizer: an object, or a module, with ``init`` and ``step``.
        machine: the machine that it is judged as.
        seconds: how long a call may take; see :mod:`graftsim_conformance.guard`.

    Raises:
        GraftsimError: it lacks one of the two, or has an ability that is none. What they do later is a verdict.
    """

    def __init__(self, optimizer: Any, machine: str, seconds: float = 10.0) -> None:
        for name in ("init", "step"):
            if not callable(getattr(optimizer, name, None)):
                raise GraftsimError(f"a candidate must have init and step; {optimizer!r:.60} has no {name}")
        self._optimizer, self._machine, self._seconds = optimizer, notation.parse(machine), seconds
        self.abilities = tuple(getattr(optimizer, "abilities", ()))
        for ability in self.abilities:
            if ability not in ABILITIES:
                raise GraftsimError(f"unknown ability {ability!r}{nearest(str(ability), ABILITIES)}")

    # -- what a candidate does -----------------------------------------------------------------------------------------

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        if reason := self.supports(str(weights.dtype)):
            raise CandidateError(Verdict.NOT_SUPPORTED, reason)
        self._program = claim.program_of(self._machine, layout, str(weights.dtype), arguments)
        self._weights, self._step = weights.copy(), 0
        self._info: Mapping[str, Any] = {}
        self._state = self._call("init", self._named(weights), self._hyperparameters(arguments))

    def step(self, gradients: Array | Sequence[Any], arguments: Mapping[str, Any]) -> Array:
        layout = self._program.layout
        parts = layout.unflatten(gradients) if isinstance(gradients, np.ndarray) else gradients
        given = {name: None if part is None else np.array(part) for name, part in zip(layout.names, parts, strict=True)}
        self._step += 1
        hyperparameters = self._hyperparameters(arguments)
        found = self._call("step", self._named(self._weights), given, self._state, self._step, hyperparameters)
        if not isinstance(found, tuple) or len(found) not in (2, 3):
            raise _different(f"step must return (weights, state) or (weights, state, info); received {_kind(found)}")
        self._weights = self._flat(found[0], layout.shapes, "weights")
        self._state, self._info = found[1], found[2] if len(found) == 3 else {}
        return self._weights.copy()

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        slots = {slot: found for slot, name in names.items() if (found := _at(self._state, name)) is not None}
        return {slot: self._slot(self._program.slots[names[slot]], value) for slot, value in slots.items()}

    # -- what a candidate may be able to do ----------------------------------------------------------------------------

    def write_state(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        """Stand as after a step, within a run that :meth:`start` began: slots are put in place of those in the state.

        Raises:
            CandidateError: not supported, where the state is no mapping that has the slots.
        """
        self._weights, self._step = weights.copy(), step
        tree = self._state
        for path, value in state.items():
            old = _at(tree, path)
            if old is None:
                raise CandidateError(Verdict.NOT_SUPPORTED, f"its state has no {path!r} that could be set")
            tree = _with(tree, path, self._like(self._program.slots[path], value, old))
        self._state = tree

    def info(self) -> dict[str, Array]:
        """What the last step showed, by path: flat for coordinates, else one number a group."""
        shapes = self._program.layout.shapes
        return {
            path: self._flat(value, shapes, path) if self._by_tensor(value) else np.atleast_1d(np.asarray(value, "f8"))
            for path, value in self._info.items()
        }

    def supports(self, dtype: str) -> str:
        """Why a dtype is not supported; empty if it is."""
        return "" if dtype in self.dtypes else f"it declares {', '.join(self.dtypes)}, and not {dtype}"

    @property
    def dtypes(self) -> tuple[str, ...]:
        return tuple(getattr(self._optimizer, "dtypes", ("float64", "float32")))

    # -- values --------------------------------------------------------------------------------------------------------

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call the optimizer, and see that what it was given is as it was."""
        before = [(path, leaf, leaf.copy()) for path, leaf in _leaves(arguments, _GIVEN[name])]
        found = guarded(lambda: getattr(self._optimizer, name)(*arguments), self._seconds)
        after = dict(_leaves(arguments, _GIVEN[name]))
        for path, leaf, copy in before:
            if path not in after or not (_same(leaf, copy) and _same(after.pop(path), copy)):
                raise _different(f"{name} must leave what it is given as it was; it changed {path}")
        if after:
            raise _different(f"{name} must leave what it is given as it was; it added {min(after)}")
        return found

    def _hyperparameters(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Those in force, with the tables of the expression: by tensor for coordinates, else one value a group."""
        found = claim.tables(self._program)
        return {
            **arguments,
            **{path: self._named(x) if claim.by_tensor(kind) else x.copy() for path, (kind, x) in found.items()},
        }

    def _named(self, flat: Array, shapes: Sequence[Shape] | None = None) -> dict[str, Array]:
        layout = self._program.layout
        parts = claim.split(flat, layout.shapes if shapes is None else shapes)
        return {name: np.array(part) for name, part in zip(layout.names, parts, strict=True)}

    def _by_tensor(self, value: Any) -> bool:
        shapes = dict(self._program.layout.tensors)
        return (
            isinstance(value, Mapping)
            and set(value) == set(shapes)
            and any(np.shape(part) != () for part in value.values())
        )

    def _flat(self, value: Any, shapes: Sequence[Shape], place: str) -> Array:
        """One flat array of a mapping by tensors, which must have these shapes and the dtype of the weights."""
        layout, dtype = self._program.layout, self._program.dtype
        if not isinstance(value, Mapping) or set(value) != set(layout.names):
            names = sorted(map(str, value)) if isinstance(value, Mapping) else _kind(value)
            raise _different(f"{place} must map {', '.join(layout.names)} to arrays; received {names}")
        for name, shape in zip(layout.names, shapes, strict=True):
            part = value[name]
            if not hasattr(part, "dtype") or part.dtype != dtype or np.shape(part) != shape:
                raise _different(
                    f"{place}, {name!r}, must have shape {shape} and dtype {dtype}; received {_kind(part)}"
                )
        return np.concatenate([np.zeros(0, dtype), *(np.asarray(value[name]).reshape(-1) for name in layout.names)])

    def _slot(self, slot: StateSlot, value: Any) -> Array:
        place = f"state {slot.path}"
        if claim.by_tensor(slot.kind):
            return self._flat(value, claim.shapes(slot.kind, self._program.layout), place)
        partition = slot.kind.partition
        if isinstance(value, Mapping) and set(value) == set(partition.names):
            value = [value[name] for name in partition.names]
        try:
            numbers = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            numbers = np.zeros((0, 0))
        if numbers.shape not in ((), (partition.count,)):
            groups = f"{partition.count} groups of {partition.key}"
            raise _different(f"{place} must be one number, or one for each of {groups}; received {_kind(value)}")
        return np.array(np.broadcast_to(numbers, (partition.count,)))

    def _like(self, slot: StateSlot, value: Array, old: Any) -> Any:
        """A slot's flat value in the form that the optimizer itself uses."""
        if claim.by_tensor(slot.kind):
            return self._named(value, claim.shapes(slot.kind, self._program.layout))
        if isinstance(old, Mapping):
            names, kind = slot.kind.partition.names, type(next(iter(old.values()), 0.0))
            return {name: kind(x) if kind in (int, float) else x for name, x in zip(names, value, strict=True)}
        if np.shape(old) == ():
            if not (value == value[:1]).all():
                raise CandidateError(Verdict.NOT_SUPPORTED, f"its {slot.path} is one number for all groups")
            return type(old)(value[0]) if isinstance(old, int | float) else np.asarray(value[0], np.asarray(old).dtype)
        return np.array(value, np.asarray(old).dtype)


_GIVEN = {
    "init": ("weights", "hyperparameters"),
    "step": ("weights", "gradients", "state", "step", "hyperparameters"),
}


def _leaves(value: Any, names: Sequence[str] = (), path: str = "") -> Iterator[tuple[str, Array]]:
    """The arrays and numbers in nested mappings, lists and tuples, by path."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, (), f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for position, part in enumerate(value):
            yield from _leaves(part, (), names[position] if names else f"{path}[{position}]")
    elif isinstance(value, np.ndarray):
        yield path, value
    elif isinstance(value, bool | int | float | None):
        yield path, np.array(repr(value))


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _at(state: Any, path: str) -> Any:
    """The slot of a path: under the whole path, or step by step; None if there is none."""
    if not isinstance(state, Mapping):
        return None
    if path in state:
        return state[path]
    child, dot, rest = path.partition(".")
    return _at(state.get(child), rest) if dot else None


def _with(state: Mapping[str, Any], path: str, value: Any) -> Mapping[str, Any]:
    """The state with another value at a path that it has; plain dictionaries, as ``init`` returned."""
    if path in state:
        return {**state, path: value}
    child, _, rest = path.partition(".")
    return {**state, child: _with(state[child], rest, value)}


def _different(reason: str) -> CandidateError:
    return CandidateError(Verdict.DIFFERENT, reason)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return f"shape {value.shape} and dtype {value.dtype}"
    return f"a {type(value).__name__}"
