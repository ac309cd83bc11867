"""How fast this machine moves memory: compiled loops over as much memory as a step touches, on as many threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit

from graftsim.bench.timing import Contestant
from graftsim.compiled.lowering import Lowered, arrays_read

COPY = "byte limit (copy)"
IN_PLACE = "byte limit (in place)"


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _copy(source: Any, target: Any) -> None:
    for i in range(source.size):
        target[i] = source[i]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _flip(both: Any) -> None:
    for i in range(both.size):
        both[i] = -both[i]


def limits(lowered: Lowered, threads: int, pool: ThreadPoolExecutor) -> list[Contestant]:
    """A copy, and a change of sign in place, over as much memory as the step's arrays take.

    One call moves fewer words than a step; its time is scaled to the words that the plan reads and writes.
    """
    program = lowered.program
    words = sum(read + written for read, written in lowered.words())
    arrays = {name for each in lowered.passes for name in (*arrays_read(each, program), *each.stores)}
    half = len(arrays) * program.layout.size // 2
    source, target = np.ones(half, program.dtype), np.ones(half, program.dtype)
    both = np.ones(2 * half, program.dtype)
    copied = _parts(lambda part: _copy(source[part], target[part]), half, threads, pool)
    flipped = _parts(lambda part: _flip(both[part]), 2 * half, threads, pool)
    moved = words * program.layout.size
    return [
        Contestant(COPY, copied, 1, scale=moved / (2 * half)),
        Contestant(IN_PLACE, flipped, 1, scale=moved / (4 * half)),
    ]


def _parts(
    work: Callable[[slice], None], size: int, threads: int, pool: ThreadPoolExecutor
) -> Callable[[], list[None]]:
    cuts = [size * k // threads for k in range(threads + 1)]
    parts = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    return lambda: list(pool.map(work, parts))
