"""Any machine of the spec as an optax transformation, interpreted from its equations."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import graftsim
from graftsim import notation
from graftsim.interpreter import evaluate
from graftsim.layouts import Layout
from graftsim.program import Kind, Program, Rank, StateSlot
from graftsim_jax.arithmetic import Arithmetic
from graftsim_jax.graft import check_leaves
from graftsim_jax.norms import wide
from graftsim_jax.partitions import Tree, names_of

Schedule = Callable[[jax.Array], Any]


class MachineState(NamedTuple):
    """The state of a machine: the number of steps done, its slots and the last step's info, by path.

    A slot of coordinates is a tree like the parameters, a counter int32 with one number a tensor, and a slot of scalars
    or group values a float64 vector. Where JAX's 64-bit mode is off such a vector is kept as its bits, uint32 of shape
    (groups, 2), so that nothing is lost; ``numpy.asarray(slot).view("float64")[:, 0]`` reads it. Info is recorded in
    JAX's default float.
    """

    count: jax.Array
    slots: dict[str, Any]
    info: dict[str, Any]


def machine(expression: str, **hyperparameters: Any) -> optax.GradientTransformationExtraArgs:
    """A machine of the spec, such as ``machine("lamb", lr=1e-3)`` or ``machine("adam(lr=1e-3)#sgd")``.

    Its equations are interpreted on the leaves: coordinates in float32, or in float64 if a leaf is float64; scalars,
    group values and norms in float64 inside the step. Leaves of 16 bits are converted before the step and the update
    is rounded after it; their state is float32. The update is the machine's delta, to be added to the parameters.

    Args:
        expression: a machine's name, or an expression in the notation of ``spec/language.md``.
        hyperparameters: by name, or by path as in ``**{"magnitude.lr": 0.1}``: a number, an array, a schedule (a
            function of the number of steps done, as in optax); for a machine that is given by its name also a
            schedule as text (``"0.1 * cosine_annealing(steps=100)"``), an option, or numbers for each group.

    The domain of a number is checked here. Arrays and schedules are values of a compiled step, which raises nothing:
    outside its domain a hyperparameter means what the equations make of it, such as a step uphill for lr < 0.

    ``optax.inject_hyperparams`` reads the names of arguments from a signature, so it is given a function that has
    them: ``inject_hyperparams(lambda lr: machine("adam", lr=lr))(lr=0.1)``.

    Raises:
        ValueError: an unknown machine, hyperparameter or option, a number outside its domain; a machine that reads
            the weights got ``params=None``.
        TypeError: a leaf is not real and floating; hyperparameters came as a mapping, as inject_hyperparams gives them.
    """
    if isinstance(hyperparameters.get("hyperparameters"), Mapping):
        raise TypeError(
            "hyperparameters must be keyword arguments; received a mapping: for inject_hyperparams name them, as in "
            'inject_hyperparams(lambda lr: machine("adam", lr=lr))(lr=0.1)'
        )
    texts = {name: value for name, value in hyperparameters.items() if isinstance(value, str | Mapping | list)}
    instance = notation.parse(_written(expression, texts))
    given: dict[str, Schedule] = {}
    for path, value in hyperparameters.items():
        if path in texts:
            continue
        number = float(value) if isinstance(value, numbers.Real | np.generic) else None
        instance = notation.with_number(instance, path, number)
        if number is None:
            given[path] = value if callable(value) else functools.partial(_constant, value)

    @functools.lru_cache(maxsize=8)
    def program_of(tensors: tuple[tuple[str, tuple[int, ...]], ...], dtype: str) -> Program:
        return graftsim.build(instance, Layout(tensors), dtype)

    def prepared(tree: Tree) -> Program:
        check_leaves(tree)
        leaves = jax.tree.leaves(tree)
        tensors = zip(names_of(tree), (tuple(jnp.shape(leaf)) for leaf in leaves), strict=True)
        dtype = "float64" if any(jnp.result_type(leaf) == np.float64 for leaf in leaves) else "float32"
        return program_of(tuple(tensors), dtype)

    def init(params: Tree) -> MachineState:
        program, default = prepared(params), jnp.result_type(float)
        with jax.enable_x64(True):
            run = _Run(program, given, jnp.zeros((), jnp.int32), params, default)
            found = {path: run.full(evaluate(slot.initial, run.values, run), slot.kind)
                     for path, slot in program.slots.items()}  # fmt: skip
            info = {
                path: run.full(run.constant(np.zeros(1), program.kinds[name]), program.kinds[name])
                for path, name in program.info.items()
            }
        return MachineState(jnp.zeros((), jnp.int32), run.slots(found), run.infos(info))

    def update(
        updates: Tree, state: MachineState, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, MachineState]:
        del extra
        program, default = prepared(updates), jnp.result_type(float)
        if params is None and any("w" in node.reads() for node in _nodes(program)):
            raise ValueError(
                f"{expression} reads the weights: call update(updates, state, params); received params=None"
            )
        with jax.enable_x64(True):
            run = _Run(program, given, state.count, updates, default)
            run.values["g"] = run.leaves(updates)
            run.values["w"] = run.values["g"] if params is None else run.leaves(params)
            run.values |= run.opened(state.slots)
            for statements, reductions in program.by_level:
                for statement in statements:
                    run.values[statement.target] = evaluate(statement.node, run.values, run)
                asked = [(r, [evaluate(operand, run.values, run) for operand in r.operands]) for r in reductions]
                for (reduction, _), value in zip(asked, run.reduce(asked, run.present), strict=True):
                    run.values[reduction.target] = value
            delta = run.full(run.values[program.delta], program.kinds["w"])
            slots = {path: run.full(run.values[slot.new], slot.kind) for path, slot in program.slots.items()}
            info = {path: run.full(run.values[name], program.kinds[name]) for path, name in program.info.items()}
        moved = [part.astype(leaf.dtype) for part, leaf in zip(delta, jax.tree.leaves(updates), strict=True)]
        done = MachineState(optax.safe_increment(state.count), run.slots(slots), run.infos(info))
        return jax.tree.unflatten(jax.tree.structure(updates), moved), done

    return optax.GradientTransformationExtraArgs(init, update)


class _Run(Arithmetic):
    """The values of one step, and how they are kept between steps."""

    def __init__(
        self, program: Program, given: Mapping[str, Schedule], count: jax.Array, tree: Tree, default: Any
    ) -> None:
        super().__init__(program)
        self.program, self.tree, self.present = program, tree, np.ones(program.layout.size, bool)
        self.default = default
        self.values: dict[str, Any] = {"step": wide(count).reshape(1) + 1.0}
        for path, parameter in program.parameters.items():
            self.values[path] = (
                wide(jnp.asarray(given[path](count))).reshape(1)
                if path in given
                else evaluate(parameter.node, self.values, self)
            )

    def leaves(self, tree: Tree) -> list[jax.Array]:
        return [jnp.asarray(leaf).astype(self.dtype) for leaf in jax.tree.leaves(tree)]

    def slots(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Values of state as they are kept."""
        return {path: self.slot(value, self.program.slots[path]) for path, value in found.items()}

    def slot(self, value: Any, slot: StateSlot) -> Any:
        if slot.kind.rank >= Rank.COORDINATE:
            return self.arranged(value, slot.kind)
        if slot.counter:
            return value.astype(np.int32)
        return value if self.default == np.float64 else lax.bitcast_convert_type(value, np.uint32)

    def opened(self, slots: Mapping[str, Any]) -> dict[str, Any]:
        """Values of state as equations read them."""
        return {slot.old: self.open(slots[path], slot) for path, slot in self.program.slots.items()}

    @staticmethod
    def open(kept: Any, slot: StateSlot) -> Any:
        if slot.kind.rank >= Rank.COORDINATE:
            return jax.tree.leaves(kept)
        return lax.bitcast_convert_type(kept, np.float64) if kept.dtype == np.uint32 else wide(kept)

    def infos(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Values of info as they are recorded."""
        kinds = {path: self.program.kinds[name] for path, name in self.program.info.items()}
        return {
            path: self.arranged(value, kinds[path])
            if kinds[path].rank >= Rank.COORDINATE
            else lax.stop_gradient(value).astype(self.default)
            for path, value in found.items()
        }

    def arranged(self, value: list[jax.Array], kind: Kind) -> Any:
        return (
            jax.tree.unflatten(jax.tree.structure(self.tree), value) if kind.rank is Rank.COORDINATE else tuple(value)
        )


def _constant(value: Any, count: jax.Array) -> Any:
    return value


def _nodes(program: Program) -> list[Any]:
    return [s.node for s in program.statements] + [operand for r in program.reductions for operand in r.operands]


def _written(expression: str, texts: Mapping[str, Any]) -> str:
    """A name with what only the notation can say."""
    if not texts:
        return expression
    if not expression.strip().isidentifier():
        raise ValueError(
            f"{min(texts)} must stand inside the expression {expression!r}, as in adam(lr=...); by keyword it can be a "
            "number or a schedule"
        )
    settings = ", ".join(f"{name}={value if isinstance(value, str) else repr(value)}" for name, value in texts.items())
    return f"{expression}({settings})"
