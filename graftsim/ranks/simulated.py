"""Any number of ranks in one process, in lockstep: each runs until it speaks, then the next has its turn.

A rank is a thread, and exactly one runs at a time, so that the order is always the same. The code of a rank is the code
that runs under MPI.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from graftsim.ranks.communicator import Communicator
from graftsim.sums import Rows

Result = TypeVar("Result")


class _Stopped(BaseException):
    """Ends a rank that waits for one that has failed."""


def run(ranks: int, work: Callable[[Communicator], Result]) -> list[Result]:
    """``work`` on each of so many ranks; the results in the order of the ranks.

    Raises:
        RuntimeError: ranks made different calls, or one ended while others waited for it.
        Exception: the first that a rank raised, with a note that names the rank; all other ranks end.
    """
    world = _World(ranks, work)
    threads = [threading.Thread(target=world.live, args=(rank,), daemon=True) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    world.turns[0].release()
    for thread in threads:
        thread.join()
    if world.failure is not None:
        raise world.failure
    return world.results


class _World:
    def __init__(self, ranks: int, work: Callable[[Communicator], Any]) -> None:
        self.ranks, self.work = ranks, work
        self.turns = [threading.Semaphore(0) for _ in range(ranks)]
        self.alive = [True] * ranks
        self.said: list[str] = [""] * ranks
        self.offered: list[NDArray[Any]] = [np.zeros(0)] * ranks
        self.answer: NDArray[Any] = np.zeros(0)
        self.results: list[Any] = [None] * ranks
        self.failure: BaseException | None = None

    def live(self, rank: int) -> None:
        """A rank's thread."""
        self.turns[rank].acquire()
        try:
            if self.failure is None:
                self.results[rank] = self.work(_Rank(self, rank))
                self.said[rank] = "ended"
                if rank == self.ranks - 1:
                    self.agree()
        except _Stopped:
            pass
        except BaseException as error:  # whatever it is, the others must not wait for ever
            error.add_note(f"raised on rank {rank} of {self.ranks}")
            self.failure = error
        self.alive[rank] = False
        self.pass_on(rank)

    def pass_on(self, rank: int) -> None:
        """Give the turn to the next rank that still lives."""
        after = ((rank + step) % self.ranks for step in range(1, self.ranks + 1))
        heir = next((other for other in after if self.alive[other]), None)
        if heir is not None:
            self.turns[heir].release()

    def speak(self, rank: int, call: str, offer: NDArray[Any], answer: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Offer something, let every other rank do so, and hear the answer, which the last rank forms."""
        self.said[rank], self.offered[rank] = call, offer
        if rank == self.ranks - 1:
            self.agree()
            self.answer = answer()
            self.answer.flags.writeable = False  # all ranks read one array
        self.pass_on(rank)
        self.turns[rank].acquire()
        if self.failure is not None:
            raise _Stopped
        return self.answer

    def agree(self) -> None:
        """All ranks must have made the same call."""
        odd = next((rank for rank, said in enumerate(self.said) if said != self.said[0]), None)
        if odd is not None:
            raise RuntimeError(f"ranks must make the same calls: rank 0 {self.said[0]}, rank {odd} {self.said[odd]}")


class _Rank:
    """One rank's communicator."""

    def __init__(self, world: _World, rank: int) -> None:
        self._world, self.rank, self.size = world, rank, world.ranks

    def add(self, numbers: Rows) -> Rows:
        world = self._world
        call = f"adds {numbers.dtype} of shape {numbers.shape}"
        return world.speak(self.rank, call, numbers, lambda: np.asarray(np.sum(world.offered, axis=0)))

    def gather(self, part: NDArray[Any], sizes: Sequence[int]) -> NDArray[Any]:
        if part.shape != (sizes[self.rank],):
            raise RuntimeError(f"a part must have shape {(sizes[self.rank],)}; received {part.shape}")
        world = self._world
        call = f"gathers {part.dtype} of {sum(sizes)}"
        return world.speak(self.rank, call, part, lambda: np.concatenate(world.offered))
