"""Data parallel gradients: the mean over a global batch, which no cut of the batch over ranks can change."""

from __future__ import annotations

import numpy as np

from graftsim import sums
from graftsim.errors import GraftsimError
from graftsim.layouts import Array
from graftsim.ranks.communicator import Communicator, exchange
from graftsim.scalars import round_scaled
from graftsim.sums import REGISTERS, Rows

KEPT = 60
"""Bits of a quotient that are kept, beside one that tells whether anything was cut off; float64 needs 54."""


def mean(communicator: Communicator, examples: Array) -> Array:
    """The number of dtype T nearest to (g_1 + ... + g_B) / B for each coordinate, the sum taken exactly.

    Args:
        communicator: this rank's; all ranks make the call at the same time.
        examples: the gradients of this rank's part of the batch, shape (b, coordinates), dtype T float32 or float64; b
            may be 0, and differ from rank to rank. B is the sum of all b.

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
    total, batch = exchange(communicator)([local, np.array([[count, 0, 0, 0]])])
    if batch[0, 0] == 0:
        raise GraftsimError("a batch must have an example on some rank; there is none")
    return np.array([_quotient(row, int(batch[0, 0]), examples.dtype) for row in total], examples.dtype)


def _quotient(row: Rows, batch: int, dtype: np.dtype[np.floating]) -> float | np.floating:
    """The number nearest to S / batch."""
    register = REGISTERS[dtype.name]
    up, down, nan = row[-3:]
    if nan or up or down:
        return float("nan") if nan or (up and down) else float("inf") if up else float("-inf")
    n = sums.integer(row[:-3])
    shift = max(0, KEPT + batch.bit_length() - n.bit_length())
    whole, rest = divmod(abs(n) << shift, batch)
    found = 2 * whole + (rest != 0)
    unit = register.unit - shift - 1
    if dtype == np.float32:
        found, unit = _to_odd(found, unit)
    return dtype.type(round_scaled(-found if n < 0 else found, unit))


def _to_odd(n: int, unit: int) -> tuple[int, int]:
    """n 2^unit cut to 50 bits, the last of them 1 if anything was cut off: exact in float64, and from there rounded to
    float32 as n itself would be, since 50 > 24 + 1."""
    cut = max(0, n.bit_length() - 50)
    return (n >> cut) | bool(n & ((1 << cut) - 1)), unit + cut
