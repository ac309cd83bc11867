"""The program of one rank: the same levels on a shard of the coordinates.

A shard keeps every tensor of the model, with as many coordinates as lie in it, so that tensors and groups have the same
numbers on all ranks. Scalars and the values of groups are known on every rank. Where group i is coordinate i, a group
lives where its coordinate does.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim.partitions import Index, Partition
from graftsim.program import Kind, Node, Program, Rank, blocks
from graftsim.ranks import cuts
from graftsim.ranks.cuts import Cut

EVERYWHERE = ("global", "tensor")
"""Partitions whose values every rank has, even if each group is one coordinate: scalars and counters are theirs."""


def default_cut(program: Program, ranks: int) -> Cut:
    """Balanced, cut anywhere; at the ends of tensors where the program has matrices."""
    return cuts.whole_tensors(program.layout, ranks) if program.has_matrices else cuts.balanced(program.layout, ranks)


class Sharding:
    """A program, cut.

    Args:
        program: for all coordinates.
        cut: where its coordinates are cut; at the ends of tensors if the program has matrices.

    Raises:
        GraftsimError: a cut through tensors of a program with matrices.
    """

    def __init__(self, program: Program, cut: Cut) -> None:
        if cut.tensors is None and program.has_matrices:
            raise GraftsimError(
                f"{program.instance} has matrices, so each tensor must be whole on one rank (GS-matrix-place); "
                "leave the cut to graftsim"
            )
        self.program, self.cut = program, cut

    @cached_property
    def local(self) -> frozenset[str]:
        """The keys of the partitions whose groups are coordinates and live with them.

        Such a value can be read at coordinates and by other such partitions only, so a partition that is lifted to one
        that every rank has is one of those too.
        """
        partitions = _partitions(self.program)
        found = {key for key, partition in partitions.items() if partition.single and key not in EVERYWHERE}
        lifts = [node for node in self.program.nodes() if node.operator == "lift"]
        while True:
            known = {lift.arguments[0].kind.partition.key for lift in lifts if lift.kind.partition.key not in found}
            if not found & known:
                return frozenset(found)
            found -= known

    def bounds(self, kind: Kind) -> tuple[int, ...] | None:
        """Where each rank's numbers of a value begin, and at last where all end; None where every rank has all."""
        if kind.rank is Rank.COORDINATE or (kind.rank < Rank.COORDINATE and kind.partition.key in self.local):
            return self.cut.bounds
        if kind.rank is Rank.MATRIX and self.cut.tensors is not None:
            ends = np.cumsum([0, *(a * b for a, b in blocks(self.program.layout, kind.shape))])
            return tuple(int(ends[tensor]) for tensor in self.cut.tensors)
        return None

    def place(self, kind: Kind, rank: int) -> slice:
        """Which numbers of a value a rank has."""
        bounds = self.bounds(kind)
        return slice(None) if bounds is None else slice(bounds[rank], bounds[rank + 1])

    def layout(self, rank: int) -> Layout:
        """All tensors: whole ones in their shape, parts as vectors; of one that lies elsewhere nothing is left."""
        start, stop = self.cut.bounds[rank : rank + 2]
        owned = range(*self.cut.tensors[rank : rank + 2]) if self.cut.tensors else None
        tensors = []
        for number, (name, shape, place) in enumerate(self.program.layout.slices()):
            size = max(0, min(stop, place.stop) - max(start, place.start))
            whole = number in owned if owned is not None else size == place.stop - place.start
            tensors.append((name, shape if whole else (size,) if size else (0, 0)))
        return Layout(tuple(tensors))

    def of_rank(self, rank: int) -> Program:
        """The program of a rank's shard."""
        return _Shard(self, rank).program()


class _Shard:
    def __init__(self, whole: Sharding, rank: int) -> None:
        self.whole, self.rank, self.layout = whole, rank, whole.layout(rank)
        self.start, self.stop = whole.cut.bounds[rank : rank + 2]
        self.partitions = {key: self.partition(value) for key, value in _partitions(whole.program).items()}

    def program(self) -> Program:
        program = self.whole.program
        return replace(
            program,
            layout=self.layout,
            parameters={
                path: replace(parameter, node=self.node(parameter.node))
                for path, parameter in program.parameters.items()
            },
            slots={
                path: replace(slot, kind=self.kind(slot.kind), initial=self.node(slot.initial))
                for path, slot in program.slots.items()
            },
            statements=tuple(replace(each, node=self.node(each.node)) for each in program.statements),
            reductions=tuple(
                replace(
                    each,
                    operands=tuple(map(self.node, each.operands)),
                    partition=self.partitions[each.partition.key],
                )
                for each in program.reductions
            ),
            kinds={name: self.kind(kind) for name, kind in program.kinds.items()},
        )

    def partition(self, whole: Partition) -> Partition:
        if whole.key not in self.whole.local:
            group_of = whole.group_of[self.start : self.stop]
            return replace(whole, layout=self.layout, group_of=group_of, shared=True)
        numbers = np.arange(self.stop - self.start)
        tensor_of = np.repeat(np.arange(len(self.layout.tensors)), self.layout.sizes)
        pairs = np.stack([numbers, tensor_of], axis=1)
        return Partition(
            whole.key, self.layout, len(numbers), numbers, pairs, lambda group: whole.label(group + self.start)
        )

    def kind(self, kind: Kind) -> Kind:
        return replace(kind, partition=self.partitions[kind.partition.key])

    def node(self, node: Node) -> Node:
        data = node.data
        match node.operator:
            case "constant":
                data = self.part(data, node.kind)
            case "lift":
                data = self.lifted(data, node)
            case "spread":
                data = self.part(data, node.kind)
        return replace(node, arguments=tuple(map(self.node, node.arguments)), kind=self.kind(node.kind), data=data)

    def part(self, data: Array, kind: Kind) -> Array:
        return data[self.whole.place(kind, self.rank)]

    def lifted(self, index: Index, node: Node) -> Index:
        """The index of a lift; between two partitions that live with their coordinates it counts from the shard's."""
        coarse = node.arguments[0].kind.partition.key
        return self.part(index, node.kind) - (self.start if coarse in self.whole.local else 0)


def _partitions(program: Program) -> dict[str, Partition]:
    """Every partition that a value or a sum of the program has, by key."""
    kinds = [*program.kinds.values(), *(slot.kind for slot in program.slots.values())]
    kinds += [node.kind for node in program.nodes()]
    found = {kind.partition.key: kind.partition for kind in kinds}
    return found | {each.partition.key: each.partition for each in program.reductions}
