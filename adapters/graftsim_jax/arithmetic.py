"""The spec's equations on JAX arrays: an arithmetic for the nodes of a program.

A scalar or group value is a float64 vector with one element for each group. A coordinate or matrix value is a list with
one array a tensor, of the program's dtype; what is alike within a tensor may stand in a shape that broadcasts to it.
All is to be called where 64-bit values are on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from graftsim import partitions
from graftsim.layouts import Shape
from graftsim.program import Kind, Node, Program, Rank, Reduction, blocks
from graftsim_jax.norms import norms, sums, wide
from graftsim_jax.partitions import Groups, by_index, groups_in

Value = Any


class Arithmetic:
    """What each operator of a program does on JAX arrays; see ``graftsim.interpreter.Arithmetic``."""

    def __init__(self, program: Program) -> None:
        self.layout, self.dtype = program.layout, program.dtype

    def shapes(self, kind: Kind) -> list[Shape]:
        """The shape of each tensor's array in a coordinate or matrix value."""
        return list(blocks(self.layout, kind.shape)) if kind.rank is Rank.MATRIX else list(self.layout.shapes)

    def full(self, value: Value, kind: Kind) -> Value:
        """A value with all its elements."""
        if kind.rank < Rank.COORDINATE:
            return jnp.broadcast_to(value, (kind.partition.count,))
        return [_shaped(part, shape) for part, shape in zip(value, self.shapes(kind), strict=True)]

    def constant(self, values: NDArray[Any], kind: Kind) -> Value:
        if kind.rank < Rank.COORDINATE:
            return jnp.asarray(values, np.float64)
        shapes = self.shapes(kind)
        flat = np.broadcast_to(values, sum(map(math.prod, shapes)))
        parts = np.split(flat, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        return [jnp.asarray(part.reshape(shape), self.dtype) for part, shape in zip(parts, shapes, strict=False)]

    def apply(self, operator: str, arguments: list[Value], kind: Kind) -> Value:
        operation = OPERATIONS[operator.removesuffix("_wide")]
        if kind.rank < Rank.COORDINATE:
            return operation(*arguments)
        if operator.endswith("_wide"):
            found = [operation(*map(wide, parts)).astype(self.dtype) for parts in zip(*arguments, strict=True)]
        else:
            found = [operation(*parts) for parts in zip(*arguments, strict=True)]
        return found

    def lift(self, value: Value, index: NDArray[np.int64]) -> Value:
        return value[index]

    def expand(self, value: Value, kind: Kind, rounded: bool) -> Value:
        if rounded and value.dtype != np.bool_:
            value = value.astype(self.dtype)
        if kind.partition.key == "global":
            return [value[0] for _ in self.layout.shapes]
        groups = self.groups(kind.partition)
        pieces = groups.split(value, self.layout.shapes)
        found = []
        for cut, piece, shape in zip(groups.cuts, groups.pieces, self.layout.shapes, strict=True):
            viewed = (*cut.kept(shape), cut.block) if cut.block else shape
            spread = cut.spread(pieces[piece], viewed)
            found.append(cut.unview(jnp.broadcast_to(spread, viewed), shape) if cut.block else spread)
        return found

    def spread(self, value: Value, index: NDArray[np.int64]) -> Value:
        """One value a tensor to the tensor's matrix."""
        return [part.astype(self.dtype) for part in jnp.broadcast_to(value, (len(self.layout.tensors),))]

    def matrix(self, node: Node, arguments: list[Value]) -> Value:
        wides = [
            [wide(part) for part in self.full(value, argument.kind)]
            for value, argument in zip(arguments, node.arguments, strict=True)
            if argument.kind.rank >= Rank.COORDINATE
        ]
        match node.operator:
            case "matmul":
                found = [a @ b for a, b in zip(*wides, strict=True)]
            case "transpose":
                found = [a.T for a in wides[0]]
            case _:
                found = [matrix_power(a, arguments[1][0], arguments[2][0]) for a in wides[0]]
        return [part.astype(self.dtype) for part in found]

    def reduce(self, asked: list[tuple[Reduction, list[Value]]], present: NDArray[np.bool_]) -> list[Value]:
        return [self._reduced(reduction, operands) for reduction, operands in asked]

    def _reduced(self, reduction: Reduction, operands: list[Value]) -> jax.Array:
        groups = self.groups(reduction.partition)
        shaped = [[_shaped(x, shape) for x, shape in zip(value, self.layout.shapes, strict=True)] for value in operands]
        if reduction.operator == "norm":
            views = [cut.view(x) for cut, x in zip(groups.cuts, shaped[0], strict=True)]
            (pieces,) = norms(groups, None, views)
        else:
            products = [functools.reduce(jnp.multiply, map(wide, parts)) for parts in zip(*shaped, strict=True)]
            (pieces,) = sums(groups, None, [[cut.view(x) for cut, x in zip(groups.cuts, products, strict=True)]])
        return jnp.concatenate([jnp.zeros(0, np.float64), *(piece.reshape(-1) for piece in pieces)])

    def choose(self, mask: NDArray[np.bool_], new: Value, old: Value) -> Value:
        raise NotImplementedError("leaves that are None are no tensors of the program, so none is ever missing")

    def groups(self, partition: partitions.Partition) -> Groups:
        if " & " in partition.key or partition.key.startswith("sets"):
            return by_index(partition)
        return groups_in(partition.key, self.layout.names, self.layout.shapes)


def _shaped(x: jax.Array, shape: Shape) -> jax.Array:
    """A view of coordinates as a matrix, or back, or a smaller array that broadcasts."""
    return x.reshape(shape) if x.size == math.prod(shape) else jnp.broadcast_to(x, shape)


def matrix_power(a: jax.Array, exponent: jax.Array, cutoff: jax.Array) -> jax.Array:
    """A^p of a symmetric matrix over the eigenvalues above 0 and above ``cutoff`` times the largest."""
    if a.size == 0:
        return a
    values, vectors = jnp.linalg.eigh((a + a.T) / 2)
    kept = values > cutoff * jnp.maximum(values[-1], 0.0)
    powers = jnp.where(kept, jnp.where(kept, values, 1.0) ** exponent, 0.0)
    return jnp.where(jnp.isfinite(a).all(), (vectors * powers) @ vectors.T, np.nan)


def _quotient(a: jax.Array, b: jax.Array) -> jax.Array:
    zero = b == 0
    return jnp.where(zero, jnp.where(jnp.isfinite(a), 0.0, np.nan).astype(a.dtype), a / jnp.where(zero, 1, b))


OPERATIONS: dict[str, Callable[..., jax.Array]] = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": jnp.divide,
    "neg": jnp.negative,
    "sqrt": jnp.sqrt,
    "abs": jnp.abs,
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "lt": jnp.less,
    "le": jnp.less_equal,
    "gt": jnp.greater,
    "ge": jnp.greater_equal,
    "where": jnp.where,
    "max": lambda a, b: jnp.where(a < b, b, jnp.where(b != b, b, a)),
    "min": lambda a, b: jnp.where(b < a, b, jnp.where(b != b, b, a)),
    "sign": lambda x: jnp.where(x > 0, x.dtype.type(1), jnp.where(x < 0, x.dtype.type(-1), x)),
    "quotient": _quotient,
    "pow": jnp.power,
    "one_minus_pow": lambda b, t: 1.0 - jnp.power(b, t),
    "exp": jnp.exp,
    "cospi": lambda a, n: jnp.where(n > 0, jnp.cos(np.pi * jnp.remainder(a, 2 * n) / n), np.nan),
    "rpow": jnp.power,
    "floordiv": jnp.floor_divide,
}
"""What each operator does on arrays of one dtype; see ``spec/arithmetic.md``."""
