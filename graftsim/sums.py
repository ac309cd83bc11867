"""Exact sums over groups: ``norm``, ``sum`` and ``dot``, each rounded once (``spec/reductions.md``).

A sum is held as a *row* of int64: limbs of radix 2^32 in two's complement, the first in units of the smallest
possible product, then how many terms were +infinity, -infinity and NaN. Rows add limb by limb, so that a sum over
threads, ranks and chunks, in any order and any cut, is one integer addition; the value is rounded at the end.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.scalars import round_scaled

Rows = NDArray[np.int64]
_MASK = (1 << 32) - 1
CHUNK = 1 << 18


@dataclass(frozen=True)
class Register:
    """Where a row's limbs stand: limb 0 counts units of 2^unit."""

    unit: int
    limbs: int

    @property
    def width(self) -> int:
        """The length of a row."""
        return self.limbs + 3


REGISTERS = {"float32": Register(-298, 20), "float64": Register(-2148, 134)}
"""Products of float32 span 2^-298 to 2^256 and of float64 2^-2148 to 2^2048; 2^85 terms fit."""


def rows(x: NDArray[Any], y: NDArray[Any], group_of: NDArray[np.int64], count: int) -> Rows:
    """The exact sums of x_i y_i over each of ``count`` groups, shape (count, width).

    Args:
        x, y: arrays of one shape (n,) and one dtype, float32 or float64.
        group_of: the group of each element, shape (n,).

    Each term moves a limb by less than 2^34, so n may be up to 2^29 before a limb is full.
    """
    register = REGISTERS[x.dtype.name]
    flat = np.zeros(count * register.width, np.int64)
    with np.errstate(all="ignore"):
        for start in range(0, x.size, CHUNK):
            part = slice(start, start + CHUNK)
            _add(flat, x[part], y[part], group_of[part] * register.width, register)
    return flat.reshape(count, register.width)


def _add(flat: Rows, x: NDArray[Any], y: NDArray[Any], base: NDArray[np.int64], register: Register) -> None:
    product = x.astype(np.float64) * y.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    for place, terms in enumerate((product == np.inf, product == -np.inf, np.isnan(product))):
        np.add.at(flat, base[terms & ~finite] + register.limbs + place, 1)
    x, y, product, base = x[finite], y[finite], product[finite], base[finite]
    if x.dtype == np.float32:  # 24 + 24 bits: the product of two float32 is exact in float64
        mantissa, exponent = _integers(product, register.unit)
        _add_pieces(flat, mantissa, exponent - register.unit, base)
        return
    (m, e), (n, f) = _integers(x, -1074), _integers(y, -1074)
    sign, half = np.sign(m) * np.sign(n), (1 << 27) - 1
    a, b, c, d = np.abs(m) >> 27, np.abs(m) & half, np.abs(n) >> 27, np.abs(n) & half
    for piece, shift in ((b * d, 0), (a * d + b * c, 27), (a * c, 54)):
        _add_pieces(flat, sign * piece, e + f - register.unit + shift, base)


def _integers(x: NDArray[Any], lowest: int) -> tuple[Rows, Rows]:
    """x = m 2^e with integers |m| < 2^53 and e >= lowest, exactly; x is a multiple of 2^lowest."""
    fraction, exponent = np.frexp(x)
    m: Rows = (fraction * 2.0**53).astype(np.int64)
    e: Rows = exponent.astype(np.int64) - 53
    short: Rows = np.maximum(lowest - e, 0)
    return np.asarray(np.sign(m) * (np.abs(m) >> np.minimum(short, 63)), np.int64), e + short


def _add_pieces(flat: Rows, value: Rows, place: Rows, base: Rows) -> None:
    """flat[base + ...] += value 2^place for |value| < 2^55; no limb moves by more than 2^33."""
    limb, shift, sign = base + (place >> 5), place & 31, np.sign(value)
    low, high = (np.abs(value) & _MASK) << shift, (np.abs(value) >> 32) << shift
    np.add.at(flat, limb, sign * (low & _MASK))
    np.add.at(flat, limb + 1, sign * ((low >> 32) + (high & _MASK)))
    np.add.at(flat, limb + 2, sign * (high >> 32))


def rounded(operator: str, rows: Rows, dtype: Any) -> NDArray[np.float64]:
    """The float64 nearest to sqrt(S) for ``norm`` and to S for ``sum`` and ``dot``; shape (groups,).

    A NaN term, or infinities of both signs, give NaN; an infinity gives that infinity; S = 0 gives +0.
    """
    register = REGISTERS[np.dtype(dtype).name]
    finish = _root if operator == "norm" else round_scaled
    values = np.empty(len(rows))
    for group, row in enumerate(rows):
        up, down, nan = row[-3:]
        if nan or (up and down):
            values[group] = math.nan
        elif up or down:
            values[group] = math.inf if up else -math.inf
        else:
            values[group] = finish(integer(row[:-3]), register.unit) + 0.0  # a zero is +0 (GS-sum-zero)
    return values


def integer(limbs: Rows) -> int:
    """The sum of limb_i 2^(32 i), whatever the limbs' signs: low halves and high halves are two numbers of base 2^32,
    the high ones shifted by 2^31 to be digits."""
    digits = (limbs >> 32) + (1 << 31)
    high = int.from_bytes(digits.astype("<u4").tobytes(), "little") - (_ones(len(limbs)) << 31)
    return int.from_bytes((limbs & _MASK).astype("<u4").tobytes(), "little") + (high << 32)


@functools.cache
def _ones(length: int) -> int:
    """The number whose ``length`` digits of base 2^32 are all 1."""
    return sum(1 << 32 * digit for digit in range(length))


def _root(n: int, unit: int) -> float:
    """The float64 nearest to sqrt(n 2^unit), unit even: 55 or more bits of the root and a sticky bit."""
    shift = max(0, 112 - n.bit_length())
    shift += shift & 1
    root = math.isqrt(n << shift)
    sticky = root * root != n << shift
    return round_scaled(2 * root + sticky, (unit - shift) // 2 - 1)


def norm(x: NDArray[Any]) -> float:
    """The float64 nearest to the real number sqrt(sum x_i^2) of a float32 or float64 array (GS-norm).

    >>> norm(np.array([3 * 2.0**700, 4 * 2.0**700])) == 5 * 2.0**700
    True
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    return float(rounded("norm", rows(flat, flat, np.zeros(flat.size, np.int64), 1), flat.dtype)[0])
