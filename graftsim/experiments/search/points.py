"""Quasi-random points of the unit cube: Halton's sequence and a shift modulo 1 that the seed chooses.

Coordinate j of point i is the radical inverse of ``i + SKIP`` in the j-th prime, plus the j-th shift, modulo 1. Points
are jobs: a ledger that has one is read and nothing is drawn, so that a search goes on with the points that it began
with even where another version of scipy would draw others.

Source: Halton 1960; Bousquet et al. 2017, on searches of hyperparameters.
"""

from __future__ import annotations

from collections.abc import Sequence

from graftsim.errors import GraftsimError
from graftsim.experiments.jobs import Job
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.workers import work
from graftsim.problems.randomness import generator

SKIP = 1
"""Points that are passed over: the first of the sequence is the origin, whatever the dimension."""
SHIFT = 0x5EA
"""The purpose of the generator that draws shifts; no problem uses it."""
DIMENSIONS = 20
POINTS = 100_000


def point(dimensions: int, index: int, seed: int) -> list[float]:
    """Point ``index`` (from 0) of the shifted sequence; coordinates in [0, 1)."""
    unshifted = halton(dimensions, index + SKIP)
    return [(place + by) % 1 for place, by in zip(unshifted, shift(dimensions, seed), strict=True)]


def halton(dimensions: int, number: int) -> list[float]:
    """Point ``number`` of Halton's sequence, without scrambling; number 0 is the origin."""
    try:
        from scipy.stats import qmc
    except ImportError:
        raise GraftsimError("a search needs scipy: pip install 'graftsim[experiments]'") from None
    sequence = qmc.Halton(dimensions, scramble=False)
    sequence.fast_forward(number)
    return [float(place) for place in sequence.random(1)[0]]


def shift(dimensions: int, seed: int) -> list[float]:
    """The shift of each coordinate, a multiple of 2^-53 in [0, 1); those of fewer dimensions are the first of more."""
    draws = generator(seed, SHIFT).bit_generator.random_raw(dimensions)
    return [int(draw >> 11) * 2.0**-53 for draw in draws]


def points(dimensions: int, count: int, seed: int, ledger: Ledger) -> list[tuple[float, ...]]:
    """The first points; those that the ledger has are taken from it, the others are drawn and written there.

    Raises:
        GraftsimError: dimensions or a count out of range, or a ledger that holds something else.
    """
    if not (1 <= dimensions <= DIMENSIONS and 1 <= count <= POINTS):
        raise GraftsimError(
            f"there must be 1 to {DIMENSIONS} dimensions and 1 to {POINTS} points; received {dimensions} and {count}"
        )
    found = work([_job(dimensions, index, seed) for index in range(count)], ledger)
    return [_checked(row, dimensions) for row in found]


def _job(dimensions: int, index: int, seed: int) -> Job:
    arguments = {"dimensions": dimensions, "index": index, "seed": seed}
    return Job("graftsim.experiments.search.points:point", arguments)


def _checked(row: Sequence[float], dimensions: int) -> tuple[float, ...]:
    """A row may come from a file that somebody has edited."""
    valid = isinstance(row, list) and all(isinstance(place, int | float) and 0 <= place < 1 for place in row)
    if not valid or len(row) != dimensions:
        raise GraftsimError(f"a point in the ledger must be {dimensions} numbers in [0, 1); it holds {row!r:.80}")
    return tuple(float(place) for place in row)
