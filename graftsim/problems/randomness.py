"""Random numbers of problems: Philox, a counter-based generator, so that any step's draws are had without the others'.

Philox's own output and what is made of it here by integers (uniform numbers, orders) is the same for every version of
NumPy; ``standard_normal`` is not promised to be.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]

DATA, ORDER, START, MASKS = 0, 1, 2, 3
"""Purposes: streams of one seed that must not meet."""


def generator(seed: int, purpose: int, number: int = 0) -> np.random.Generator:
    """The generator of one seed, purpose and number (of a pass, for example): 2^128 draws that no other has."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, number, purpose]))


@functools.lru_cache(maxsize=16)
def shuffled(count: int, seed: int, purpose: int, number: int = 0) -> Index:
    """A random order of ``count`` things: that of 64-bit draws, equal ones (once in 2^64) as they come."""
    order = np.argsort(generator(seed, purpose, number).bit_generator.random_raw(count), kind="stable")
    order.flags.writeable = False
    return order


def batch(count: int, size: int, step: int, seed: int) -> Index | slice:
    """The indices of the mini-batch of a step.

    Each pass over the data has an order of its own and is cut into batches of ``size``, the last one short. A full
    batch is in the data's own order, whatever the seed.
    """
    if size >= count:
        return slice(None)
    passes, place = divmod(step - 1, -(-count // size))
    return shuffled(count, seed, ORDER, passes)[place * size : place * size + size]
