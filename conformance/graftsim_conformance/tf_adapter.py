"""graftsim's own adapter for Keras on TensorFlow as a target: ``graftsim check graftsim_tf`` judges both classes here.

``Machines`` runs every machine of the golden cases by :func:`graftsim_tf.machine`. ``Grafts`` runs every golden graft
of optimizers that Keras has by :class:`graftsim_tf.Graft`, grafts of grafts too, under the dialects of Keras.

A step is traced once for all runs over a layout whose Python numbers are the same: these are parts of a graph. What may
change from step to step is a variable: a machine's hyperparameters, learning rates, and the scale of a graft.
"""

from __future__ import annotations

import functools
import importlib.metadata
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

import graftsim_tf
from graftsim import notation
from graftsim.layouts import Array, Layout
from graftsim_conformance import candidates, claim, recipes
from graftsim_conformance.cases import Gradients, parts
from graftsim_conformance.dialects import signed
from graftsim_conformance.keras_native import RATE, on_the_cpu
from graftsim_conformance.recipes import ROLES, Part, Values
from graftsim_conformance.verdicts import CandidateError, Verdict

if keras.backend.backend() != "tensorflow":
    raise ImportError(f"this adapter needs KERAS_BACKEND=tensorflow; it is {keras.backend.backend()}")

MODES = ("", "compiled", "xla")
"""Eagerly; as a ``tf.function``; as one that XLA compiles."""
FRAMEWORK = "keras.optimizers:"


class Told(LearningRateSchedule):  # type: ignore[misc]
    """A number that may be another one at each step; compiled steps read the variable."""

    def __init__(self, value: float) -> None:
        self.variable = tf.Variable(value, dtype=tf.float64)

    def __call__(self, step: Any) -> Any:
        return tf.convert_to_tensor(self.variable)


# -- a run -------------------------------------------------------------------------------------------------------------


def flat(tensors: Sequence[Any]) -> Array:
    """All numbers of some tensors or variables, in the dtype that they have."""
    return np.concatenate([np.asarray(keras.ops.convert_to_tensor(each)).reshape(-1) for each in tensors])


class _Stepper:
    """An optimizer over variables, whose step is traced once. A run begins by setting everything in it."""

    def __init__(self, optimizer: Any, layout: Layout, dtype: str, mode: str) -> None:
        self.optimizer, self.layout, self.dtype = optimizer, layout, dtype
        self.variables = [
            keras.Variable(np.zeros(shape), dtype=dtype, name=name)
            for name, shape in zip(layout.names, layout.shapes, strict=True)
        ]
        optimizer.build(self.variables)
        self._shown: list[Any] = []
        self._never_run: dict[Any, list[Array]] = {}
        if isinstance(optimizer, graftsim_tf.Graft):
            self._watch(optimizer)
        self._apply = tf.function(self._step, jit_compile=mode == "xla", autograph=False) if mode else self._step

    def _watch(self, graft: graftsim_tf.Graft) -> None:
        """Take note of the children's steps where they meet."""
        combine = graft.combine

        def seen(steps: list[list[Any]], indices: list[int], count: Any) -> list[Any]:
            self._shown = [self._of_all(dict(zip(indices, each, strict=True))) for each in steps]
            return combine(steps, indices, count)

        graft.combine = seen  # type: ignore[method-assign]

    def _of_all(self, steps: Mapping[int, Any]) -> list[Any]:
        """The step of every variable: 0 of one without a gradient."""
        return [
            steps[number] if number in steps else tf.zeros(variable.shape, variable.dtype)
            for number, variable in enumerate(self.variables)
        ]

    def begin(self, arguments: Values, make: Callable[[], Any], weights: Array) -> None:
        """Stand at these weights with the state of an optimizer that was never run.

        That of each ``arguments`` is kept: to make and build an optimizer takes longer than its steps.
        """
        key = tuple(arguments.items())
        if key not in self._never_run:
            fresh = make()
            fresh.build(self.variables)
            self._never_run[key] = [np.array(keras.ops.convert_to_tensor(variable)) for variable in fresh.variables]
        for variable, value in zip(self.optimizer.variables, self._never_run[key], strict=True):
            variable.assign(value)
        self.set(weights)

    def set(self, weights: Array) -> None:
        for variable, part in zip(self.variables, self.layout.unflatten(weights), strict=True):
            variable.assign(np.array(part))

    def step(self, gradients: Gradients) -> list[Any]:
        """The children's steps, where it is a graft."""
        given = [None if part is None else tf.constant(np.array(part)) for part in parts(self.layout, gradients)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Gradients do not exist for variables")
            found: list[Any] = self._apply(given)
        return found

    def _step(self, gradients: list[Any]) -> list[Any]:
        self.optimizer.apply(gradients, self.variables)
        return self._shown


class _Run:
    """What candidates share."""

    modes = MODES
    backend = "tensorflow"
    distributions = (*importlib.metadata.packages_distributions()["tensorflow"][:1], "keras")
    _stepper: _Stepper

    def __init__(self, machine: str, mode: str = "") -> None:
        self._expression, self._mode = machine, mode
        self.fused = bool(mode)
        """XLA fuses products and sums; TensorFlow's graph optimizer adds in another order in another program."""

    def weights(self) -> Array:
        return flat(self._stepper.variables)


# -- machines ----------------------------------------------------------------------------------------------------------


def _machine(expression: str, values: Values) -> tuple[Any, dict[str, Told]]:
    told = {path: Told(value) for path, value in values.items()}
    return graftsim_tf.machine(expression, **told), told


@functools.lru_cache(maxsize=8)
def _machines(
    expression: str, paths: tuple[str, ...], layout: Layout, dtype: str, mode: str
) -> tuple[_Stepper, dict[str, Told]]:
    """One object for all runs of a machine over a layout."""
    optimizer, told = _machine(expression, dict.fromkeys(paths, 0.5))
    return _Stepper(optimizer, layout, dtype, mode), told


class Machines(_Run):
    """A machine of the spec as a Keras optimizer."""

    machines = recipes.with_all_gradients()
    profiles = recipes.FLUSHES

    @staticmethod
    def lawful(machine: str, mode: str) -> bool:
        """Nowhere: a law takes half a second here, and a machine's equations are those of the spec, which the cases
        compare step by step. Laws are tried on ``Graft``, whose arithmetic is its own."""
        return False

    def start(self, layout: Layout, weights: Array, arguments: Values) -> None:
        dtype = str(weights.dtype)
        with on_the_cpu(dtype):
            self._stepper, self._told = _machines(self._expression, tuple(arguments), layout, dtype, self._mode)
            self._stepper.begin(arguments, lambda: _machine(self._expression, arguments)[0], weights)

    def step(self, gradients: Array, arguments: Values) -> Array:
        with on_the_cpu(str(gradients.dtype)):
            for path, value in arguments.items():
                self._told[path].variable.assign(value)
            self._stepper.step(gradients)
        return self.weights()

    def _slots(self) -> dict[str, Any]:
        machine = self._stepper.optimizer
        return dict(zip(machine._evaluated.program.slots, machine._slots, strict=True))

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        slots = self._slots()
        return {slot: flat([slots[path]]) for slot, path in names.items()}

    def write_state(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        self._stepper.set(weights)
        self._stepper.optimizer._iterations.assign(step)
        for path, variable in self._slots().items():
            variable.assign(state[path])

    def info(self) -> dict[str, Array]:
        return dict(self._stepper.optimizer.info)


# -- grafts ------------------------------------------------------------------------------------------------------------


def _optimizer(part: Part, arguments: Values) -> Any:
    """The optimizer of a part. Learning rates and scales can be set later."""
    if part.row is not None:
        return candidates.load(part.row.target)(**part.native(arguments))
    children = [_optimizer(child, arguments) for child in part.children]
    own = part.own(arguments)
    partition = str(part.instance.partition)
    return graftsim_tf.Graft(*children, partition=partition, eps=own["eps"], scale=Told(own["scale"]))


def _traced(part: Part, arguments: Values) -> tuple[Any, ...]:
    """The numbers that are constants of a traced step."""
    if part.row is not None:
        return tuple((keyword, value) for keyword, value in part.native(arguments).items() if keyword != RATE)
    return (part.own(arguments)["eps"], *(_traced(child, arguments) for child in part.children))


class _Kept:
    """Steppers of grafts by what is constant in them; the last few."""

    def __init__(self, most: int) -> None:
        self._most, self._found = most, dict[Any, _Stepper]()

    def get(self, key: Any, make: Callable[[], _Stepper]) -> _Stepper:
        found = self._found.pop(key, None) or make()
        self._found[key] = found
        if len(self._found) > self._most:
            del self._found[next(iter(self._found))]
        return found


_KEPT = _Kept(8)


class Grafts(_Run):
    """A graft of optimizers of Keras, or one of them alone."""

    machines = recipes.grafts(FRAMEWORK, recipes.with_all_gradients())
    """Those whose groups are of variables, axes, blocks or coordinates, as those of ``Graft`` are."""
    profiles = recipes.profiles(FRAMEWORK)
    """Those of Keras, which computes the steps of the children."""
    lawful = staticmethod(recipes.lawful(machines, compiled=True))

    def __init__(self, machine: str, mode: str = "") -> None:
        super().__init__(machine, mode)
        self._part = recipes.part(notation.parse(machine), FRAMEWORK)
        self.abilities = ("missing",) if self._part.counts_missing else ()

    def start(self, layout: Layout, weights: Array, arguments: Values) -> None:
        dtype, self._constants, self._steps = str(weights.dtype), _traced(self._part, arguments), list[Any]()
        key = (self._expression, self._constants, layout, dtype, self._mode)
        with on_the_cpu(dtype):
            made = functools.partial(_optimizer, self._part, arguments)
            self._stepper = _KEPT.get(key, lambda: _Stepper(made(), layout, dtype, self._mode))
            self._stepper.begin(arguments, made, weights)

    def step(self, gradients: Gradients, arguments: Values) -> Array:
        if _traced(self._part, arguments) != self._constants:
            reason = "of its hyperparameters only learning rates and scale may change during a run"
            raise CandidateError(Verdict.NOT_SUPPORTED, reason)
        with on_the_cpu(self._stepper.dtype):
            for part, optimizer in self._part.beside(self._stepper.optimizer):
                if part.row is None:
                    optimizer.scale.variable.assign(part.own(arguments)["scale"])
                else:
                    optimizer.learning_rate = part.native(arguments)[RATE]
            self._steps = self._stepper.step(gradients)
        return self.weights()

    def _states(self) -> Iterator[tuple[str, list[Any], float]]:
        """Path, variables and sign of each slot: one for each tensor, or the same for all."""
        for part, optimizer in self._part.beside(self._stepper.optimizer):
            owned = {variable.name: variable for variable in optimizer.variables}
            for slot, source in part.row.state.items() if part.row is not None else ():
                name, sign = signed(source)
                shared = owned.get(name, getattr(optimizer, name, None))
                found = [owned.get(f"{variable.name}_{name}", shared) for variable in self._stepper.variables]
                if all(variable is not None for variable in found):
                    yield part.prefix + slot, found, sign

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        held = {path: sign * flat(variables).astype(np.float64) for path, variables, sign in self._states()}
        return {slot: held[path] for slot, path in names.items() if path in held}

    def write_state(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        self._stepper.set(weights)
        for _, optimizer in self._part.beside(self._stepper.optimizer):
            optimizer._iterations.assign(step)
        for path, variables, sign in self._states():
            values = sign * state[path]
            if len(variables) > 1 and variables[0] is variables[-1]:
                variables[0].assign(recipes.shared(path, values))
                continue
            split = claim.split(values, [tuple(variable.shape) for variable in variables])
            for variable, part in zip(variables, split, strict=True):
                variable.assign(part)

    def info(self) -> dict[str, Array]:
        """The children's steps; norms and ratios too, where there is more than one coordinate in a group."""
        found = {f"{role}.delta": flat(steps) for role, steps in zip(ROLES, self._steps, strict=False)}
        info = self._stepper.optimizer.info if self._steps else None
        return found | ({name: getattr(info, name) for name in ("n_m", "n_d", "ratio")} if info else {})
