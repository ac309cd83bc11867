"""What a law compares: two values that a right candidate cannot tell apart, and how far they may be from each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graftsim.layouts import Layout
from graftsim.program import Rank, StateSlot
from graftsim_conformance.cases import Array


@dataclass(frozen=True)
class Compared:
    """Values of one place after one step. ``error`` is the whole tolerance, 0 where all bits must agree."""

    step: int
    place: str
    got: Array
    want: Array
    error: Array
    label: Callable[[int], str]

    @property
    def units(self) -> Array:
        """How far off in tolerances, of which 1 is allowed. Steps and weights must be finite numbers; NaN in the state
        of an empty group is not for a law to judge."""
        with np.errstate(all="ignore"):
            distance = np.abs(self.got - self.want) / self.error
        agreed = np.isnan(self.got) & np.isnan(self.want) & (self.place not in ("weights", "length", "direction"))
        off = np.where((self.got == self.want) | np.isinf(self.error), 0.0, distance)
        return np.where(agreed, 0.0, np.where(np.isfinite(self.got) & ~np.isnan(off), off, np.inf))

    @property
    def decided(self) -> Array:
        return ~np.isinf(self.error)


def to_the_bit(step: int, place: str, got: Array, want: Array, label: Callable[[int], str]) -> Compared:
    return Compared(step, place, got, want, np.zeros(want.shape), label)


def label(slot: StateSlot, layout: Layout) -> Callable[[int], str]:
    """What a number of a slot is called."""
    match slot.kind.rank:
        case Rank.COORDINATE:
            return layout.where
        case Rank.MATRIX:
            return "number {}".format
    return slot.kind.partition.label
