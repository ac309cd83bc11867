"""Golden cases: a machine over a stream of gradients, what it is there for, and what stands after each step.

How a case stands in a file is the affair of :mod:`graftsim_conformance.case_files`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import compiler, notation
from graftsim.engine import Engine
from graftsim.expressions import Number
from graftsim.layouts import Layout
from graftsim.notation import Instance
from graftsim.program import Kind, Program, Rank, blocks

Array = NDArray[Any]
Gradients = Array | Sequence[Array | None]
"""The gradients of a step: flat, or where some are missing one array a tensor and None for each that is missing."""


@dataclass(frozen=True)
class After:
    """What stands after a step: flat weights, and path to array for state and info."""

    weights: Array
    state: Mapping[str, Array]
    info: Mapping[str, Array]


@dataclass(frozen=True)
class Case:
    """A golden trajectory.

    ``machine`` is an expression with options and tables of hyperparameters only; ``hyperparameters`` has, for each
    step, every other value that the machine reads, by path. Arrays are flat, in the layout's order. ``taken`` steps
    came before the first one here; ``state`` is that from which it starts, the machine's initial one where None.
    ``rules`` are the rules of the spec that the case tests, and ``about`` names the mistake that it is there for.
    """

    name: str
    machine: str
    dtype: str
    layout: Layout
    weights: Array
    hyperparameters: Sequence[Mapping[str, float]]
    gradients: Sequence[Gradients]
    after: Sequence[After] = ()
    rules: tuple[str, ...] = ()
    about: str = ""
    taken: int = 0
    state: Mapping[str, Array] | None = None

    def answered(self, after: Sequence[After]) -> Case:
        """The case with what stands after its steps; what was built for it is kept."""
        found = dataclasses.replace(self, after=after)
        found.__dict__["program"] = self.program
        return found

    @cached_property
    def needs(self) -> frozenset[str]:
        """What a candidate must be able to do: take ``missing`` gradients, ``restore`` a state."""
        missing = any(not isinstance(row, np.ndarray) for row in self.gradients)
        restored = self.taken > 0 or self.state is not None
        return frozenset(name for name, needed in (("missing", missing), ("restore", restored)) if needed)

    @cached_property
    def program(self) -> Program:
        """The program, with the first step's hyperparameters in it: the initial state is made of them."""
        return compiler.build(settled(notation.parse(self.machine), self.hyperparameters[0]), self.layout, self.dtype)

    @cached_property
    def start(self) -> Mapping[str, Array]:
        """The state before the first step."""
        return Engine(self.program).initial_state() if self.state is None else self.state


def parts(layout: Layout, gradients: Gradients) -> list[Array | None]:
    """One array a tensor, and None for each that is missing."""
    return list(layout.unflatten(gradients)) if isinstance(gradients, np.ndarray) else list(gradients)


def settled(instance: Instance, values: Mapping[str, float], prefix: str = "") -> Instance:
    """The instance with hyperparameters set, by path (``inner.lr``), where it has them."""
    own = {name: Number(values[prefix + name]) for name in instance.machine.hyperparameters if prefix + name in values}
    children = {name: settled(child, values, f"{prefix}{name}.") for name, child in instance.children.items()}
    return dataclasses.replace(instance, settings={**instance.settings, **own}, children=children)


def without_tables(instance: Instance) -> Instance:
    """The instance without hyperparameters of one value a group or coordinate, which a case has in its expression."""
    settings = {name: value for name, value in instance.settings.items() if not isinstance(value, Mapping | list)}
    children = {name: without_tables(child) for name, child in instance.children.items()}
    return dataclasses.replace(instance, settings=settings, children=children)


def in_dtype(case: Case, dtype: str) -> Case:
    """The case posed in another dtype, without its answer. The streams' numbers are exact in float32 too."""
    if dtype == case.dtype:
        return case
    with np.errstate(over="ignore"):
        gradients: list[Gradients] = [
            row.astype(dtype)
            if isinstance(row, np.ndarray)
            else [None if part is None else part.astype(dtype) for part in row]
            for row in case.gradients
        ]
        weights = case.weights.astype(dtype)
        state = case.state and {
            path: value.astype(dtype) if case.program.slots[path].kind.rank >= Rank.COORDINATE else value
            for path, value in case.state.items()
        }
    return dataclasses.replace(case, dtype=dtype, weights=weights, gradients=gradients, state=state, after=())


def read_parameters(program: Program) -> list[str]:
    """The paths of the hyperparameters that some equation or initial value reads, in the program's order."""
    nodes = [statement.node for statement in program.statements]
    nodes += [operand for reduction in program.reductions for operand in reduction.operands]
    nodes += [slot.initial for slot in program.slots.values()]
    read = {name for node in nodes for name in node.reads()}
    return [path for path in program.parameters if path in read]


def given_parameters(program: Program) -> list[str]:
    """Those of them that a case gives at each step; a table of one value a group or coordinate is in the expression."""
    return [path for path in read_parameters(program) if program.parameters[path].node.operator != "constant"]


def sizes(layout: Layout, kind: Kind) -> tuple[int, ...]:
    """How many numbers of each tensor a value of coordinates or of matrices has."""
    if kind.rank is Rank.COORDINATE:
        return layout.sizes
    return tuple(rows * columns for rows, columns in blocks(layout, kind.shape))
