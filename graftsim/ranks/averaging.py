"""Data parallel gradients: the mean over a global batch, which no cut of the batch over ranks can change."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import sums
from graftsim.errors import GraftsimError
from graftsim.layouts import Array
from graftsim.ranks.communicator import TALLIES, Communicator, carried, exchange
from graftsim.scalars import round_scaled
from graftsim.sums import REGISTERS, Rows

KEPT = 60
"""Bits of a quotient that are kept, beside one that tells whether anything was cut off; float64 needs 54."""
Bits = NDArray[np.int64]


def mean(communicator: Communicator | None, examples: Array) -> Array:
    """The number of dtype T nearest to (g_1 + ... + g_B) / B for each coordinate, the sum taken exactly.

    Args:
        communicator: this rank's; all ranks make the call at the same time. None for a process of its own.
        examples: the gradients of this rank's part of the batch, shape (b, coordinates), dtype T float32 or float64; b
            may be 0, and differ from rank to rank. B is the sum of all b, below 2^31.

    Returns:
        On every rank alike, shape (coordinates,): rounded once, ties to even. A NaN, or infinities of both signs, give
        NaN; an infinity gives that infinity; a sum of 0 gives +0. Nothing overflows on the way.

    Raises:
        GraftsimError: no example on any rank, or examples that are not of shape (b, coordinates) and dtype T.

    One addition of integers, with one row of :mod:`graftsim.sums` for each coordinate.
    """
    if examples.ndim != 2 or examples.dtype.name not in REGISTERS:
        raise GraftsimError(
            "the examples' gradients must have shape (examples, coordinates) and dtype float32 or float64; "
            f"received {examples.shape} and {examples.dtype}"
        )
    count, width = examples.shape
    flat = np.ascontiguousarray(examples).reshape(-1)
    local = sums.rows(flat, np.ones_like(flat), np.tile(np.arange(width), count), width)
    asked = [local, np.array([[count, 0, 0, 0]])]
    total, batch = exchange(communicator)(asked) if communicator else asked
    if batch[0, 0] == 0:
        raise GraftsimError("a batch must have an example on some rank; there is none")
    return _quotients(total, int(batch[0, 0]), examples.dtype)


def _quotients(total: Rows, batch: int, dtype: np.dtype[Any]) -> Array:
    """The numbers nearest to S / batch for all rows at a time, by long division, limb after limb.

    What is no ordinary number of the dtype (subnormal, near overflow, infinite or NaN) is left to :func:`_quotient`.
    """
    negative = carried(total)[:, -TALLIES - 1] < 0
    limbs = carried(np.where(negative[:, None], -total, total))[:, :-TALLIES].T
    quotient = np.zeros((len(limbs) + 2, len(total)), np.int64)  # two limbs below, so that three can always be taken
    rest = np.zeros(len(total), np.int64)
    for place in reversed(range(len(limbs))):
        quotient[place + 2], rest = np.divmod((rest << 32) + limbs[place], batch)
    mantissa, exponent = _leading(quotient, rest != 0)
    exponent += REGISTERS[dtype.name].unit - 64
    found = np.ldexp(np.where(negative, -mantissa, mantissa).astype(dtype), exponent.astype(np.int32))
    limits = np.finfo(dtype)
    ordinary = (exponent + 61 >= limits.minexp) & (exponent + 62 < limits.maxexp) | (mantissa == 0)
    for row in np.flatnonzero(~ordinary | total[:, -TALLIES:].any(axis=1)):
        found[row] = _quotient(total[row], batch, dtype)
    return np.asarray(found)


def _leading(quotient: Rows, rest: NDArray[np.bool_]) -> tuple[Bits, Bits]:
    """m and k with q = m 2^k for each column of limbs, cut to 62 bits, of which the last is 1 if anything was cut off:
    rounded to 53 or 24 bits, m gives what q does."""
    columns = np.arange(quotient.shape[1])
    top = np.maximum(len(quotient) - 1 - np.argmax(quotient[::-1] != 0, axis=0), 2)
    high, middle, low = (quotient[top - below, columns] for below in range(3))
    width = np.frexp(high.astype(np.float64))[1].astype(np.int64)  # bits of the highest limb
    cut = (width + 2).astype(np.uint64)
    both = (middle.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)
    mantissa = (high << (62 - width)) | (both >> cut).astype(np.int64)
    taken = sum((limb != 0).astype(np.int64) for limb in (high, middle, low))
    lost = rest | ((both & ((np.uint64(1) << cut) - np.uint64(1))) != 0) | ((quotient != 0).sum(axis=0) > taken)
    return mantissa | lost, 32 * (top - 2) + width + 2


def _quotient(row: Rows, batch: int, dtype: np.dtype[Any]) -> float | np.floating[Any]:
    """The number nearest to S / batch."""
    register = REGISTERS[dtype.name]
    up, down, nan = row[-TALLIES:]
    if nan or up or down:
        return float("nan") if nan or (up and down) else float("inf") if up else float("-inf")
    n = sums.integer(row[:-TALLIES])
    shift = max(0, KEPT + batch.bit_length() - n.bit_length())
    whole, rest = divmod(abs(n) << shift, batch)
    found = 2 * whole + (rest != 0)
    unit = register.unit - shift - 1
    if dtype == np.float32:
        found, unit = _to_odd(found, unit)
    exact: np.floating[Any] = dtype.type(round_scaled(-found if n < 0 else found, unit))
    return exact


def _to_odd(n: int, unit: int) -> tuple[int, int]:
    """n 2^unit cut to 50 bits, the last of them 1 if anything was cut off: exact in float64, and from there rounded to
    float32 as n itself would be, since 50 > 24 + 1."""
    cut = max(0, n.bit_length() - 50)
    return (n >> cut) | bool(n & ((1 << cut) - 1)), unit + cut
