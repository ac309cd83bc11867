"""What a sum over ranks costs: ``mpiexec -n 4 python -m graftsim.ranks.measure`` prints one line a size, on rank 0."""

from __future__ import annotations

import statistics
import time

import numpy as np

from graftsim.ranks import costs
from graftsim.ranks.communicator import Communicator
from graftsim.ranks.mpi import World
from graftsim.sums import REGISTERS

GROUPS = (1, 10, 100, 1_000, 10_000, 100_000)
REPEATS = 30


def seconds(communicator: Communicator, groups: int, dtype: str, repeats: int) -> list[float]:
    """The times of additions of so many rows, on this rank."""
    rows = np.ones((groups, REGISTERS[dtype].width), np.int64)
    found = []
    for _ in range(repeats + 2):
        communicator.gather(np.zeros(1), [1] * communicator.size)  # so that all begin together
        begin = time.perf_counter()
        communicator.add(rows)
        found.append(time.perf_counter() - begin)
    return found[2:]


def main() -> None:
    world = World()
    sizes, least = [], []
    for dtype in REGISTERS:
        for groups in GROUPS:
            found = seconds(world, groups, dtype, REPEATS if groups < 100_000 else 5)
            sizes.append(groups * costs.row_bytes(dtype))
            least.append(min(found))
            if world.rank == 0:
                times = f"least {least[-1] * 1e6:.1f} us, median {statistics.median(found) * 1e6:.1f} us"
                print(f"{world.size} ranks, {groups} groups, {dtype}, {sizes[-1]} bytes: {times}", flush=True)
    if world.rank == 0 and world.size > 1:
        network = costs.fit(world.size, sizes, least)
        modelled = [costs.addition(network, world.size, size) for size in sizes]
        off = max(max(a / b, b / a) for a, b in zip(modelled, least, strict=True))
        print(
            f"fitted: latency {network.latency * 1e6:.2f} us, {network.per_byte * 1e9:.3f} ns a byte; "
            f"at worst a factor {off:.1f} from the least times"
        )


if __name__ == "__main__":
    main()
