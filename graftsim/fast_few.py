"""The norm of a few coordinates: a double-double sum with a proven error bound and a rounding test.

For up to 64 elements the limbs of a row cost more than the sum. Here the squares are added in two floats, the root is
taken in two floats, and the result stands if no number within the error bound rounds otherwise; else the limbs
decide. Which of the two it was cannot be seen: both give the float64 nearest to the real root.

The bound. With the largest |x| scaled into [1/2, 1) by a power of two, S is in [1/4, n]. Each square is p + e exactly
(one fused multiply-add; an element that the scaling makes subnormal loses at most 2^-1074), and hi + err is the old hi
plus p exactly (Knuth's TwoSum). Only the additions into ``lo`` round: 2 n of them, each by u of a number that never
exceeds 2 n u S, so the error of S is at most 4 n^2 u^2 S <= 2^-92 S for n <= 64, with the subnormal losses below
2^-91 S. The root r + c with r = RN(sqrt hi) and c = (hi - r^2 + lo) / (2 r) is within 2^-104 r of sqrt(hi + lo):
hi - r^2 is exact, c is below 2^-52 r and rounded twice, and the neglected c^2 / (2 r) is below 2^-105 r. Together:
less than ``SLACK`` r.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.fast_cuts import fma
from graftsim.fast_rounding import compiled, root
from graftsim.fast_sums import add_squares
from graftsim.sums import Rows

FEW = 64
SLACK = 2.0**-90
"""The error of the root, relative; about one root in 2^36 is in doubt."""


@compiled
def root_of_few(x: NDArray[Any], row: Rows) -> float:
    """The float64 nearest to sqrt(sum x_i^2) for at most :data:`FEW` elements; ``row`` is zero before and after."""
    largest = 0.0
    for i in range(x.size):
        size = abs(float(x[i]))
        if not size <= 1e300:  # huge, infinite or NaN: the limbs decide
            return root_by_limbs(x, row)
        largest = max(largest, size)
    if largest == 0.0:
        return 0.0
    if largest < 1e-290:
        return root_by_limbs(x, row)
    scale = 2.0 ** -exponent_of(largest)
    hi, lo = 0.0, 0.0
    for i in range(x.size):
        y = float(x[i]) * scale
        p = y * y
        e = fma(y, y, -p)
        s = hi + p
        back = s - hi
        err = (hi - (s - back)) + (p - back)
        hi, lo = s, lo + (err + e)
    s = hi + lo
    lo = lo - (s - hi)
    hi = s
    r = np.sqrt(hi)
    c = (fma(-r, r, hi) + lo) / (2.0 * r)
    value = r + c
    rest = c - (value - r)
    slack = value * SLACK
    if value + (rest + slack) != value or value + (rest - slack) != value:
        return root_by_limbs(x, row)
    return float(value / scale)


@compiled
def exponent_of(x: float) -> int:
    """e with 2^(e - 1) <= x < 2^e for a normal x > 0."""
    return int((np.float64(x).view(np.int64) >> 52) & 2047) - 1022


@compiled
def root_by_limbs(x: NDArray[Any], row: Rows) -> float:
    """The same by the definition."""
    add_squares(x, row)
    value = root(row)
    row[:] = 0
    return value
