"""Exact sums in compiled code: the rows of ``graftsim.sums`` at nearly the speed of a dot product.

The value of a row is the exact sum, so it does not matter how it was reached. Squares of a block whose exponents lie
close together are cut at fixed grids 2^-51 apart: a float t between s and 2s, s a power of two, holds the multiple of
ulp(s) that it is in its bit pattern, and integers may be added in any order, which is what lets the loops vectorise
without giving up a bit. Infinities, NaN and float64 near the subnormal range send a block to the limbs one by one.
Hardware with fused multiply-add (x86-64-v3, every AArch64) is assumed for speed, not for the result.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.fast_rounding import I64, OPTIONS, U64, compiled, float_of, high_product, settle, unit_of
from graftsim.fast_rounding import add_row as add_row
from graftsim.fast_rounding import carry as carry
from graftsim.fast_rounding import root as root
from graftsim.fast_rounding import total as total
from graftsim.sums import REGISTERS, Rows

Array = NDArray[Any]
Cut = tuple[Any, Any, Any, Any]  # uint64 and three int64
"""Sums of a block in units of 4^top times u1, u2, u3, u4."""

BLOCK = 2048  # elements that share their grids; the head-room below is for 2^11 terms
SMALL = 64  # fewer elements go straight to the limbs
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


def _by_dtype(name: Callable[..., Any], single: Callable[..., Any], double: Callable[..., Any]) -> None:
    def choose(x: Any, *rest: Any) -> Callable[..., Any]:
        return single if getattr(x, "dtype", x) == types.float32 else double

    overload(name, strict=False, jit_options=OPTIONS)(choose)


def _range(x: Array) -> tuple[Any, Any]:
    """The exponents of the largest and of the smallest non-zero |x|; outside of every reach where no cut is exact."""
    raise NotImplementedError


def _range_single(x: Array) -> tuple[Any, Any]:
    patterns = x.view(np.uint32)
    largest: Any = np.uint32(0)
    smallest: Any = np.uint32(0xFFFFFFFF)
    for i in range(patterns.size):
        size = np.uint32(patterns[i] & np.uint32(0x7FFFFFFF))
        largest = max(largest, size)
        smallest = min(smallest, np.uint32(size - np.uint32(1)))  # a zero wraps around to the largest
    if largest == 0:
        return -_OUTSIDE, _OUTSIDE
    high, low = I64(largest >> np.uint32(23)), I64((smallest + np.uint32(1)) >> np.uint32(23))
    return (_OUTSIDE if high == 255 else max(high, 1) - 127), max(low, 1) - 127  # subnormal numbers: as 2^-126


def _range_double(x: Array) -> tuple[Any, Any]:
    patterns = x.view(np.uint64)
    largest: Any = U64(0)
    smallest: Any = U64(0xFFFFFFFFFFFFFFFF)
    for i in range(patterns.size):
        size = U64(patterns[i] & U64(0x7FFFFFFFFFFFFFFF))
        largest = max(largest, size)
        smallest = min(smallest, U64(size - U64(1)))
    if largest == 0:
        return -_OUTSIDE, _OUTSIDE
    high, low = I64(largest >> U64(52)), I64((smallest + U64(1)) >> U64(52))
    # a subnormal number scaled up loses nothing, but its exponent field does not tell how small it is
    return (_OUTSIDE if high == 2047 else high - 1023), (low - 1023 if low else -_OUTSIDE)


_by_dtype(_range, _range_single, _range_double)


def _narrow(x: Array, top: int) -> Cut:
    """The cut at the first two grids (float32) or three (float64)."""
    raise NotImplementedError


def _narrow_single(x: Array, top: int) -> Cut:
    # Not scaled: the grids are, by 4^top. x^2 is a multiple of 2^(2 low - 46), and of the second grid 2^(2 top - 101)
    # if low >= top - 27; t - s is x^2 to the nearest multiple of u1, and x^2 - (t - s) + 3 u1 in [2.5 u1, 3.5 u1] exact.
    four = _power(2 * top)
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
    scale = _power(-top)
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


_by_dtype(_narrow, _narrow_single, _narrow_double)


@compiled
def _wide(x: Array, top: int, floor: float, ceiling: float) -> Cut:
    """The cut at all four grids, for both dtypes, of the x with floor <= |x| 2^-top < ceiling <= 2."""
    # t and q are y^2 at the first two grids, each rounded once whatever the exponents. r = h - (t - 4) is exact as
    # above, and p = r - (q - 3 u1) + 3 u2 too if ulp(h) >= u3, that is low >= top - 50: with ulp(h) >= u2 it is a
    # multiple of u2 below 2^-50, else within [2 u2, 4 u2]. p is a multiple of ulp(l) or larger than l, so Fast2Sum
    # holds: p + l = w + e exactly, w at u3 and |e| <= u3 / 2, a multiple of 2^(2 (low - top) - 104), so of 2^-203 if
    # low >= top - 49. (A float32 has l = e = 0.) Where scaling rounds or overflows, |y| is outside of the bounds.
    scale = _power(-top)
    a, b, c, d = I64(0), I64(0), I64(0), I64(0)
    for i in range(x.size):
        y = np.float64(x[i]) * scale
        y = y if floor <= abs(y) < ceiling else 0.0
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
def _power(exponent: int) -> float:
    """2^exponent, for exponents of -1023 (subnormal, and exact) to 1023."""
    return float_of(U64(exponent + 1023) << U64(52)) if exponent > -1023 else 2.0**-1023


@compiled
def _cut(x: Array, path: int, top: int) -> Cut:
    if path == NARROW:
        return _narrow(x, top)
    if path == WIDE:
        return _wide(x, top, FLOOR, 2.0)
    return U64(0), I64(0), I64(0), I64(0)


@compiled
def _fits(path: int, top: int, high: int, low: int, single: bool) -> bool:
    """Is a cut at ``top`` exact for a block with these largest and smallest exponents?"""
    reach = WIDE_REACH if path == WIDE else (NARROW_SINGLE if single else NARROW_DOUBLE)
    return (path == NARROW or path == WIDE) and high <= top and low >= top - reach


@compiled
def _plan(high: int, low: int, single: bool) -> tuple[int, int]:
    """The path for a block, and its top, raised where the last grid would lie below the row's unit."""
    top = max(high, -98 if single else -998)
    if _fits(NARROW, top, high, low, single):
        return NARROW, top
    bottom = BOTTOM_SINGLE if single else BOTTOM_DOUBLE
    top = max(high, bottom)
    if _fits(WIDE, top, high, low, single):
        return WIDE, top
    if high < _OUTSIDE and (single or low >= bottom):
        return WINDOWS, high
    return LIMBS, 0


@compiled
def path_of(x: Array) -> int:
    """Which path the squares of one block take when it stands alone."""
    if x.size < SMALL:
        return LIMBS
    high, low = _range(x)
    return _plan(high, low, x.itemsize == 4)[0]


@compiled
def _add(row: Rows, size: np.uint64, sign: int, place: int) -> None:
    """row += sign size 2^place in units of the row; a limb moves by less than 2^33."""
    limb, shift, mask = place >> 5, U64(place & 31), U64(0xFFFFFFFF)
    low, high = (size & mask) << shift, (size >> U64(32)) << shift
    row[limb] += sign * I64(low & mask)
    row[limb + 1] += sign * I64((low >> U64(32)) + (high & mask))
    row[limb + 2] += sign * I64(high >> U64(32))


@compiled
def _add_cut(row: Rows, sums: Cut, top: int) -> None:
    first, second, third, fourth = sums
    place = 2 * top - 50 - unit_of(row)
    _add(row, first, 1, place)
    for k, value in ((1, second), (2, third), (3, fourth)):
        if value != 0:
            _add(row, U64(abs(value)), 1 if value > 0 else -1, place - 51 * k)


@compiled
def _add_windows(x: Array, high: int, low: int, row: Rows) -> None:
    """row += the squares of one block, 50 binades after another from the largest down to the smallest."""
    bottom = BOTTOM_SINGLE if x.itemsize == 4 else BOTTOM_DOUBLE
    while high >= low:
        top = max(high, bottom)
        last = high <= bottom  # a float32 is a multiple of 2^-149, so that this cut is exact for whatever is left
        _add_cut(row, _wide(x, top, 0.0 if last else FLOOR, _power(high + 1 - top)), top)
        if last:
            return
        high -= WIDE_REACH + 1


def _integer(x: Any) -> tuple[Any, Any]:
    """|x| = m 2^e in units of the smallest subnormal number, for finite x."""
    raise NotImplementedError


def _integer_single(x: Any) -> tuple[Any, Any]:
    pattern = U64(np.float32(x).view(np.uint32))
    exponent, fraction = I64((pattern >> U64(23)) & U64(0xFF)), pattern & U64((1 << 23) - 1)
    return (fraction | U64(1 << 23), exponent - 1) if exponent else (fraction, I64(0))


def _integer_double(x: Any) -> tuple[Any, Any]:
    pattern = np.float64(x).view(np.uint64)
    exponent, fraction = I64((pattern >> U64(52)) & U64(0x7FF)), pattern & U64((1 << 52) - 1)
    return (fraction | U64(1 << 52), exponent - 1) if exponent else (fraction, I64(0))


_by_dtype(_integer, _integer_single, _integer_double)


@compiled
def _add_product(x: Any, y: Any, row: Rows) -> None:
    """row += x y, by integers alone: m n < 2^106."""
    if np.isfinite(x) and np.isfinite(y):
        (m, e), (n, f) = _integer(x), _integer(y)
        sign = 1 if (x < 0) == (y < 0) else -1
        _add(row, m * n, sign, e + f)
        high = high_product(m, n)
        if high:
            _add(row, high, sign, e + f + 64)
        return
    product = np.float64(x) * np.float64(y)
    kind = 3 if product == np.inf else (2 if product == -np.inf else 1)
    row[row.size - kind] += 1


@compiled
def add_products(x: Array, y: Array, row: Rows) -> None:
    """row += sum of x_i y_i, exactly; x and y of one dtype, float32 or float64, and one length."""
    for start in range(0, x.size, BLOCK):  # a limb moves by less than 2^34 a product
        for i in range(start, min(start + BLOCK, x.size)):
            _add_product(x[i], y[i], row)
        settle(row)


@compiled
def add_terms(x: Array, row: Rows) -> None:
    """row += sum of x_i, exactly."""
    one = np.ones(1, x.dtype)[0]
    for start in range(0, x.size, BLOCK):
        for i in range(start, min(start + BLOCK, x.size)):
            _add_product(x[i], one, row)
        settle(row)


@compiled
def add_squares(x: Array, row: Rows) -> None:
    """row += sum of x_i^2, exactly; x contiguous, shape (n,), float32 or float64; the row of that dtype.

    A block is cut at the grids of the block before it while it streams in from memory, and scanned after that, in the
    nearest cache, to see whether that was exact. Only if it was not, it is cut again at grids of its own.
    """
    if x.size < SMALL:
        add_products(x, x, row)
        return
    single = x.itemsize == 4
    path, top = LIMBS, 0
    for start in range(0, x.size, BLOCK):
        block = x[start : start + BLOCK]
        sums = _cut(block, path, top)
        high, low = _range(block)
        if not _fits(path, top, high, low, single):
            path, top = _plan(high, low, single)
            sums = _cut(block, path, top)
        if path == LIMBS:
            add_products(block, block, row)
        elif path == WINDOWS:
            _add_windows(block, high, low, row)
        else:
            _add_cut(row, sums, top)
        settle(row)


# ---- many groups of one flat array ---------------------------------------------------------------------------------


@compiled
def _roots_between(x: Array, starts: Rows, first: int, low: int, high: int, out: Array, ends: Rows) -> None:
    """The norms of the groups that lie in x[low:high], from group ``first`` on; cut ones leave rows in ``ends``.

    ``ends[0]`` is the row of a group that began before ``low``, ``ends[1]`` of one that goes on behind ``high``.
    """
    row = np.zeros(ends.shape[1], np.int64)
    for group in range(first, starts.size - 1):
        begin, end = starts[group], starts[group + 1]
        if begin >= high and (end > begin or begin > high):
            return
        part = x[max(begin, low) : min(end, high)]
        if begin < low:
            add_squares(part, ends[0])
        elif end > high:
            add_squares(part, ends[1])
        else:
            row[:] = 0
            add_squares(part, row)
            out[group] = root(row)


def norms(x: Array, starts: Array, threads: int = 1) -> NDArray[np.float64]:
    """The norms of x[starts[g]:starts[g + 1]], each the float64 nearest to the real value (GS-norm), shape (groups,).

    Args:
        x: float32 or float64, shape (n,).
        starts: shape (groups + 1,), not decreasing, within 0 and n.
        threads: the elements are cut evenly over so many threads, which cannot be seen in the result.

    Raises:
        GraftsimError: for another dtype or shape, or starts out of order.
    """
    if np.asarray(x).ndim != 1 or np.asarray(x).dtype.name not in REGISTERS:
        raise GraftsimError(
            f"x must be a flat array of float32 or float64; received {np.asarray(x).dtype} of shape {np.shape(x)};"
            " convert it first"
        )
    x, bounds = np.ascontiguousarray(x), np.asarray(starts, np.int64)
    if bounds.ndim != 1 or not bounds.size or bounds[0] < 0 or bounds[-1] > x.size or np.any(np.diff(bounds) < 0):
        raise GraftsimError(f"starts must not decrease and lie within 0 and {x.size}; received {starts}; sort them")
    if threads < 1:
        raise GraftsimError(f"threads must be at least 1; received {threads}; use at most {os.cpu_count()}")
    out = np.zeros(bounds.size - 1)
    cuts = np.linspace(bounds[0], bounds[-1], threads + 1).astype(np.int64)
    firsts = np.maximum(np.searchsorted(bounds, cuts[:-1], "right") - 1, 0)
    ends = np.zeros((threads, 2, REGISTERS[x.dtype.name].width), np.int64)
    tasks = [(x, bounds, firsts[k], cuts[k], cuts[k + 1], out, ends[k]) for k in range(threads)]
    if threads == 1:
        _roots_between(*tasks[0])
        return out
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_roots_between, *zip(*tasks, strict=True)))
    _join(out, bounds, cuts, ends)
    return out


def _join(out: NDArray[np.float64], bounds: Rows, cuts: Rows, ends: Rows) -> None:
    """Norms of the groups that a cut went through: their parts' rows are added."""
    through = {int(np.searchsorted(bounds, cut, "right")) - 1 for cut in cuts[1:-1]}
    for group in through:
        if group >= len(out):
            continue
        begin, end = bounds[group], bounds[group + 1]
        row = np.zeros(ends.shape[2], np.int64)
        for k, (low, high) in enumerate(itertools.pairwise(cuts)):
            if begin < low < end:
                add_row(row, ends[k, 0])
            elif low <= begin < high < end:
                add_row(row, ends[k, 1])
        if any(begin < cut < end for cut in cuts):
            out[group] = root(row)


def norm(x: Array) -> float:
    """The float64 nearest to the real number sqrt(sum x_i^2), as ``sums.norm``.

    >>> norm(np.array([3e200, 4e200]))
    5e+200
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    return float(norms(flat, np.array([0, flat.size]))[0])
