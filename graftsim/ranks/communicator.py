"""What ranks say to each other: they add rows of exact sums, and put parts together. Nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graftsim.engine import Exchange
from graftsim.sums import Rows

TALLIES = 3
"""At the end of a row stand three counts, of +infinity, -infinity and NaN; limbs stand before them."""


class Communicator(Protocol):
    """One rank's side of a group of ranks. All ranks must make the same calls in the same order."""

    @property
    def rank(self) -> int:
        """This rank's number, from 0."""

    @property
    def size(self) -> int:
        """How many ranks there are."""

    def add(self, numbers: Rows) -> Rows:
        """The sum over all ranks of an int64 array whose shape all ranks share."""

    def gather(self, part: NDArray[Any], sizes: Sequence[int]) -> NDArray[Any]:
        """The parts of all ranks, one after another, on every rank. Part r has shape (sizes[r],); one dtype."""


def exchange(communicator: Communicator) -> Exchange:
    """The exchange of an engine: all sums of a level in one addition of integers."""

    def over_ranks(asked: list[Rows]) -> list[Rows]:
        flat = communicator.add(np.concatenate([carried(rows).reshape(-1) for rows in asked]))
        ends = np.cumsum([rows.size for rows in asked])
        return [part.reshape(rows.shape) for part, rows in zip(np.split(flat, ends[:-1]), asked, strict=True)]

    return over_ranks


def carried(rows: Rows) -> Rows:
    """The same sums with every limb but the last in [0, 2^32), so that 2^31 ranks can be added in int64.

    Args:
        rows: shape (groups, width), as of :func:`graftsim.sums.rows`, where a limb may be almost full.
    """
    found = rows.copy()
    for limb in range(rows.shape[1] - TALLIES - 1):
        found[:, limb + 1] += found[:, limb] >> 32
        found[:, limb] &= (1 << 32) - 1
    return found


class Counted:
    """A communicator that counts what passes through it: calls, and bytes that this rank contributes."""

    def __init__(self, inner: Communicator) -> None:
        self.inner = inner
        self.additions: list[int] = []
        self.gathered: list[int] = []

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def size(self) -> int:
        return self.inner.size

    def add(self, numbers: Rows) -> Rows:
        self.additions.append(numbers.nbytes)
        return self.inner.add(numbers)

    def gather(self, part: NDArray[Any], sizes: Sequence[int]) -> NDArray[Any]:
        self.gathered.append(part.nbytes)
        return self.inner.gather(part, sizes)
