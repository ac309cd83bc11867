"""What ranks cost, measured; rank 0 prints.

``mpiexec -n 4 python -m graftsim.ranks.measure`` times sums over ranks, one line a size, and fits the model of
:mod:`graftsim.ranks.costs`. With a number of coordinates, ``... graftsim.ranks.measure 1e8``, it times steps of
Adam#SGD in float32 with one norm a tensor, by the compiled engine, on 1 rank, 2 and so on up to all: strong scaling.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graftsim.compiler import build
from graftsim.engine import Engine
from graftsim.errors import GraftsimError
from graftsim.layouts import Layout
from graftsim.ranks import agreement, costs, launcher
from graftsim.ranks.communicator import Communicator
from graftsim.ranks.engine import RankEngine
from graftsim.record import Moment
from graftsim.sums import REGISTERS

if TYPE_CHECKING:
    from graftsim.ranks.mpi import World

GROUPS = (1, 10, 100, 1_000, 10_000, 100_000)
REPEATS = 30
TENSORS, MACHINE, STEPS = 50, "adam#sgd", 10
LARGEST = 1e10


def seconds(communicator: Communicator, groups: int, dtype: str, repeats: int) -> list[float]:
    """The times of additions of so many rows, on this rank."""
    rows = np.ones((groups, REGISTERS[dtype].width), np.int64)
    return [_timed(communicator, lambda: communicator.add(rows)) for _ in range(repeats + 2)][2:]


@dataclass(frozen=True)
class Steps:
    """Seconds of this rank: to build its program, and of each step and each gathering of the weights."""

    building: float
    steps: list[float]
    gatherings: list[float]


def steps(communicator: Communicator, size: int, repeats: int = STEPS) -> Steps:
    """Times of steps over ``size`` coordinates, cut over the ranks; each rank has the gradient of its shard."""
    begin = time.perf_counter()
    ends = [size * number // TENSORS for number in range(TENSORS + 1)]
    layout = Layout.of({f"w{number}": (ends[number + 1] - ends[number],) for number in range(TENSORS)})
    engine = RankEngine(build(MACHINE, layout, "float32"), communicator, engine="compiled")
    mine = engine.program.layout.size
    gradient = np.cos(np.arange(mine, dtype=np.float32))
    moment = Moment(0, np.zeros(mine, np.float32), Engine(engine.program).initial_state(), {})
    building = time.perf_counter() - begin
    found = Steps(building, [], [])

    def step() -> None:
        nonlocal moment
        moment = engine.step_of_shard(moment, gradient)

    step()  # which is not counted: it compiles, and pages are new
    for _ in range(repeats):
        found.steps.append(_timed(communicator, step))
        found.gatherings.append(_timed(communicator, lambda: engine.weights(moment)))
    return found


def _timed(communicator: Communicator, work: Callable[[], object]) -> float:
    communicator.gather(np.zeros(1), [1] * communicator.size)  # so that all begin together
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _report_additions(world: Communicator) -> None:
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


def _report_steps(world: World, size: int) -> None:
    """The same steps by one rank, two, four and so on up to all, one after the other; the others wait."""
    counts = sorted({1 << power for power in range(world.size.bit_length())} | {world.size})
    alone = 0.0
    for count in counts:
        part = world.first(count)
        found = steps(part, size) if part else None
        world.gather(np.zeros(1), [1] * world.size)  # who waits, waits here
        if world.rank == 0 and found:
            alone = alone or min(found.steps)
            print(
                f"{count} ranks, {size:g} coordinates: building {found.building:.2f} s, "
                f"a step {min(found.steps):.4f} s least, {statistics.median(found.steps):.4f} s median, "
                f"{alone / min(found.steps):.2f} times as fast as one rank; "
                f"gathering the weights {min(found.gatherings):.4f} s least",
                flush=True,
            )


def _size(arguments: Sequence[str]) -> int | None:
    """The number of coordinates, if one is given.

    Raises:
        GraftsimError: it is none, or too small or large.
    """
    if not arguments:
        return None
    try:
        size = float(arguments[0])
    except ValueError:
        size = 0.0
    if not (TENSORS <= size <= LARGEST and size == int(size)):
        raise GraftsimError(
            f"the number of coordinates must be whole, from {TENSORS} to {LARGEST:g}; received {arguments[0]!r}"
        )
    return int(size)


def main(arguments: Sequence[str]) -> None:
    """The command.

    Raises:
        GraftsimError: on rank 0, a mistake in the arguments; the other ranks leave.
    """
    from graftsim.ranks.mpi import World

    with launcher.session() as started:
        world = started or World()
        size = agreement.together(world, lambda: _size(arguments))
        if size is None:
            _report_additions(world)
        else:
            _report_steps(world, size)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except GraftsimError as error:
        print(f"graftsim: {error}", file=sys.stderr)
        sys.exit(2)
