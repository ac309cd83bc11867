"""The arithmetic of programs on flat TensorFlow tensors: coordinates in the working dtype, all else in float64.

It follows ``spec/arithmetic.md`` operation by operation; norms are summed in the library's order, so a step is the
reference's within its error bound, not to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from graftsim.program import Kind, Node, Program, Rank, Reduction, blocks
from graftsim_tf.norms import root, scales

Index = NDArray[np.int64]
Value = Any


class Arithmetic:
    """What :func:`graftsim.interpreter.evaluate` needs to know of values: each is a flat tensor."""

    def __init__(self, program: Program) -> None:
        self.layout, self.dtype = program.layout, program.dtype

    def constant(self, values: NDArray[Any], kind: Kind) -> Value:
        dtype = self.dtype if kind.rank >= Rank.COORDINATE else np.float64
        return tf.constant(np.asarray(values, np.float64).astype(dtype))

    def apply(self, operator: str, arguments: list[Value], kind: Kind) -> Value:
        if operator.endswith("_wide"):
            found = OPERATIONS[operator.removesuffix("_wide")](*(tf.cast(a, tf.float64) for a in arguments))
            return tf.cast(found, self.dtype)
        return OPERATIONS[operator](*arguments)

    def lift(self, value: Value, index: Index) -> Value:
        return tf.gather(value, index)

    def expand(self, value: Value, kind: Kind, rounded: bool) -> Value:
        value = tf.cast(value, self.dtype) if rounded and value.dtype != tf.bool else value
        return value if kind.partition.key == "global" else tf.gather(value, kind.partition.group_of)

    def spread(self, value: Value, index: Index) -> Value:
        return tf.cast(tf.gather(value, index), self.dtype)

    def matrix(self, node: Node, arguments: list[Value]) -> Value:
        """Matrix by matrix in float64, rounded once (GS-matrix-equivalent)."""
        wides = [
            self._matrices(tf.cast(value, tf.float64), argument.kind)
            for value, argument in zip(arguments, node.arguments, strict=True)
            if argument.kind.rank is Rank.MATRIX
        ]
        match node.operator:
            case "matmul":
                found = [a @ b for a, b in zip(*wides, strict=True)]
            case "transpose":
                found = [tf.transpose(a) for a in wides[0]]
            case _:
                found = [matrix_power(a, arguments[1], arguments[2]) for a in wides[0]]
        return tf.cast(tf.concat([tf.reshape(part, (-1,)) for part in found], 0), self.dtype)

    def _matrices(self, value: Value, kind: Kind) -> list[Value]:
        shapes = blocks(self.layout, kind.shape)
        parts = tf.split(tf.broadcast_to(value, (kind.count(self.layout),)), [a * b for a, b in shapes])
        return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]

    def reduce(self, asked: list[tuple[Reduction, list[Value]]], present: NDArray[np.bool_]) -> list[Value]:
        return [self._reduced(reduction, values) for reduction, values in asked]

    def _reduced(self, reduction: Reduction, values: list[Value]) -> Value:
        full = [tf.broadcast_to(value, (self.layout.size,)) for value in values]
        if reduction.operator == "norm":
            if reduction.partition.single:
                return tf.cast(tf.abs(full[0]), tf.float64)
            scaled = self.dtype == np.float64
            return root([self._sums(tf.square(x), reduction) for x in scales(full[0], scaled)])
        wide = [tf.cast(x, tf.float64) for x in full]
        return self._sums(wide[0] * wide[1] if reduction.operator == "dot" else wide[0], reduction)

    def _sums(self, x: Value, reduction: Reduction) -> Value:
        match reduction.partition.key:
            case "global":
                return tf.reshape(tf.reduce_sum(x), (1,))
            case "tensor":
                return tf.stack([tf.reduce_sum(part) for part in tf.split(x, list(self.layout.sizes))])
        return tf.math.unsorted_segment_sum(x, reduction.partition.group_of, reduction.partition.count)

    def choose(self, mask: NDArray[np.bool_], new: Value, old: Value) -> Value:
        raise NotImplementedError("every variable of a machine has a gradient")


def matrix_power(matrix: Value, exponent: Value, cutoff: Value) -> Value:
    """A^p of a symmetric matrix over the eigenvalues above 0 and ``cutoff`` times the largest; NaN comes out."""
    if 0 in matrix.shape:
        return matrix
    finite = tf.reduce_all(tf.math.is_finite(matrix))
    zero, nan = tf.zeros((), tf.float64), tf.constant(np.nan, tf.float64)
    values, vectors = tf.linalg.eigh(tf.where(finite, (matrix + tf.transpose(matrix)) / 2, zero))
    kept = values > cutoff * tf.maximum(values[-1], zero)
    powers = tf.where(kept, tf.where(kept, values, tf.ones_like(values)) ** exponent, zero)
    return tf.where(finite, (vectors * powers) @ tf.transpose(vectors), nan)


def _quotient(a: Value, b: Value) -> Value:
    zero = tf.zeros((), a.dtype)
    undefined = tf.where(tf.math.is_finite(a), zero, tf.constant(np.nan, a.dtype))
    return tf.where(b == 0, undefined, a / tf.where(b == 0, tf.ones((), b.dtype), b))


def _cospi(a: Value, n: Value) -> Value:
    angle = tf.constant(np.pi, tf.float64) * (tf.math.floormod(a, 2 * n) / n)
    return tf.where(n > 0, tf.cos(angle), tf.constant(np.nan, tf.float64))


def _sign(x: Value) -> Value:
    one = tf.ones((), x.dtype)
    return tf.where(x > 0, one, tf.where(x < 0, -one, x))


OPERATIONS: dict[str, Callable[..., Value]] = {
    "add": tf.add,
    "sub": tf.subtract,
    "mul": tf.multiply,
    "div": tf.divide,
    "neg": tf.negative,
    "sqrt": tf.sqrt,
    "abs": tf.abs,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": tf.less,
    "le": tf.less_equal,
    "gt": tf.greater,
    "ge": tf.greater_equal,
    "where": lambda c, a, b: tf.where(tf.cast(c, tf.bool), a, b),
    "max": lambda a, b: tf.where((a < b) | (b != b), b, a),
    "min": lambda a, b: tf.where((b < a) | (b != b), b, a),
    "sign": _sign,
    "quotient": _quotient,
    "pow": tf.pow,
    "one_minus_pow": lambda b, t: 1 - tf.pow(b, t),
    "exp": tf.exp,
    "cospi": _cospi,
    "rpow": tf.pow,
    "floordiv": lambda a, n: tf.floor(a / n),
}
"""What each operator of a program does, on flat tensors of one dtype."""
