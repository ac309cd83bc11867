"""Where a block's squares are cut: the fixed grids, the proofs that no cut loses a bit, and the choice among the paths.

Squares of a block whose exponents lie close together are cut at grids 2^-51 apart: a float t between s and 2s, s a
power of two, holds the multiple of ulp(s) that it is in its bit pattern, and integers may be added in any order, which
is what lets the loops vectorise without giving up a bit. Hardware with fused multiply-add (x86-64-v3, every AArch64)
is assumed for speed, not for the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from graftsim.fast_rounding import I64, OPTIONS, U64, compiled, float_of

Array = NDArray[Any]
Cut = tuple[Any, Any, Any, Any]  # uint64 and three int64
"""Sums of a block in units of 4^top times u1, u2, u3, u4."""

BLOCK = 2048  # elements that share their grids; the head-room below is for 2^11 terms
LIMBS, NARROW, WIDE, WINDOWS = 0, 1, 2, 3
"""The paths of a block: one by one; the cheapest cut; the cut at all grids; that cut for 50 binades at a time."""

# |x| < 2^(top + 1), so y = x 2^-top has y^2 < 4. The grids are 2^-50, 2^-101, 2^-152 and 2^-203:
U1, U2, U3 = 2.0**-50, 2.0**-101, 2.0**-152
S1 = 4.0  # floats in [4, 8] are multiples of u1
K1 = S1 + 3 * U1
S2 = 3 * U1  # floats in [2 u1, 4 u1] are multiples of u2
K2 = S2 + 3 * U2
S3 = 3 * U2  # and so on with u3
S4 = 3 * U3  # and u4
# For |r| <= u / 2 the bit pattern of r + 3 u, if that is exact, lies within 2^50 of that of 3 u: 2048 terms stay below
# 2^61. The first grid's patterns are within 0 and 2^52 of that of 4, and their sum within 0 and 2^63, as uint64.

NARROW_SINGLE, NARROW_DOUBLE, WIDE_REACH = 27, 24, 49
"""By how many binades the smallest |x| of a block may lie below ``top``; derived where the cuts are made."""

FLOOR = 2.0**-WIDE_REACH
BOTTOM_SINGLE, BOTTOM_DOUBLE = -73, -972
"""The lowest top of a cut at all grids: 4^top u3 (of float32, whose fourth sum is 0) or 4^top u4 is the row's unit."""

_OUTSIDE = 1 << 20


def _fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), emit


fma = intrinsic(_fma)


@compiled
def _bits(x: float) -> np.int64:
    return np.float64(x).view(np.int64)


# Functions that differ by dtype: a name for compiled code, and one body for each dtype.


def by_dtype(name: Callable[..., Any], single: Callable[..., Any], double: Callable[..., Any]) -> None:
    def choose(x: Any, *rest: Any) -> Callable[..., Any]:
        return single if getattr(x, "dtype", x) == types.float32 else double

    overload(name, strict=False, jit_options=OPTIONS)(choose)


def exponents(x: Array) -> tuple[Any, Any]:
    """The exponents of the largest and of the smallest non-zero |x|; outside of every reach where no cut is exact."""
    raise NotImplementedError


def _exponents_single(x: Array) -> tuple[Any, Any]:
    patterns = x.view(np.uint32)
    largest: Any = np.uint32(0)
    smallest: Any = np.uint32(0xFFFFFFFF)
    for i in range(patterns.size):
        size = np.uint32(patterns[i] & np.uint32(0x7FFFFFFF))
        largest = max(largest, size)
        smallest = min(smallest, np.uint32(size - np.uint32(1)))  # a zero wraps around to the largest
    if largest == 0:
        return -_OUTSIDE, _OUTSIDE
    high, low = I64(largest >> np.uint32(23)), I64(np.uint32(smallest + np.uint32(1)) >> np.uint32(23))
    return (_OUTSIDE if high == 255 else max(high, I64(1)) - 127), max(
        low, I64(1)
    ) - 127  # subnormal numbers: as 2^-126


def _exponents_double(x: Array) -> tuple[Any, Any]:
    patterns = x.view(np.uint64)
    largest: Any = U64(0)
    smallest: Any = U64(0xFFFFFFFFFFFFFFFF)
    for i in range(patterns.size):
        size = U64(patterns[i] & U64(0x7FFFFFFFFFFFFFFF))
        largest = max(largest, size)
        smallest = min(smallest, U64(size - U64(1)))
    if largest == 0:
        return -_OUTSIDE, _OUTSIDE
    high, low = I64(largest >> U64(52)), I64(U64(smallest + U64(1)) >> U64(52))
    # the exponent field of a subnormal number does not tell how small it is: -1023 is below every reach
    return (_OUTSIDE if high == 2047 else high - 1023), low - 1023


by_dtype(exponents, _exponents_single, _exponents_double)


def narrow(x: Array, top: int) -> Cut:
    """The cut at the first two grids (float32) or three (float64)."""
    raise NotImplementedError


def _narrow_single(x: Array, top: int) -> Cut:
    # Not scaled: the grids are, by 4^top. x^2 is a multiple of 2^(2 low - 46), and of the second grid 2^(2 top - 101)
    # if low >= top - 27; t - s is x^2 to the nearest multiple of u1, and x^2 - (t - s) + 3 u1 in [2.5, 3.5] u1 exact.
    four = power(2 * top)
    s, k = S1 * four, K1 * four
    a, b = I64(0), I64(0)
    for i in range(x.size):
        y = np.float64(x[i])
        t = fma(y, y, s)
        a += _bits(t)
        b += _bits(fma(y, y, k - t))
    return U64(a - x.size * _bits(s)), b - x.size * _bits(S2 * four), I64(0), I64(0)


def _narrow_double(x: Array, top: int) -> Cut:
    # h + l = y^2 exactly. t - 4 is the multiple of u1 nearest to y^2; h - (t - 4) = r is exact (Sterbenz), |r| < u1,
    # a multiple of ulp(h) >= 2^(2 (low - top) - 52), so of u2 if low >= top - 24: then p = r + 3 u1 < 4 u1 is exact.
    # p + l = y^2 - (t - 4) + 3 u1 is rounded to u2; what is left, l - (q - p), is exact as |p| > |l| (Fast2Sum), at
    # most u2 / 2, and a multiple of 2^(2 (low - top) - 104) >= 2^-152.
    scale = power(-top)
    a, b, c = I64(0), I64(0), I64(0)
    for i in range(x.size):
        y = x[i] * scale
        h = y * y
        l = fma(y, y, -h)
        t = fma(y, y, S1)
        a += _bits(t)
        p = h - (t - K1)
        q = p + l
        b += _bits(q)
        c += _bits(l - (q - p) + S3)
    n = x.size
    return U64(a - n * _bits(S1)), b - n * _bits(S2), c - n * _bits(S3), I64(0)


by_dtype(narrow, _narrow_single, _narrow_double)


@compiled
def wide(x: Array, top: int, floor: float, ceiling: float) -> Cut:
    """The cut at all four grids, for both dtypes, of the x with floor <= |x| 2^-top < ceiling <= 2."""
    # t and q are y^2 at the first two grids, each rounded once whatever the exponents. r = h - (t - 4) is exact as
    # above, and p = r - (q - 3 u1) + 3 u2 too if ulp(h) >= u3, that is low >= top - 50: with ulp(h) >= u2 it is a
    # multiple of u2 below 2^-50, else within [2 u2, 4 u2]. p is a multiple of ulp(l) or larger than l, so Fast2Sum
    # holds: p + l = w + e exactly, w at u3 and |e| <= u3 / 2, a multiple of 2^(2 (low - top) - 104), so of 2^-203 if
    # low >= top - 49. (A float32 has l = e = 0.) Where scaling rounds or overflows, |y| is outside of the bounds.
    scale = power(-top)
    a, b, c, d = I64(0), I64(0), I64(0), I64(0)
    for i in range(x.size):
        y = np.float64(x[i]) * scale
        y = y if floor <= abs(y) < ceiling else np.float64(0.0)
        h = y * y
        l = fma(y, y, -h)
        t = fma(y, y, S1)
        a += _bits(t)
        q = fma(y, y, K1 - t)
        b += _bits(q)
        p = (h - (t - S1)) - (q - K2)
        w = p + l
        c += _bits(w)
        d += _bits(l - (w - p) + S4)
    n = x.size
    return U64(a - n * _bits(S1)), b - n * _bits(S2), c - n * _bits(S3), d - n * _bits(S4)


@compiled
def power(exponent: int) -> float:
    """2^exponent, for exponents of -1023 (subnormal, and exact) to 1023."""
    return float_of(U64(exponent + 1023) << U64(52)) if exponent > -1023 else 2.0**-1023


@compiled
def cut(x: Array, path: int, top: int) -> Cut:
    if path == NARROW:
        return narrow(x, top)
    if path == WIDE:
        return wide(x, top, FLOOR, 2.0)
    return U64(0), I64(0), I64(0), I64(0)


@compiled
def fits(path: int, top: int, high: int, low: int, single: bool) -> bool:
    """Is a cut at ``top`` exact for a block with these largest and smallest exponents?"""
    reach = WIDE_REACH if path == WIDE else (NARROW_SINGLE if single else NARROW_DOUBLE)
    return path in (NARROW, WIDE) and high <= top and low >= top - reach


@compiled
def plan(high: int, low: int, single: bool) -> tuple[int, int]:
    """The path for a block, and its top, raised where the last grid would lie below the row's unit."""
    top = max(high, -98 if single else -998)
    if fits(NARROW, top, high, low, single):
        return NARROW, top
    bottom = BOTTOM_SINGLE if single else BOTTOM_DOUBLE
    top = max(high, bottom)
    if fits(WIDE, top, high, low, single):
        return WIDE, top
    if high < _OUTSIDE and (single or low >= bottom):
        return WINDOWS, high
    return LIMBS, 0
