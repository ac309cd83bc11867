"""What a step over ranks costs: bytes exactly, seconds by a model of two numbers (``docs/scaling.md``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graftsim.errors import GraftsimError
from graftsim.partitions import Partition
from graftsim.program import Program
from graftsim.ranks.cuts import balanced
from graftsim.ranks.sharding import Sharding
from graftsim.sums import REGISTERS


@dataclass(frozen=True)
class Network:
    """Seconds that a message takes on its way, and seconds for each byte of it."""

    latency: float
    per_byte: float


def row_bytes(dtype: str) -> int:
    """Bytes of one exact sum: 184 for float32, 1096 for float64."""
    return 8 * REGISTERS[dtype].width


def added_bytes(program: Program) -> list[int]:
    """For each level with sums over ranks, the bytes that each rank contributes to its one addition."""
    local = Sharding(program, balanced(program.layout, 1)).local if program.reductions else frozenset()

    def groups(partition: Partition) -> int:
        return 0 if partition.key in local else partition.count

    levels = [sum(groups(each.partition) for each in reductions) for _, reductions in program.by_level]
    return [count * row_bytes(program.dtype.name) for count in levels if count]


def addition(network: Network, ranks: int, size: int) -> float:
    """Seconds of one addition of ``size`` bytes: 2 ceil(log2 P) messages one after another, and every byte sent and
    received but for a P-th (reduce-scatter and allgather, the best for long messages; Thakur, Rabenseifner and Gropp,
    2005)."""
    return 2 * (ranks - 1).bit_length() * network.latency + 2 * (1 - 1 / ranks) * size * network.per_byte


def gathering(network: Network, ranks: int, size: int) -> float:
    """Seconds until every rank has ``size`` bytes of which each had a P-th."""
    return (ranks - 1).bit_length() * network.latency + (1 - 1 / ranks) * size * network.per_byte


def fit(ranks: int, sizes: Sequence[int], seconds: Sequence[float]) -> Network:
    """The network whose :func:`addition` differs least from measured times, in the sum of squared relative errors.

    Raises:
        GraftsimError: one rank, which sends nothing.
    """
    if ranks < 2:
        raise GraftsimError("a network needs at least 2 ranks; received 1")
    latency = [addition(Network(1.0, 0.0), ranks, size) for size in sizes]
    per_byte = [addition(Network(0.0, 1.0), ranks, size) for size in sizes]
    rows = np.stack([latency, per_byte], axis=1) / np.array(seconds)[:, None]
    found, *_ = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)
    return Network(float(found[0]), float(found[1]))
