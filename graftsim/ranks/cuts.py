"""Where the coordinates are cut: rank r has those from ``bounds[r]`` to ``bounds[r + 1]``, possibly none."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from graftsim.errors import GraftsimError
from graftsim.layouts import Layout


@dataclass(frozen=True)
class Cut:
    """Contiguous shards, in the order of the ranks."""

    bounds: tuple[int, ...]
    """Where each rank's coordinates begin, and at last where all end."""
    tensors: tuple[int, ...] | None = None
    """Where each rank's tensors begin, if each is whole on one rank."""

    @property
    def ranks(self) -> int:
        return len(self.bounds) - 1


def balanced(layout: Layout, ranks: int) -> Cut:
    """Shards whose sizes differ by at most one coordinate, cut anywhere.

    >>> balanced(Layout.of({"w": (5, 2)}), 4).bounds
    (0, 2, 5, 7, 10)
    """
    return Cut(tuple(layout.size * rank // ranks for rank in range(ranks + 1)))


def at(layout: Layout, bounds: Sequence[int]) -> Cut:
    """A cut at chosen places.

    Raises:
        GraftsimError: bounds that do not rise from 0 to the number of coordinates.
    """
    found = tuple(int(bound) for bound in bounds)
    if len(found) < 2 or (found[0], found[-1]) != (0, layout.size) or list(found) != sorted(found):
        raise GraftsimError(f"the bounds of shards must rise from 0 to {layout.size}; received {list(bounds)}")
    return Cut(found)


def whole_tensors(layout: Layout, ranks: int) -> Cut:
    """Shards of whole tensors, each bound the end of a tensor that is nearest to the balanced one (GS-matrix-place).

    >>> whole_tensors(Layout.of({"a": (6,), "b": (1,), "c": (1,)}), 2)
    Cut(bounds=(0, 6, 8), tensors=(0, 1, 3))
    """
    places = layout.offsets

    def nearest(rank: int) -> int:
        goal = layout.size * rank  # in units of 1 / ranks, so that nothing is rounded
        after = bisect_left(places, goal, key=lambda place: place * ranks)
        if after and goal - places[after - 1] * ranks <= places[after] * ranks - goal:
            return after - 1
        return after

    tensors = (0, *(nearest(rank) for rank in range(1, ranks)), len(layout.tensors))
    return Cut(tuple(places[tensor] for tensor in tensors), tensors)
