"""Norms of groups of coordinates, in float64, that neither overflow nor underflow. To be called in ``wide_mode``.

The squares of float32 numbers are in range in float64. Of float64 numbers the squares are summed at three scales, and
the sum that stayed in range counts; all three are sums, so parts of a pooled group are simply added.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras import ops

from graftsim_tf.backends import Tensor, number, wide

LOW, HIGH = 2.0**625, 2.0**-514
"""At these scales the squares of the smallest and of the largest float64 numbers are in range."""

SMALL, LARGE = 2.0**-400, 2.0**400
"""Numbers that count at the scale LOW are at most SMALL, at HIGH at least LARGE: with one above SMALL the plain sum is
trusted, and where that sum overflows what lies below LARGE is nothing beside it."""

TRUSTED = 2.0**-930
"""A plain sum of squares above it has lost less to underflow than to rounding."""


def squares(x: Tensor, scaled: bool) -> list[Tensor]:
    """The squares, or the squares at each scale.

    Of |x|: else XLA takes ``wide(x)`` here for one value with that of the product later, and writes it out.
    """
    x = wide(ops.abs(x))
    return [ops.square(y) for y in ((_low(x), x, _high(x)) if scaled else (x,))]


def _low(x: Tensor) -> Tensor:
    """x, which is at least 0, at the scale LOW. The choice is also what keeps XLA from squaring x and LOW each for
    itself, which it does for a tensor of one number."""
    return ops.where(ops.greater(x, number(SMALL)), number(0.0), ops.multiply(x, number(LOW)))


def _high(x: Tensor) -> Tensor:
    return ops.where(ops.less(x, number(LARGE)), number(0.0), ops.multiply(x, number(HIGH)))


def root(sums: Sequence[Tensor]) -> Tensor:
    """The norms, from sums of :func:`squares`; NaN and infinity come through."""
    if len(sums) == 1:
        return ops.sqrt(sums[0])
    low, middle, high = sums
    small = ops.where(ops.greater(middle, number(TRUSTED)), ops.sqrt(middle), ops.divide(ops.sqrt(low), number(LOW)))
    return ops.where(ops.less(middle, number(float("inf"))), small, ops.divide(ops.sqrt(high), number(HIGH)))
