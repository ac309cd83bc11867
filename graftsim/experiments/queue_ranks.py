"""Workers that are the ranks of MPI. Rank 0 leads: it alone runs the program, and the others do the jobs it hands out.

Rank 0 does jobs as well, in a thread beside the one that speaks to the others. Nobody spins while waiting.
"""

from __future__ import annotations

import atexit
import functools
import queue as queues
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from graftsim.experiments.jobs import Job
from graftsim.experiments.queue import STOP, answer, hand_out
from graftsim.ranks import agreement, launcher
from graftsim.versions import version

if TYPE_CHECKING:
    from graftsim.ranks.mpi import World

PAUSE = 1e-3
"""Seconds between two looks at whether a message has come."""


@functools.cache
def lead() -> Ranks | None:
    """Become the rank that leads: called on every rank, it returns on rank 0 alone. The other ranks serve here until
    rank 0 ends, and then exit with code 0.

    Returns:
        The team of all ranks; None in a process of its own, and where there is one rank.

    Raises:
        GraftsimError: started by a launcher, and mpi4py is missing or found another MPI.
        AgreedError: ranks that have other versions of graftsim.
    """
    launched = launcher.started()
    if launched is None or launched[1] == 1:
        return None
    from graftsim.ranks.mpi import World, library

    world = World()
    launcher.check(*launched, world.size, library())
    with launcher.ended_together(world.rank, world.size, world.abort):
        agreement.agree(world, {"version of graftsim": version()})
        if world.rank != 0:
            _serve(world)
    if world.rank != 0:
        sys.exit(0)
    return Ranks(world)


def _serve(world: World) -> None:
    """Do the jobs that rank 0 asks for."""
    while (message := _awaited(world)) != STOP:
        world.send(answer(message), 0)


def _awaited(world: World) -> bytes:
    while (found := world.receive()) is None:
        time.sleep(PAUSE)
    return found[1]


class Ranks:
    """The team on rank 0, of all ranks; worker 0 is a thread of rank 0 itself.

    When rank 0 ends it stops the others; where they are still busy, because the work has failed, it ends them.
    """

    def __init__(self, world: World) -> None:
        self.size, self._world = world.size, world
        self._busy: set[int] = set()
        self._code = 1
        self._asked: queues.SimpleQueue[bytes] = queues.SimpleQueue()
        self._answered: queues.SimpleQueue[bytes] = queues.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()
        atexit.register(self._end)

    def hand_out(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
        """As :func:`graftsim.experiments.queue.hand_out`."""
        while self._busy:  # with jobs of work that has failed
            self.receive()
        try:
            yield from hand_out(self, jobs)
        except BaseException as error:
            self._code, _ = launcher.outcome(error)
            raise

    def send(self, worker: int, message: bytes) -> None:
        self._busy.add(worker)
        if worker == 0:
            self._asked.put(message)
        else:
            self._world.send(message, worker)

    def receive(self) -> tuple[int, bytes]:
        while True:
            found = (0, self._answered.get()) if not self._answered.empty() else self._world.receive()
            if found is not None:
                self._busy.remove(found[0])
                return found
            time.sleep(PAUSE)

    def _work(self) -> None:
        while True:
            self._answered.put(answer(self._asked.get()))

    def _end(self) -> None:
        if self._busy:
            sys.stdout.flush()
            sys.stderr.flush()
            self._world.abort(self._code)
        for rank in range(1, self.size):
            self._world.send(STOP, rank)
