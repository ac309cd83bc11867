"""What a candidate that speaks the spec's own names is told of a machine; no dialect stands between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from graftsim import compiler
from graftsim.layouts import Array, Layout, Shape
from graftsim.notation import Instance
from graftsim.partitions import Partition
from graftsim.program import Kind, Program, Rank, blocks
from graftsim_conformance.cases import settled


def text(instance: Instance) -> str:
    """The expression in the one form of GS-protocol-machine.

    >>> from graftsim import notation
    >>> text(notation.parse("adam(lr=0.1)#sgd"))
    'graft(adam(eps_placement=corrected, missing=hold), sgd, partition=tensor)'
    """
    parts = [text(child) for child in instance.children.values()]
    parts += [f"{name}={instance.option(name)}" for name in instance.machine.options]
    parts += [f"partition={instance.partition}"] if instance.partition else []
    return f"{instance.machine.name}({', '.join(parts)})" if parts else instance.machine.name


def program_of(instance: Instance, layout: Layout, dtype: str, hyperparameters: Mapping[str, float]) -> Program:
    """The program of a run that starts with these hyperparameters."""
    return compiler.build(settled(instance, hyperparameters), layout, dtype)


def partitions(program: Program) -> dict[str, Partition]:
    """The partitions over which the program reduces, keeps state or has tables, by their text."""
    kinds = [slot.kind for slot in program.slots.values()] + [kind for kind, _ in tables(program).values()]
    used = [reduction.partition for reduction in program.reductions]
    used += [kind.partition for kind in kinds if not by_tensor(kind)]
    return {partition.key: partition for partition in used}


def tables(program: Program) -> dict[str, tuple[Kind, Array]]:
    """The hyperparameters that have one value for each group or coordinate, by path."""
    nodes = {path: parameter.node for path, parameter in program.parameters.items()}
    return {path: (node.kind, node.data) for path, node in nodes.items() if node.operator == "constant"}


def by_tensor(kind: Kind) -> bool:
    """Whether a value of the kind has an array for each tensor; others have one number for each group."""
    return kind.rank in (Rank.COORDINATE, Rank.MATRIX)


def shapes(kind: Kind, layout: Layout) -> tuple[Shape, ...]:
    """The shape of each tensor's array in a value :func:`by_tensor`."""
    return tuple(blocks(layout, kind.shape)) if kind.rank is Rank.MATRIX else layout.shapes


def split(flat: Array, shapes: Sequence[Shape]) -> list[Array]:
    """Arrays of these shapes that lie one after another in a flat one."""
    parts, start = [], 0
    for shape in shapes:
        parts.append(flat[start : start + math.prod(shape)].reshape(shape))
        start += math.prod(shape)
    return parts
