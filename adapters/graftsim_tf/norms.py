"""Norms of groups of coordinates, in float64, that neither overflow nor underflow. To be called in ``wide_mode``.

The squares of float32 numbers are in range in float64. Of float64 numbers the squares are summed at three scales, and
the sum that stayed in range counts; all three are sums, so parts of a pooled group are simply added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras import ops

from graftsim_tf.backends import Tensor, number, sum_of_squares, under_xla, wide

LOW, HIGH = 2.0**625, 2.0**-514
"""At these scales the squares of the smallest and of the largest float64 numbers are in range."""

SMALL, LARGE = 2.0**-400, 2.0**400
"""Numbers that count at the scale LOW are at most SMALL, at HIGH at least LARGE: with one above SMALL the plain sum is
trusted, and where that sum overflows what lies below LARGE is nothing beside it."""

TRUSTED = 2.0**-930
"""A plain sum of squares above it has lost less to underflow than to rounding."""

PARTS = 16
"""XLA on CPU breaks up a sum of more than 32 numbers, after writing out all terms in float64. So many it fuses with
what computes them, unrolls, and adds in vectors."""


def scales(x: Tensor, scaled: bool) -> list[Tensor]:
    """What is squared: x in float64, or |x| at each scale."""
    x = wide(x)
    if not scaled:
        return [x]
    x = ops.abs(x)
    return [_low(x), x, _high(x)]


def _low(x: Tensor) -> Tensor:
    """x, which is at least 0, at the scale LOW. The choice is also what keeps XLA from squaring x and LOW each for
    itself, which it does for a tensor of one number."""
    return ops.where(ops.greater(x, number(SMALL)), number(0.0), ops.multiply(x, number(LOW)))


def _high(x: Tensor) -> Tensor:
    return ops.where(ops.less(x, number(LARGE)), number(0.0), ops.multiply(x, number(HIGH)))


def sums_of_squares(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Sums over axes of the squares of float64 numbers; under XLA over neighbouring axes of parts side by side first.

    Of |sums| then, which are the sums: else XLA takes the sum of sums for one long sum.
    """
    if not axes:
        return ops.square(x)
    shape, first, last = tuple(x.shape), axes[0], axes[-1]
    if not under_xla():
        return sum_of_squares(x) if len(axes) == len(shape) else ops.sum(ops.square(x), axis=axes)
    x, size = ops.square(x), math.prod(shape[first : last + 1])
    parts = max(n for n in range(1, PARTS + 1) if size % n == 0)
    if last - first + 1 == len(axes) and 1 < parts < size:
        beside = ops.reshape(x, (*shape[:first], parts, size // parts, *shape[last + 1 :]))
        x, axes = ops.abs(ops.sum(beside, axis=first)), (first,)
    return ops.sum(x, axis=axes)


def root(sums: Sequence[Tensor]) -> Tensor:
    """The norms, from sums of squares at each of the :func:`scales`; NaN and infinity come through."""
    if len(sums) == 1:
        return ops.sqrt(sums[0])
    low, middle, high = sums
    small = ops.where(ops.greater(middle, number(TRUSTED)), ops.sqrt(middle), ops.divide(ops.sqrt(low), number(LOW)))
    return ops.where(ops.less(middle, number(float("inf"))), small, ops.divide(ops.sqrt(high), number(HIGH)))
