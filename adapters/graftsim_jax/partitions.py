"""Which coordinates of a pytree share a norm (``spec/partitions.md``).

A partition is an expression of the spec, ``"fan_out"``, a pytree of labels, or a function from the tree to one.
:func:`groups_of` makes :class:`Groups` of it for a given tree: for each leaf a :class:`Cut`, which says how the leaf is
divided, and a *piece*, the array of group values that it belongs to. Leaves with a common piece are pooled.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from graftsim import partitions
from graftsim.layouts import Layout, Shape

Tree = Any
Partition = str | Tree | Callable[[Tree], Tree]

FAN_OUT = "axis(-1)"
"""Flax, Haiku and plain JAX keep a layer's kernel as (..., inputs, outputs)."""


@dataclass(frozen=True, eq=False)
class Index:
    """The group of each coordinate of one array, in C order, of ``count`` groups."""

    group_of: NDArray[np.int64]
    count: int


@dataclass(frozen=True)
class Cut:
    """How one array is divided into groups: the axes over which a group reaches, or runs of ``block`` numbers, or an
    index for what has no such form."""

    axes: tuple[int, ...]
    block: int = 0
    index: Index | None = None

    def view(self, x: jax.Array) -> jax.Array:
        """The array in the shape in which its groups are summed: itself, or (blocks, block) with zeros at the end.

        It is made before anything is float64: transposed slices and padding, which derivatives need, ask for zeros of
        the default precision.
        """
        if not self.block:
            return x
        return jnp.pad(x.reshape(-1), (0, -x.size % self.block)).reshape(-1, self.block)

    def unview(self, x: jax.Array, shape: Shape) -> jax.Array:
        """A viewed array in its own shape."""
        return x.reshape(-1)[: math.prod(shape)].reshape(shape) if self.block else x

    def kept(self, shape: Shape) -> Shape:
        """The shape of the group values of an array of this shape."""
        if self.block:
            return (-(-math.prod(shape) // self.block),)
        return tuple(n for axis, n in enumerate(shape) if axis not in self.axes)

    def whole(self, shape: Shape) -> bool:
        """Whether an array of this shape is one group."""
        return not self.block and self.index is None and len(self.axes) == len(shape)

    def total(self, viewed: jax.Array) -> jax.Array:
        """The sum of each group: shape () for a whole array, (n_k,) for axis k, (blocks,), or x's own shape."""
        if self.index:
            return jax.ops.segment_sum(viewed.reshape(-1), self.index.group_of, self.index.count)
        axes = (1,) if self.block else self.axes
        return jnp.sum(viewed, axis=axes) if axes else viewed

    def spread(self, values: jax.Array, shape: Shape) -> jax.Array:
        """The value of each coordinate's group, in a shape that broadcasts to the view of an array of this shape."""
        if self.index:
            return values[self.index.group_of].reshape(shape)
        return jnp.expand_dims(values, (1,) if self.block else self.axes)


@dataclass(frozen=True)
class Groups:
    """The groups of one tree: leaf i is divided by ``cuts[i]`` and its values stand in piece ``pieces[i]``."""

    cuts: tuple[Cut, ...]
    pieces: tuple[int, ...]
    pooled: tuple[str, ...] | None = None
    """Names of the pieces where each is one group of whole leaves; None where piece i belongs to leaf i alone."""
    single: bool = False
    """Whether each coordinate is a group."""

    @property
    def count(self) -> int:
        """The number of pieces."""
        return len(self.cuts) if self.pooled is None else len(self.pooled)

    def split(self, values: jax.Array, shapes: Sequence[Shape]) -> list[jax.Array]:
        """The pieces that a vector of all group values holds, in the order of the spec."""
        if any(cut.index for cut in self.cuts):
            return [values]
        if self.pooled is not None:
            return [values[i] for i in range(self.count)]
        kept = [cut.kept(shape) for cut, shape in zip(self.cuts, shapes, strict=True)]
        ends = np.cumsum([math.prod(shape) for shape in kept], dtype=int)
        return [values[end - math.prod(shape) : end].reshape(shape) for end, shape in zip(ends, kept, strict=True)]

    def arrange(self, pieces: Sequence[Any], tree: Tree) -> Tree:
        """Pieces for people: by name where leaves are pooled, else in the structure of the tree."""
        if self.pooled is not None:
            return dict(zip(self.pooled, pieces, strict=True))
        return jax.tree.unflatten(jax.tree.structure(tree), pieces)


def check(partition: Partition) -> None:
    """Refuse an expression that names no partition, before there are parameters.

    Raises:
        ValueError: it names none, or its arguments do not fit.
    """
    if isinstance(partition, str):
        name, _, _ = partitions.call(expression(partition))
        if name == "sets":
            raise ValueError(
                f"a graft's groups are made of whole leaves, axes or blocks; received {partition!r}: give a pytree of "
                "labels, or use machine('graft(..., partition=sets(...))')"
            )
        if name != "pattern":  # which speaks of leaves by name
            partitions.build(expression(partition), Layout(()))


def expression(partition: str) -> str:
    """The spec's expression of a partition's name."""
    return FAN_OUT if partition == "fan_out" else partition


def groups_of(partition: Partition, tree: Tree) -> Groups:
    """The groups of a tree's leaves.

    Raises:
        ValueError: an axis that a leaf does not have, groups that overlap or leave out a leaf, labels that do not fit.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
    if isinstance(partition, str):
        return groups_in(expression(partition), names_of(tree), shapes)
    labels = labels_of(partition, tree)
    return _pooled(shapes, labels, sorted(set(labels)))


def groups_in(text: str, names: Sequence[str], shapes: Sequence[Shape]) -> Groups:
    """The groups of named arrays under an expression of the spec."""
    match partitions.call(text):
        case ("tensor", _, _):
            return _local(map(_all, shapes))
        case ("global", _, _):
            return _pooled(shapes, ["all"] * len(shapes), ["all"])
        case ("pattern", _, patterns):
            return _pooled(shapes, _matches(names, patterns, text), list(patterns))
        case ("coordinate", _, _):
            return _local([Cut(()) for _ in shapes], single=True)
        case ("row", _, _):
            return _local(_along(0, names, shapes))
        case ("axis", (int() as k,), _):
            return _local(_along(k, names, shapes))
        case ("block", (int() as n,), _) if n > 0:
            return _local([Cut((), block=n) for _ in shapes])
        case ("pool", axes, _):
            ranks = map(len, shapes)
            return _local([Cut(tuple(sorted({k % n for k in axes if -n <= k < n}))) for n in ranks])
    return by_index(partitions.build(text, Layout.of(dict(zip(names, shapes, strict=True)))))


def by_index(partition: partitions.Partition) -> Groups:
    """Groups of any form, as one piece with a value for each group."""
    parts = np.split(partition.group_of, partition.layout.offsets[1:-1])
    cuts = tuple(Cut((), index=Index(part, partition.count)) for part in parts[: len(partition.layout.tensors)])
    return Groups(cuts, (0,) * len(cuts), ("groups",))


def names_of(tree: Tree) -> list[str]:
    """The names of a tree's leaves, such as ``dense.kernel``: keys, attributes and positions joined by dots."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator=".") or "all" for path, _ in paths]


def group_names(partition: Partition, tree: Tree) -> tuple[str, ...]:
    """The names of all groups in the order in which a trajectory lists them."""
    if not isinstance(partition, str):
        return groups_of(partition, tree).pooled or ()
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
    return partitions.build(expression(partition), Layout.of(dict(zip(names_of(tree), shapes, strict=True)))).names


def labels_of(partition: Tree | Callable[[Tree], Tree], tree: Tree) -> list[str]:
    """The label of each leaf, from a pytree of labels (a prefix of the tree will do) or a function that makes one."""
    labels = partition(tree) if callable(partition) else partition
    try:
        spread = jax.tree.map(lambda label, part: jax.tree.map(lambda _: str(label), part), labels, tree)
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"partition: labels must be a pytree with the structure of the parameters: {reason}") from None
    return list(jax.tree.leaves(spread))


def _all(shape: Shape) -> Cut:
    return Cut(tuple(range(len(shape))))


def _local(cuts: Iterable[Cut], single: bool = False) -> Groups:
    cuts = tuple(cuts)
    return Groups(cuts, tuple(range(len(cuts))), single=single)


def _pooled(shapes: Sequence[Shape], labels: Sequence[str], names: Sequence[str]) -> Groups:
    return Groups(tuple(map(_all, shapes)), tuple(map(list(names).index, labels)), tuple(names))


def _along(k: int, names: Sequence[str], shapes: Sequence[Shape]) -> list[Cut]:
    """All axes but k; an array of rank 0 or 1 is one group (GS-partition-axis)."""
    cuts = []
    for name, shape in zip(names, shapes, strict=True):
        rank = len(shape)
        if rank >= 2 and not -rank <= k < rank:
            raise ValueError(f"axis({k}): leaf {name!r} of shape {shape} has no axis {k}")
        cuts.append(Cut(tuple(axis for axis in range(rank) if rank < 2 or axis != k % rank)))
    return cuts


def _matches(names: Sequence[str], patterns: Mapping[str, Any], text: str) -> list[str]:
    """The group of each leaf; a leaf in two groups or none is an error (GS-partition-cover, -disjoint)."""
    rest = [group for group, globs in patterns.items() if globs is None]
    if len(rest) > 1:
        raise ValueError(f"partition {text!r}: only one group may be None; received {' and '.join(rest)}")
    found = []
    for name in names:
        groups = [
            group
            for group, globs in patterns.items()
            if any(fnmatch.fnmatchcase(name, glob) for glob in ([globs] if isinstance(globs, str) else globs or []))
        ]
        if len(groups) > 1:
            raise ValueError(f"partition {text!r}: groups must not overlap; leaf {name!r} is in {' and '.join(groups)}")
        if not groups and not rest:
            raise ValueError(f"partition {text!r}: groups must cover every leaf; {name!r} is in none; add rest=None")
        found.append((groups or rest)[0])
    return found
