"""A program: a composed machine, flattened over a layout, with the kind and level of every value.

Everything that runs a machine (the engines, the bounds, the generated code, the documentation) reads this. Level 0
needs no reduction; level k needs k rounds of them; all reductions of a level are one exchange.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np

from graftsim.errors import GraftsimError, nearest
from graftsim.layouts import Layout
from graftsim.machines import Domain
from graftsim.notation import Instance
from graftsim.partitions import Partition


class Rank(IntEnum):
    """How many values there are: one a run or tensor, one a group, one a coordinate, one matrix a tensor."""

    SCALAR = 0
    GROUP = 1
    COORDINATE = 2
    MATRIX = 3


@dataclass(frozen=True)
class Kind:
    """The kind of a value. Scalars and group values are float64, one for each group of ``partition``; coordinate
    values have the program's dtype, and their ``partition`` is the global one and means nothing. A matrix has the
    program's dtype, one block of ``shape`` (two of rows, cols, size and 1) for each tensor, one block after another, in
    C order each."""

    rank: Rank
    partition: Partition
    shape: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = {Rank.COORDINATE: "", Rank.MATRIX: f" of {' by '.join(self.shape)}"}
        return f"{self.rank.name.lower()}{where.get(self.rank, f' over {self.partition.key}')}"

    def count(self, layout: Layout) -> int:
        """How many numbers a value of this kind has."""
        match self.rank:
            case Rank.COORDINATE:
                return layout.size
            case Rank.MATRIX:
                return sum(a * b for a, b in blocks(layout, self.shape))
        return self.partition.count


def blocks(layout: Layout, shape: tuple[str, ...]) -> list[tuple[int, int]]:
    """The shape of each tensor's block in a matrix value."""
    return [(tensor_constant(shape[0], of), tensor_constant(shape[1], of)) for of in layout.shapes]


def tensor_constant(name: str, shape: tuple[int, ...]) -> int:
    """A constant of a tensor of some shape (GS-language-tensor-constants)."""
    match name:
        case "rank":
            return len(shape)
        case "size":
            return math.prod(shape)
        case "rows":
            return shape[-2] if len(shape) > 1 else 1
        case "cols":
            return shape[-1] if shape else 1
    return 1


@dataclass(frozen=True, eq=False)
class Node:
    """An expression whose meaning needs no further look at kinds.

    Besides the operators of the language there are ``number``, ``read`` (``data`` is a name), ``constant`` (an
    array), ``lift`` (to a finer partition: index by ``data``), ``round`` (expand to coordinates, rounded to the
    dtype), ``widen`` (expand to coordinates in float64), ``mul_wide``, ``div_wide``, ``quotient_wide``: formed in
    float64, rounded to the dtype once (GS-arithmetic-group-times-coordinate), ``spread`` (a tensor's value to each
    number of its matrix, rounded: index by ``data``), and ``view`` (the same numbers as coordinates or as matrices).
    """

    operator: str
    arguments: tuple[Node, ...]
    kind: Kind
    data: Any = None

    def walk(self) -> Iterator[Node]:
        yield self
        for argument in self.arguments:
            yield from argument.walk()

    def reads(self) -> Iterator[str]:
        return (node.data for node in self.walk() if node.operator == "read")


@dataclass(frozen=True, eq=False)
class Statement:
    """``target = node``, computed at ``level``. ``text`` is the equation it comes from."""

    target: str
    node: Node
    level: int
    text: str


@dataclass(frozen=True, eq=False)
class Reduction:
    """``target = operator(operands)`` over the groups of ``partition``; known from ``level + 1`` on."""

    target: str
    operator: str
    operands: tuple[Node, ...]
    partition: Partition
    level: int
    text: str


@dataclass(frozen=True, eq=False)
class Parameter:
    """A hyperparameter of one machine of the program. ``node`` gives its value from ``step``."""

    path: str
    node: Node
    domain: Domain


@dataclass(frozen=True, eq=False)
class StateSlot:
    """A piece of state: ``old`` is read before it is assigned, ``new`` is what is kept after the step."""

    path: str
    kind: Kind
    counter: bool
    initial: Node
    old: str
    new: str
    advance_missing: bool

    def shape(self, layout: Layout) -> tuple[int]:
        return (self.kind.count(layout),)

    def dtype(self, program: Program) -> np.dtype[Any]:
        return program.dtype if self.kind.rank >= Rank.COORDINATE else np.dtype(np.float64)


@dataclass(frozen=True, eq=False)
class Program:
    """See the module's docstring. ``delta`` names the step that is added to the weights."""

    instance: Instance
    layout: Layout
    dtype: np.dtype[Any]
    parameters: Mapping[str, Parameter]
    slots: Mapping[str, StateSlot]
    statements: tuple[Statement, ...]
    reductions: tuple[Reduction, ...]
    info: Mapping[str, str]
    delta: str
    kinds: Mapping[str, Kind] = field(repr=False)
    levels: Mapping[str, int] = field(repr=False)

    @cached_property
    def depth(self) -> int:
        """The highest level, which is the number of exchanges a step."""
        return max((reduction.level + 1 for reduction in self.reductions), default=0)

    @cached_property
    def by_level(self) -> tuple[tuple[list[Statement], list[Reduction]], ...]:
        """The statements and the reductions of each level."""
        return tuple(
            (
                [statement for statement in self.statements if statement.level == level],
                [reduction for reduction in self.reductions if reduction.level == level],
            )
            for level in range(self.depth + 1)
        )

    def nodes(self) -> Iterator[Node]:
        """All nodes of hyperparameters, of state before the first step, of statements and of what is summed."""
        roots = [*(each.node for each in self.parameters.values()), *(each.initial for each in self.slots.values())]
        roots += [each.node for each in self.statements]
        roots += [operand for each in self.reductions for operand in each.operands]
        for root in roots:
            yield from root.walk()

    @cached_property
    def has_matrices(self) -> bool:
        """Whether a value is a matrix. Only the reference engine runs such programs, and no rank has half a matrix."""
        return any(node.kind.rank is Rank.MATRIX for node in self.nodes())

    def parameter(self, path: str) -> Parameter:
        if path not in self.parameters:
            raise GraftsimError(f"{self.instance.machine.name} has no {path!r}{nearest(path, self.parameters)}")
        return self.parameters[path]
