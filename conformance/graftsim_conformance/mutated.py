"""The reference engine as a candidate, with places where it can be made to go wrong.

Mistakes of equations are changes of a machine's text (``mutants.yaml``). What stands here are mistakes of *behaviour*:
how sums are taken, what a child is shown, which state is kept, what a checkpoint holds, which settings are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import compiler, notation
from graftsim.engine import Engine
from graftsim.layouts import Layout
from graftsim.machines import Library, library
from graftsim.program import Node, Program, Reduction
from graftsim_conformance.cases import Array, Gradients, settled

State = dict[str, Array]
Settings = dict[str, float]
Sums = Callable[[Reduction, list[Array], NDArray[np.bool_]], NDArray[np.float64] | None]


@dataclass(frozen=True)
class Changes:
    """What is done otherwise. ``state`` is given the engine, the state before and after; ``rest`` what is restored."""

    program: Callable[[Program], Program] = lambda program: program
    gradients: Callable[[ReferenceCandidate, Gradients], Gradients] = lambda _, gradients: gradients
    settings: Callable[[ReferenceCandidate, Settings], Settings] = lambda _, settings: settings
    state: Callable[[ReferenceCandidate, State, State], State] = lambda _, old, new: new
    moved: Callable[[ReferenceCandidate, Array], Array] = lambda _, delta: delta
    rest: Callable[[State, State], State] = lambda fresh, given: given
    sums: Sums | None = None
    abilities: tuple[str, ...] = ("missing",)


RIGHT = Changes()


class ReferenceCandidate:
    """The machine of an expression, run by the reference engine; it passes every case unless something is changed."""

    def __init__(self, machine: str, machines: Library | None = None, changes: Changes | None = None) -> None:
        self.machine, self.machines = machine, machines or library()
        self.changes = changes or RIGHT
        self.abilities = self.changes.abilities

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        instance = settled(notation.parse(self.machine, self.machines), arguments)
        self.program = self.changes.program(compiler.build(instance, layout, weights.dtype))
        self.engine = Engine(self.program)
        if self.changes is not RIGHT:
            self.engine.arithmetic = _Altered(self.engine.arithmetic, self.changes.sums)  # type: ignore[assignment]
        self.weights, self.taken = weights.copy(), 0
        self.state: State = self.engine.initial_state()
        self.history: list[Settings] = []
        self.lent: Gradients | None = None

    def step(self, gradients: Gradients, arguments: Mapping[str, Any]) -> Array:
        self.taken += 1
        self.history.append({path: value for path, value in arguments.items() if path in self.program.parameters})
        self.settings = self.changes.settings(self, self.history[-1])
        self.gradients = self.changes.gradients(self, gradients)
        found = self.engine.step(self.weights, self.gradients, self.state, self.taken, self.settings)
        self.state, self.shown = self.changes.state(self, self.state, found.state), found.info
        moved = self.changes.moved(self, found.delta)
        self.weights = found.weights if moved is found.delta else self.weights + moved
        return self.weights.copy()

    def read_state(self, names: Mapping[str, str]) -> State:
        return {slot: self.state[name].copy() for slot, name in names.items() if name in self.state}

    def write_state(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        self.weights, self.taken = weights.copy(), step
        self.state = {**self.state, **self.changes.rest(self.state, dict(state))}

    def info(self) -> State:
        return dict(self.shown)


class _Altered:
    """An arithmetic with other sums, and with roundings that the language does not have."""

    def __init__(self, inner: Any, sums: Sums | None) -> None:
        self.inner, self.sums = inner, sums

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def apply(self, operator: str, arguments: list[Array], kind: Any) -> Array:
        if operator in ROUNDINGS:
            return ROUNDINGS[operator](arguments[0])
        found: Array = self.inner.apply(operator, arguments, kind)
        return found

    def reduce(self, asked: list[tuple[Reduction, list[Array]]], present: NDArray[np.bool_]) -> list[Array]:
        right: list[Array] = self.inner.reduce(asked, present)
        if self.sums is None:
            return right
        wrong = [
            self.sums(reduction, values, present)
            if reduction.target.split(".")[-1] in ("n_m", "n_d") and not reduction.partition.single
            else None
            for reduction, values in asked
        ]
        return [a if b is None else b for a, b in zip(right, wrong, strict=True)]


def _through(dtype: Any) -> Callable[[Array], Array]:
    return lambda value: value.astype(dtype).astype(value.dtype)


def _cut_to_bfloat16(value: Array) -> Array:
    """The upper half of a float32."""
    return (value.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(value.dtype)


ROUNDINGS: Mapping[str, Callable[[Array], Array]] = {
    "float16": _through(np.float16),
    "bfloat16": _cut_to_bfloat16,
    "float32": _through(np.float32),
}


def rounded_to(dtype: str, name: str) -> Callable[[Program], Program]:
    """The program with a value rounded to a narrower dtype."""

    def change(program: Program) -> Program:
        statements = tuple(
            dataclasses.replace(row, node=Node(dtype, (row.node,), row.node.kind))
            if row.target.split(".")[-1] == name
            else row
            for row in program.statements
        )
        return dataclasses.replace(program, statements=statements)

    return change


def seen_by_direction(name: str, made_of: Callable[[Node, Program], Node]) -> Callable[[Program], Program]:
    """The program in which D reads ``w`` or ``g`` otherwise."""

    def change(program: Program) -> Program:
        def other(node: Node) -> Node:
            if node.operator == "read" and node.data == name:
                return made_of(node, program)
            return dataclasses.replace(node, arguments=tuple(map(other, node.arguments)))

        def rewritten(row: Any) -> Any:
            if not row.target.startswith("direction."):
                return row
            if isinstance(row, Reduction):
                return dataclasses.replace(row, operands=tuple(map(other, row.operands)))
            return dataclasses.replace(row, node=other(row.node))

        return dataclasses.replace(
            program,
            statements=tuple(map(rewritten, program.statements)),
            reductions=tuple(map(rewritten, program.reductions)),
        )

    return change


def magnitudes_step(program: Program) -> Node:
    return Node("read", (), program.kinds["w"], "magnitude.delta")


def by_group(over: Callable[[Array], float]) -> Sums:
    """Norms taken another way, of the values of each group that take part, in order."""

    def sums(reduction: Reduction, values: list[Array], present: NDArray[np.bool_]) -> NDArray[np.float64]:
        found, groups = values[0][present], reduction.partition.group_of[present]
        with np.errstate(all="ignore"):
            each = [over(found[groups == group]) for group in range(reduction.partition.count)]
        return np.array(each, np.float64)

    return sums


def last_group_for_all(reduction: Reduction, values: list[Array], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    each = by_group(lambda x: float(np.linalg.norm(x.astype(np.float64))))(reduction, values, present)
    assert each is not None
    return np.full(each.shape, each[-1]) if each.size else each


def running_sum_in(dtype: Any) -> Callable[[Array], float]:
    """A sum of squares that is held in a narrow dtype."""

    def norm(values: Array) -> float:
        total = dtype(0)
        for value in values.astype(dtype):
            total = dtype(total + value * value)
        return float(np.sqrt(total))

    return norm


def of(child: str, state: Mapping[str, Array]) -> State:
    """A child's part of the state."""
    return {path: value for path, value in state.items() if path.startswith(f"{child}.")}


def counters(candidate_state: Mapping[str, Array]) -> State:
    return {path: value for path, value in candidate_state.items() if path.split(".")[-1] == "t"}


def taken_again(child: str) -> Callable[[ReferenceCandidate, State, State], State]:
    """A child whose state is updated twice with the same gradient."""

    def state(run: ReferenceCandidate, old: State, new: State) -> State:
        again = run.engine.step(run.weights, run.gradients, new, run.taken, run.settings)
        return {**new, **of(child, again.state)}

    return state


def in_dtype(dtype: Any) -> Callable[[ReferenceCandidate, State, State], State]:
    def state(run: ReferenceCandidate, old: State, new: State) -> State:
        return {path: value.astype(dtype).astype(value.dtype) for path, value in new.items()}

    return state
