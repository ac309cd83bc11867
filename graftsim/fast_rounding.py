"""Rows of ``graftsim.sums`` in compiled code: carrying, adding, and the one rounding.

Rows have the layout of ``sums.REGISTERS``; their length tells the dtype, and with it the unit. Every function here is
integer arithmetic, but for a first guess of the root that is corrected by comparing 128-bit squares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from graftsim.sums import REGISTERS, Rows

I64, U64 = np.int64, np.uint64
F = TypeVar("F", bound=Callable[..., Any])
OPTIONS = {"error_model": "numpy"}


def compiled(function: F) -> F:
    """A function for compiled code: IEEE arithmetic as written, cached on disk, run without the GIL."""
    return cast(F, njit(cache=True, nogil=True, **OPTIONS)(function))


def inlined(function: F) -> F:
    """As :func:`compiled`, but its code becomes part of whoever calls it."""
    return cast(F, njit(cache=True, nogil=True, forceinline=True, **OPTIONS)(function))


SINGLE = REGISTERS["float32"].width
SINGLE_UNIT, DOUBLE_UNIT = REGISTERS["float32"].unit, REGISTERS["float64"].unit
MASK = (1 << 32) - 1
FULL = 1 << 61
"""Limbs at rest stay below this in size, so that two of them, or one and a block's sums, fit an int64."""


def _high_product(typing: Any, x: Any, y: Any) -> Any:
    """The upper 64 bits of the product of two uint64."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), emit


high_product = intrinsic(_high_product)


@compiled
def float_of(pattern: np.uint64) -> float:
    """The float64 with this bit pattern."""
    return U64(pattern).view(np.float64)


@compiled
def unit_of(row: Rows) -> int:
    """Limb 0 of the row counts units of 2^unit."""
    return SINGLE_UNIT if row.size == SINGLE else DOUBLE_UNIT


@compiled
def carry(row: Rows) -> None:
    """Bring every limb but the last into [0, 2^32); the last one has the sign. The row's value stays."""
    last = row.size - 4
    moved = I64(0)
    for i in range(last):
        limb = row[i] + moved
        row[i] = limb & MASK
        moved = limb >> 32
    row[last] += moved


@compiled
def settle(row: Rows) -> None:
    """Carry if a limb has reached ``FULL``; called after each block, which moves a limb by less than 2^47."""
    size = I64(0)
    for i in range(row.size - 3):
        size |= row[i] ^ (row[i] >> 63)
    if size >= FULL:
        carry(row)


@compiled
def add_row(into: Rows, row: Rows) -> None:
    """into += row: the sum of both groups."""
    for i in range(row.size):
        into[i] += row[i]
    settle(into)


@compiled
def _window(row: Rows, place: int) -> np.uint64:
    """The 64 bits from bit ``place`` up (which may be negative) of a carried row that is not negative."""
    value = U64(0)
    limb, shift = place >> 5, place & 31
    for j in range(3):
        if 0 <= limb + j < row.size - 3:
            digits = U64(row[limb + j])
            left = 32 * j - shift
            if 0 <= left < 64:
                value |= digits << U64(left)
            elif left < 0:
                value |= digits >> U64(-left)
    return value


@compiled
def _any_below(row: Rows, place: int) -> bool:
    """Is a bit below bit ``place`` set?"""
    if place <= 0:
        return False
    limb = place >> 5
    for i in range(limb):
        if row[i]:
            return True
    return bool(row[limb] & ((1 << (place & 31)) - 1))


@compiled
def _length(row: Rows) -> int:
    """The number of bits of a carried row that is not negative."""
    top = row.size - 4
    while top >= 0 and row[top] == 0:
        top -= 1
    if top < 0:
        return 0
    bits, digits = 32 * top, row[top]
    while digits:
        bits += 1
        digits >>= 1
    return bits


@compiled
def _scaled(mantissa: np.uint64, exponent: int) -> float:
    """mantissa 2^exponent, for mantissa <= 2^53 and exponent >= -1074: exact, or infinite."""
    if mantissa == 0:
        return 0.0
    while mantissa < U64(1 << 52) and exponent > -1074:
        mantissa <<= U64(1)
        exponent -= 1
    if mantissa == U64(1 << 53):
        mantissa >>= U64(1)
        exponent += 1
    if exponent > 971:
        return np.inf
    if mantissa < U64(1 << 52):  # subnormal: the bit pattern is the mantissa
        return float_of(mantissa)
    return float_of(mantissa + (U64(exponent + 1074) << U64(52)))


@compiled
def _half_up(value: np.uint64, sticky: bool) -> np.uint64:
    """value / 2 to the nearest integer, ties to even; sticky: the exact value is larger by less than 1."""
    half = value >> U64(1)
    if (value & U64(1)) and (sticky or (half & U64(1))):
        half += U64(1)
    return half


@compiled
def _integer_root(high: np.uint64, low: np.uint64) -> np.uint64:
    """floor(sqrt(high 2^64 + low)) for values below 2^108: the float64 guess is off by a few units."""
    root = U64(np.sqrt(np.float64(high) * 18446744073709551616.0 + np.float64(low)))
    while True:
        h, l = high_product(root, root), root * root
        if h < high or (h == high and l <= low):
            break
        root -= U64(1)
    while True:
        above = root + U64(1)
        h, l = high_product(above, above), above * above
        if h > high or (h == high and l > low):
            return root
        root = above


@compiled
def _not_finite(row: Rows) -> float:
    """The sum of a row that has counted infinities or NaN."""
    up, down, nan = row[-3], row[-2], row[-1]
    if nan or (up and down):
        return np.nan
    return np.inf if up else -np.inf


@compiled
def root(row: Rows) -> float:
    """The float64 nearest to the square root of the row's value, as ``sums.rounded("norm", ...)``; carries the row.

    Cut to 107 or 108 bits, the sum has a root of 54 bits: 53 and the one that decides, with a sticky bit below. Where
    the result is subnormal the cut is higher, at half of 2^-1074.
    """
    if row[-3] or row[-2] or row[-1]:
        return _not_finite(row)
    carry(row)
    bits, unit = _length(row), unit_of(row)
    cut = bits - 108
    cut = max(cut + (cut & 1), -2150 - unit)
    high, low = _window(row, cut + 64), _window(row, cut)
    value = _integer_root(high, low)
    inexact = high_product(value, value) != high or value * value != low
    return _scaled(_half_up(value, inexact or _any_below(row, cut)), (unit + cut) // 2 + 1)


@compiled
def total(row: Rows) -> float:
    """The float64 nearest to the row's value, as ``sums.rounded("sum", ...)``; carries the row."""
    if row[-3] or row[-2] or row[-1]:
        return _not_finite(row)
    carry(row)
    if row[-4] >= 0:
        return _magnitude(row)
    opposite = -row
    carry(opposite)
    return 0.0 - _magnitude(opposite)  # a sum that rounds to zero is +0


@compiled
def _magnitude(row: Rows) -> float:
    unit = unit_of(row)
    cut = max(_length(row) - 54, -1075 - unit)
    return _scaled(_half_up(_window(row, cut), _any_below(row, cut)), unit + cut + 1)
