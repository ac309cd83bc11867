"""Partitions: the groups of coordinates over which norms are taken (``spec/partitions.md``).

A partition of a layout gives each coordinate the number of its group. Partitions are written as expressions:
``global``, ``tensor``, ``coordinate``, ``axis(k)``, ``row``, ``pool(k, ...)``, ``block(n)``,
``pattern(biases='*.bias', rest=None)`` and ``sets(first={'w': [0, 1]}, rest=None)``.
"""

from __future__ import annotations

import ast
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import expressions
from graftsim.errors import GraftsimError, nearest
from graftsim.layouts import Layout

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """Groups of a layout's coordinates. Two partitions of one layout are equal when their keys are."""

    key: str
    layout: Layout
    count: int
    group_of: Index = field(compare=False, repr=False)
    """The group of each coordinate, shape (size,)."""
    tensor_pairs: Index = field(compare=False, repr=False)
    """Rows (group, tensor): the tensors that a group touches, empty ones too."""
    label: Callable[[int], str] = field(compare=False, repr=False)
    """The name of a group for people."""
    shared: bool = field(default=False, compare=False)
    """Whether groups may have coordinates on other ranks, so that their sums are never known here alone."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.label(group) for group in range(self.count))

    @cached_property
    def single(self) -> bool:
        """Whether group i is coordinate i, and that is all of it."""
        if self.shared:
            return False
        return self.count == self.layout.size and bool((self.group_of == np.arange(self.count)).all())

    @cached_property
    def runs(self) -> int:
        """In how many runs of consecutive coordinates the groups lie."""
        return 1 + int(np.count_nonzero(np.diff(self.group_of)))

    def touched(self, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The groups that have a tensor among those present; all groups where no tensor is missing."""
        found = np.zeros(self.count, bool)
        found[self.tensor_pairs[present[self.tensor_pairs[:, 1]], 0]] = True
        return found


def build(text: str, layout: Layout) -> Partition:
    """The partition of a layout that an expression names.

    Raises:
        GraftsimError: unknown partition, an axis or size that does not fit, groups that overlap or leave out a
            coordinate (the error names the coordinate and both groups).
    """
    match call(text):
        case ("global", (), {}):
            return whole(layout)
        case ("tensor", (), {}):
            return by_tensor(layout)
        case ("coordinate", (), {}):
            return by_coordinate(layout)
        case ("row", (), {}):
            return by_axis(layout, 0)
        case ("axis", (int() as k,), {}):
            return by_axis(layout, k)
        case ("pool", (int(), *_) as axes, {}) if all(type(k) is int for k in axes):
            return by_pool(layout, axes)
        case ("block", (int() as n,), {}) if n > 0:
            return by_block(layout, n)
        case ("pattern", (), patterns) if patterns:
            return by_pattern(layout, patterns, text)
        case ("sets", (), groups) if groups:
            return by_sets(layout, groups, text)
        case (name, _, _):
            raise GraftsimError(f"partition {text!r}: {name} must be written as {NAMES[name]}")


NAMES = {
    "global": "global",
    "tensor": "tensor",
    "coordinate": "coordinate",
    "row": "row",
    "axis": "axis(k) with an integer k",
    "pool": "pool(k, ...) with one integer or more",
    "block": "block(n) with an integer n >= 1",
    "pattern": "pattern(name='glob of tensor names', ..., rest=None)",
    "sets": "sets(name={'tensor': [index, ...]}, ..., rest=None)",
}


def call(text: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Name, positional and keyword literals of a partition expression.

    Raises:
        GraftsimError: not a name or call of the partitions in :data:`NAMES`, or arguments that are not literals.
    """
    if text.strip() == "global":  # a keyword of Python
        return "global", (), {}
    tree = expressions.python_ast(text, "a partition")
    try:
        match tree:
            case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)) if name not in NAMES:
                raise GraftsimError(f"unknown partition {text!r}{nearest(name, NAMES)}")
            case ast.Name(id=name):
                return name, (), {}
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                values = {str(k.arg): ast.literal_eval(k.value) for k in keywords if k.arg}
                return name, tuple(ast.literal_eval(argument) for argument in arguments), values
    except GraftsimError:
        raise
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    raise GraftsimError(f"{text!r} is not a partition; one of {', '.join(NAMES)}")


def _partition(
    key: str, layout: Layout, group_of: Any, count: int, label: Callable[[int], str], pairs: Any = None
) -> Partition:
    group_of = np.asarray(group_of, np.int64)
    if pairs is None:
        tensor_of = np.repeat(np.arange(len(layout.tensors)), layout.sizes)
        pairs = np.unique(np.stack([group_of, tensor_of], axis=1), axis=0)
    return Partition(key, layout, count, group_of, np.asarray(pairs, np.int64).reshape(-1, 2), label)


def whole(layout: Layout) -> Partition:
    """One group of all coordinates (also where there are none)."""
    pairs = [(0, tensor) for tensor in range(len(layout.tensors))]
    return _partition("global", layout, np.zeros(layout.size), 1, lambda _: "all", pairs)


def by_tensor(layout: Layout) -> Partition:
    """One group a tensor, empty tensors included: *layer-wise*."""
    tensors = np.arange(len(layout.tensors))
    pairs = np.stack([tensors, tensors], axis=1)
    return _partition(
        "tensor", layout, np.repeat(tensors, layout.sizes), len(tensors), lambda i: layout.names[i], pairs
    )


def by_coordinate(layout: Layout) -> Partition:
    """One group a coordinate."""
    tensor_of = np.repeat(np.arange(len(layout.tensors)), layout.sizes)
    pairs = np.stack([np.arange(layout.size), tensor_of], axis=1)
    return _partition("coordinate", layout, np.arange(layout.size), layout.size, layout.where, pairs)


def by_axis(layout: Layout, k: int) -> Partition:
    """One group for each index of axis k of each tensor; a tensor of rank <= 1 is one group (GS-partition-axis)."""
    parts: list[Any] = []
    labels: list[str] = []
    pairs: list[tuple[int, int]] = []
    for tensor, (name, shape) in enumerate(layout.tensors):
        start = len(labels)
        if len(shape) <= 1:
            parts.append(np.full(layout.sizes[tensor], start))
            labels.append(name)
        else:
            if not -len(shape) <= k < len(shape):
                raise GraftsimError(f"axis({k}): tensor {name!r} of shape {shape} has no axis {k}")
            index = np.arange(shape[k]).reshape([-1 if a == k % len(shape) else 1 for a in range(len(shape))])
            parts.append(start + np.broadcast_to(index, shape).reshape(-1))
            labels += [f"{name}[{','.join(str(i) if a == k % len(shape) else ':' for a in range(len(shape)))}]"
                       for i in range(shape[k])]  # fmt: skip
        pairs += [(group, tensor) for group in range(start, len(labels))]
    return _partition(f"axis({k})", layout, _join(parts), len(labels), labels.__getitem__, pairs)


def by_pool(layout: Layout, axes: Sequence[int]) -> Partition:
    """Coordinates of a tensor that differ in the given axes only are one group (GS-partition-pool)."""
    parts: list[Any] = []
    labels: list[str] = []
    pairs: list[tuple[int, int]] = []
    for tensor, (name, shape) in enumerate(layout.tensors):
        start, rank = len(labels), len(shape)
        pooled = {k % rank for k in axes if -rank <= k < rank}
        kept = [1 if a in pooled else n for a, n in enumerate(shape)]
        numbers = np.arange(math.prod(kept)).reshape(kept)
        parts.append(start + np.broadcast_to(numbers, shape).reshape(-1))
        for index in np.ndindex(*kept):
            place = ",".join(":" if a in pooled else str(i) for a, i in enumerate(index))
            labels.append(f"{name}[{place}]" if place else name)
        pairs += [(group, tensor) for group in range(start, len(labels))]
    key = f"pool({', '.join(map(str, axes))})"
    return _partition(key, layout, _join(parts), len(labels), labels.__getitem__, pairs)


def by_block(layout: Layout, n: int) -> Partition:
    """Runs of n consecutive coordinates in C order inside one tensor, the last one short (GS-partition-block)."""
    parts: list[Any] = []
    labels: list[str] = []
    pairs: list[tuple[int, int]] = []
    for tensor, (name, size) in enumerate(zip(layout.names, layout.sizes, strict=True)):
        start, blocks = len(labels), -(-size // n)
        parts.append(start + np.arange(size) // n)
        labels += [f"{name}[{n * b}:{min(n * b + n, size)}]" for b in range(blocks)]
        pairs += [(group, tensor) for group in range(start, len(labels))]
    return _partition(f"block({n})", layout, _join(parts), len(labels), labels.__getitem__, pairs)


def by_pattern(layout: Layout, patterns: Mapping[str, Any], key: str) -> Partition:
    """Pooled groups: all tensors whose name matches a glob; ``None`` takes what no other pattern matches."""
    claims: dict[str, dict[str, list[int]]] = {}
    for group, pattern in patterns.items():
        if pattern is not None and not isinstance(pattern, str | list):
            raise GraftsimError(f"partition {key!r}: {group} must be a glob, a list of globs, or None")
        globs = [pattern] if isinstance(pattern, str) else pattern or []
        claims[group] = {
            name: list(range(size))
            for name, size in zip(layout.names, layout.sizes, strict=True)
            if any(fnmatch.fnmatchcase(name, str(glob)) for glob in globs)
        }
    return _claimed(layout, claims, [group for group, pattern in patterns.items() if pattern is None], key)


def by_sets(layout: Layout, groups: Mapping[str, Any], key: str) -> Partition:
    """Explicit groups: ``{'tensor': [flat indices in C order]}``; ``None`` takes all that is left."""
    claims: dict[str, dict[str, list[int]]] = {}
    for group, tensors in groups.items():
        if tensors is not None and not (
            isinstance(tensors, Mapping)
            and all(isinstance(rows, Sequence) and all(type(i) is int for i in rows) for rows in tensors.values())
        ):
            raise GraftsimError(f"partition {key!r}: {group} must be {{'tensor': [index, ...]}} or None")
        claims[group] = dict(tensors or {})
    return _claimed(layout, claims, [group for group, tensors in groups.items() if tensors is None], key)


def _claimed(layout: Layout, claims: Mapping[str, Mapping[str, Any]], rest: list[str], key: str) -> Partition:
    """Check that the claims are disjoint and cover all (GS-partition-cover, GS-partition-disjoint)."""
    names = list(claims)
    group_of = np.full(layout.size, -1)
    owner_of_tensor: dict[int, set[int]] = {tensor: set() for tensor in range(len(layout.tensors))}
    for group, tensors in enumerate(claims.values()):
        for name, indices in tensors.items():
            if name not in layout.names:
                raise GraftsimError(f"partition {key!r}: {names[group]} names no tensor{nearest(name, layout.names)}")
            tensor = layout.names.index(name)
            owner_of_tensor[tensor].add(group)
            for index in indices:
                if not 0 <= index < layout.sizes[tensor]:
                    raise GraftsimError(
                        f"partition {key!r}: {names[group]} has index {index} of tensor {name!r}, "
                        f"whose indices are 0 to {layout.sizes[tensor] - 1}"
                    )
                place = layout.offsets[tensor] + index
                if group_of[place] >= 0:
                    raise GraftsimError(
                        f"partition {key!r}: groups must not overlap; coordinate {layout.where(place)} is in "
                        f"{names[group_of[place]]} and in {names[group]}"
                    )
                group_of[place] = group
    if len(rest) > 1:
        raise GraftsimError(f"partition {key!r}: only one group may be None; received {' and '.join(rest)}")
    if rest:
        group_of[group_of < 0] = names.index(rest[0])
    elif (group_of < 0).any():
        place = int(np.argmax(group_of < 0))
        raise GraftsimError(
            f"partition {key!r}: groups must cover every coordinate; {layout.where(place)} is in none of "
            f"{', '.join(names)}; add rest=None"
        )
    tensor_of = np.repeat(np.arange(len(layout.tensors)), layout.sizes)
    pairs = {(int(g), int(t)) for g, t in zip(group_of, tensor_of, strict=True)}
    empty = [tensor for tensor, size in enumerate(layout.sizes) if size == 0]
    pairs |= {(group, tensor) for tensor in empty for group in owner_of_tensor[tensor] or map(names.index, rest)}
    return _partition(key, layout, group_of, len(names), names.__getitem__, sorted(pairs))


def _join(parts: list[Any]) -> Index:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)


def meet(first: Partition, second: Partition) -> Partition:
    """The common refinement: two coordinates share a group exactly where they do in both."""
    if first.key == second.key or second.key == "global":
        return first
    if first.key == "global":
        return second
    for fine, coarse in ((first, second), (second, first)):
        if refines(fine, coarse):
            return fine
    pairs, group_of = np.unique(np.stack([first.group_of, second.group_of], axis=1), axis=0, return_inverse=True)
    return _partition(
        f"{first.key} & {second.key}",
        first.layout,
        group_of.reshape(-1),
        len(pairs),
        lambda i: f"{first.label(int(pairs[i, 0]))} & {second.label(int(pairs[i, 1]))}",
    )


def refines(fine: Partition, coarse: Partition) -> bool:
    """Whether each group of ``fine`` lies in one group of ``coarse``."""
    if coarse.key in (fine.key, "global"):
        return True
    if coarse.key == "tensor":
        return bool((np.bincount(fine.tensor_pairs[:, 0], minlength=1) <= 1).all())
    if fine.key == "coordinate":
        return True
    return bool((coarse.group_of == coarsening(fine, coarse)[fine.group_of]).all())


def coarsening(fine: Partition, coarse: Partition) -> Index:
    """For each group of ``fine`` the group of ``coarse`` that holds it."""
    index = np.zeros(fine.count, np.int64)
    if coarse.key == "tensor":
        index[fine.tensor_pairs[:, 0]] = fine.tensor_pairs[:, 1]
    index[fine.group_of] = coarse.group_of
    return index
