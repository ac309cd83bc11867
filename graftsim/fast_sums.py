"""Exact sums in compiled code: the rows of ``graftsim.sums`` at nearly the speed of a dot product.

The value of a row is the exact sum, so it does not matter how it was reached. Squares are cut at grids block by block
(``fast_cuts``); infinities, NaN and float64 near the subnormal range send a block to the limbs one by one.
"""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.fast_cuts import BLOCK as BLOCK
from graftsim.fast_cuts import (
    BOTTOM_DOUBLE,
    BOTTOM_SINGLE,
    FLOOR,
    WIDE_REACH,
    Array,
    Cut,
    by_dtype,
    cut,
    exponents,
    fits,
    plan,
    power,
    wide,
)
from graftsim.fast_cuts import LIMBS as LIMBS
from graftsim.fast_cuts import NARROW as NARROW
from graftsim.fast_cuts import WIDE as WIDE
from graftsim.fast_cuts import WINDOWS as WINDOWS
from graftsim.fast_rounding import I64, U64, compiled, high_product, settle, unit_of
from graftsim.fast_rounding import add_row as add_row
from graftsim.fast_rounding import carry as carry
from graftsim.fast_rounding import root as root
from graftsim.fast_rounding import total as total
from graftsim.sums import REGISTERS, Rows

SMALL = 16  # fewer elements go straight to the limbs: a cut costs as much as a dozen of them


@compiled
def path_of(x: Array) -> int:
    """Which path the squares of one block take when it stands alone."""
    if x.size < SMALL:
        return LIMBS
    high, low = exponents(x)
    return plan(high, low, x.itemsize == 4)[0]


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
        _add_cut(row, wide(x, top, 0.0 if last else FLOOR, power(high + 1 - top)), top)
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


by_dtype(_integer, _integer_single, _integer_double)


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
        sums = cut(block, path, top)
        high, low = exponents(block)
        if not fits(path, top, high, low, single):
            path, top = plan(high, low, single)
            sums = cut(block, path, top)
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
    through = {int(np.searchsorted(bounds, place, "right")) - 1 for place in cuts[1:-1]}
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
        if any(begin < place < end for place in cuts):
            out[group] = root(row)


def norm(x: Array) -> float:
    """The float64 nearest to the real number sqrt(sum x_i^2), as ``sums.norm``.

    >>> norm(np.array([3 * 2.0**700, 4 * 2.0**700])) == 5 * 2.0**700
    True
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    return float(norms(flat, np.array([0, flat.size]))[0])
