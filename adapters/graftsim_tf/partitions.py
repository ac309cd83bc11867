"""Which coordinates of a list of variables share a norm (``spec/partitions.md``).

For each variable a :class:`Cut` says how it is divided; under ``global`` and ``pattern`` whole variables are pooled.
Variables are named by their paths in the model, as in ``dense/kernel``.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from graftsim import partitions
from graftsim.layouts import Layout, Shape
from graftsim_tf.backends import Tensor, number
from graftsim_tf.norms import root, scales, sums_of_squares

FAN_OUT = "axis(-1)"
"""Keras keeps the kernels of dense and convolutional layers as (..., inputs, outputs)."""

KINDS = "global, tensor, axis(k), row, fan_out, coordinate, block(n), pool(k, ...), pattern(name='glob', rest=None)"


@dataclass(frozen=True)
class Cut:
    """How one variable is divided: the axes over which a group reaches, or runs of ``block`` numbers."""

    shape: Shape
    axes: tuple[int, ...]
    block: int = 0

    @property
    def kept(self) -> Shape:
        """The shape of the variable's group values."""
        if self.block:
            return (-(-math.prod(self.shape) // self.block),)
        return tuple(n for axis, n in enumerate(self.shape) if axis not in self.axes)

    def view(self, x: Tensor) -> Tensor:
        """The array in the shape in which its groups are summed, which a gradient's step need not tell."""
        if not self.block:
            return ops.reshape(x, self.shape)
        (count,), size = self.kept, math.prod(self.shape)
        flat = ops.reshape(x, (size,))
        return ops.reshape(ops.pad(flat, ((0, count * self.block - size),)), (count, self.block))

    def sums_of_squares(self, x: Tensor) -> Tensor:
        """That of each group of a float64 array that is viewed."""
        return sums_of_squares(x, (1,) if self.block else self.axes)

    def spread(self, values: Tensor) -> Tensor:
        """Group values in a shape that broadcasts to the variable's."""
        if not self.block:
            shape = tuple(1 if axis in self.axes else n for axis, n in enumerate(self.shape))
            return ops.reshape(values, shape)
        (count,), size = self.kept, math.prod(self.shape)
        runs = ops.broadcast_to(ops.reshape(values, (count, 1)), (count, self.block))
        return ops.reshape(ops.reshape(runs, (count * self.block,))[:size], self.shape)


@dataclass(frozen=True)
class Groups:
    """The groups of a list of variables: of each its cut, and its pool where variables are pooled."""

    text: str
    layout: Layout
    cuts: tuple[Cut, ...]
    pools: tuple[int, ...] | None
    count: int
    """The number of groups."""

    @property
    def single(self) -> bool:
        """Whether each coordinate is a group."""
        return self.text == "coordinate"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the groups, in the order of the spec."""
        return partitions.build(self.text, self.layout).names

    def norms(self, indices: Sequence[int], arrays: Sequence[Tensor]) -> list[Tensor]:
        """The norms, float64: for each of these variables, or for each pool."""
        cuts = [self.cuts[i] for i in indices]
        if self.single:
            return [ops.abs(ops.cast(x, "float64")) for x in arrays]
        scaled = any("float64" in str(x.dtype) for x in arrays)
        sums = [
            [cut.sums_of_squares(y) for y in scales(cut.view(x), scaled)] for cut, x in zip(cuts, arrays, strict=True)
        ]
        return [root(part) for part in self._pooled(indices, sums, scaled)]

    def _pooled(self, indices: Sequence[int], sums: list[list[Tensor]], scaled: bool) -> list[list[Tensor]]:
        """Sums of each pool; by one operation, since additions one by one are reordered by TensorFlow's graphs."""
        if self.pools is None:
            return sums
        found = []
        for pool in range(self.count):
            mine = [part for i, part in zip(indices, sums, strict=True) if self.pools[i] == pool]
            nothing = [number(0.0)] * (3 if scaled else 1)
            found.append([ops.sum(ops.stack(parts)) for parts in zip(*mine, strict=True)] if mine else nothing)
        return found

    def spread(self, indices: Sequence[int], pieces: Sequence[Tensor]) -> list[Tensor]:
        """For each of these variables its group values, in a shape that broadcasts to it."""
        mine = pieces if self.pools is None else [pieces[self.pools[i]] for i in indices]
        return [self.cuts[i].spread(piece) for i, piece in zip(indices, mine, strict=True)]

    def by_variable(self, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Numbers for all groups, in the order of the spec, in shapes that broadcast to each variable's."""
        group_of = partitions.build(self.text, self.layout).group_of
        flat = np.split(values[group_of], self.layout.offsets[1:-1])
        parts = [part.reshape(shape) for part, shape in zip(flat, self.layout.shapes, strict=True)]
        return [
            part[tuple(slice(0, 1) if axis in cut.axes else slice(None) for axis in range(part.ndim))]
            for part, cut in zip(parts, self.cuts, strict=True)
        ]

    def vector(self, indices: Sequence[int], pieces: Sequence[Tensor]) -> Tensor:
        """The values of all groups, float64, in the order of the spec; 0 where no variable takes part."""
        if self.pools is not None:
            return ops.stack([ops.reshape(piece, ()) for piece in pieces])
        by_index = dict(zip(indices, pieces, strict=True))
        flat = []
        for i, cut in enumerate(self.cuts):
            n = math.prod(cut.kept)
            flat.append(ops.reshape(by_index[i], (n,)) if i in by_index else ops.zeros((n,), "float64"))
        return ops.concatenate(flat) if flat else ops.zeros((0,), "float64")


def check(text: Any) -> str:
    """A partition's expression, or an error, before there are variables.

    Raises:
        TypeError: it is no text.
        ValueError: it names no partition that a graft has, or its arguments do not fit.
    """
    if not isinstance(text, str):
        raise TypeError(f"partition must be text such as 'tensor' or 'axis(-1)'; received {type(text).__name__}")
    if text != "fan_out":
        name, _, patterns = partitions.call(text)
        if name == "sets" or (name == "pattern" and not patterns):
            raise ValueError(f"partition must be one of {KINDS}; received {text!r}")
        if name != "pattern":  # which speaks of variables by name
            partitions.build(text, Layout(()))
    return text


def groups_of(text: str, variables: Sequence[Any]) -> Groups:
    """The groups of these variables.

    Raises:
        ValueError: an axis that a variable does not have, patterns that overlap or leave out a variable.
    """
    names = names_of(variables)
    shapes = [tuple(variable.shape) for variable in variables]
    layout, text = Layout.of(dict(zip(names, shapes, strict=True))), FAN_OUT if text == "fan_out" else text
    count = partitions.build(text, layout).count if text != "coordinate" else layout.size
    whole = [Cut(shape, tuple(range(len(shape)))) for shape in shapes]
    match partitions.call(text):
        case ("global", _, _):
            return Groups(text, layout, tuple(whole), (0,) * len(shapes), count)
        case ("pattern", _, patterns):
            return Groups(text, layout, tuple(whole), _pools(names, patterns), count)
        case ("coordinate", _, _):
            cuts = [Cut(shape, ()) for shape in shapes]
        case ("block", (int() as n,), _):
            cuts = [Cut(shape, (), n) for shape in shapes]
        case ("row", _, _):
            cuts = [_along(0, shape) for shape in shapes]
        case ("axis", (int() as k,), _):
            cuts = [_along(k, shape) for shape in shapes]
        case ("pool", axes, _):
            cuts = [Cut(s, tuple(sorted({k % len(s) for k in axes if -len(s) <= k < len(s)}))) for s in shapes]
        case _:
            cuts = whole
    return Groups(text, layout, tuple(cuts), None, count)


def names_of(variables: Sequence[Any]) -> list[str]:
    """A name for each variable: its path without the model's name, which Keras numbers if it is not given.

    A name that stands for several variables has their place behind it.
    """
    paths = [str(getattr(variable, "path", variable.name)).split("/") for variable in variables]
    if len({path[0] for path in paths}) == 1 and all(len(path) > 2 for path in paths):
        paths = [path[1:] for path in paths]
    names = ["/".join(path) for path in paths]
    return [name if names.count(name) == 1 else f"{name}#{i}" for i, name in enumerate(names)]


def _along(k: int, shape: Shape) -> Cut:
    """All axes but k; an array of rank 0 or 1 is one group (GS-partition-axis)."""
    rank = len(shape)
    return Cut(shape, tuple(axis for axis in range(rank) if rank < 2 or axis != k % rank))


def _pools(names: Sequence[str], patterns: Mapping[str, Any]) -> tuple[int, ...]:
    """The pool of each name; that there is one and only one was checked by the reference."""
    labels = list(patterns)
    rest = next((i for i, globs in enumerate(patterns.values()) if globs is None), 0)

    def pool(name: str) -> int:
        for i, label in enumerate(labels):
            globs = [patterns[label]] if isinstance(patterns[label], str) else patterns[label] or []
            if any(fnmatch.fnmatchcase(name, glob) for glob in globs):
                return i
        return rest

    return tuple(map(pool, names))
