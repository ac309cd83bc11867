"""How a program's layout is cut: segments, items of work, threads, and where the sums of each group are kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftsim.layouts import Layout
from graftsim.partitions import Partition

Index = NDArray[np.int64]
CHUNK = 1 << 16
"""Coordinates in an item of work, at most."""


def segmented(partition: Partition) -> bool:
    """Whether group values can be loop constants: the groups lie in runs that are long, or are a handful.

    Else the group values are spread out over the coordinates before a pass reads them.
    """
    if partition.key in ("global", "tensor"):
        return True
    if partition.key == "coordinate":
        return False
    few = partition.count + len(partition.layout.tensors)
    return partition.runs <= few or 16 * partition.runs <= partition.layout.size


@dataclass(frozen=True)
class Slots:
    """Where items put their sums: a negative slot means that the item is all there is of its group."""

    of_item: Index
    group: Index
    """The group of each slot; the slots of one group are neighbours."""


@dataclass(frozen=True)
class Plan:
    """Items of work in the order of memory, each within one segment; ``ranges`` cuts them into one part a thread."""

    start: Index
    stop: Index
    ranges: tuple[tuple[int, int], ...]
    group: dict[str, Index]
    """For each segmented partition the group of each item."""
    slots: dict[str, Slots]


def make(layout: Layout, partitions: Iterable[Partition], present: NDArray[np.bool_], threads: int) -> Plan:
    """Cut a layout.

    Args:
        layout: the layout.
        partitions: all of which values are read or sums taken; those that are not segmented are left out.
        present: for each tensor whether it has a gradient; the others get no item.
        threads: how many parts.
    """
    used = {partition.key: partition for partition in partitions if segmented(partition)}
    edges = {*layout.offsets}
    for partition in used.values():
        edges |= {int(edge) for edge in np.flatnonzero(np.diff(partition.group_of)) + 1}
    bounds = np.array(sorted(edges), np.int64)
    tensor = np.repeat(np.arange(len(layout.tensors)), layout.sizes)
    pieces = [
        (begin, min(begin + CHUNK, stop))
        for first, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        if stop > first and present[tensor[first]]
        for begin in range(first, stop, CHUNK)
    ]
    start = np.array([piece[0] for piece in pieces], np.int64)
    stop = np.array([piece[1] for piece in pieces], np.int64)
    ranges = _ranges(stop - start, threads)
    group = {key: partition.group_of[start] for key, partition in used.items()}
    slots = {key: _slots(rows, ranges, used[key].shared) for key, rows in group.items()}
    return Plan(start, stop, ranges, group, slots)


def _ranges(sizes: Index, threads: int) -> tuple[tuple[int, int], ...]:
    """Consecutive items for each thread, with about as many coordinates."""
    reached = np.cumsum(sizes)
    total = int(reached[-1]) if reached.size else 0
    cuts = [int(np.searchsorted(reached, total * part / threads)) for part in range(1, threads)]
    bounds = [0, *cuts, len(sizes)]
    return tuple(itertools.pairwise(bounds))


def _slots(group: Index, ranges: tuple[tuple[int, int], ...], shared: bool) -> Slots:
    """A slot for each group and thread, but for groups that are one item and not shared with other ranks."""
    items = np.bincount(group, minlength=1) if group.size else np.zeros(1, np.int64)
    summed = items[group] > (0 if shared else 1)
    thread = np.zeros(group.size, np.int64)
    for number, (first, last) in enumerate(ranges):
        thread[first:last] = number
    pairs = np.stack([group, thread], axis=1)[summed] if group.size else np.zeros((0, 2), np.int64)
    found, index = np.unique(pairs, axis=0, return_inverse=True)
    of_item = np.full(group.size, -1, np.int64)
    if pairs.size:
        of_item[summed] = index.reshape(-1)
    return Slots(of_item, found[:, 0].astype(np.int64))
