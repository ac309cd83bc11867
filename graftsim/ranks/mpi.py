"""Ranks of MPI. Nothing else imports mpi4py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.sums import Rows

try:
    from mpi4py import MPI
except ImportError:
    raise GraftsimError(
        "many ranks need mpi4py, which is not installed; run: pip install 'graftsim[mpi]', and an MPI such as mpich"
    ) from None
except RuntimeError as error:  # mpi4py is there and finds no MPI library
    raise GraftsimError(f"mpi4py must find an MPI library, such as that of: pip install mpich; {error}") from None


class World:
    """All ranks of the job, or of a part of it. Arrays travel as buffers; nothing is pickled."""

    def __init__(self, ranks: MPI.Comm = MPI.COMM_WORLD) -> None:
        self._all = ranks
        self.rank, self.size = self._all.Get_rank(), self._all.Get_size()

    def first(self, count: int) -> World | None:
        """The first ``count`` ranks as a world of their own; None on the others. All ranks must call it."""
        found = self._all.Split(0 if self.rank < count else MPI.UNDEFINED, self.rank)
        return None if found == MPI.COMM_NULL else World(found)

    def add(self, numbers: Rows) -> Rows:
        found = np.ascontiguousarray(numbers).copy()
        self._all.Allreduce(MPI.IN_PLACE, found, op=MPI.SUM)
        return found

    def gather(self, part: NDArray[Any], sizes: Sequence[int]) -> NDArray[Any]:
        if part.shape != (sizes[self.rank],):
            raise RuntimeError(f"a part must have shape {(sizes[self.rank],)}; received {part.shape}")
        found = np.empty(sum(sizes), part.dtype)
        self._all.Allgatherv(np.ascontiguousarray(part), (found, list(sizes)))
        return found

    def send(self, message: bytes, rank: int) -> None:
        """Send a message to one rank, which must be about to receive one."""
        self._all.Send([message, MPI.BYTE], dest=rank)

    def receive(self) -> tuple[int, bytes] | None:
        """A message that has been sent to this rank, and who sent it; None where there is none yet."""
        status = MPI.Status()
        if not self._all.Iprobe(status=status):
            return None
        message = bytearray(status.Get_count(MPI.BYTE))
        self._all.Recv([message, MPI.BYTE], source=status.Get_source(), tag=status.Get_tag())
        return status.Get_source(), bytes(message)

    def abort(self, code: int) -> NoReturn:
        """End all ranks at once, with an exit code."""
        self._all.Abort(code)
        os._exit(code)  # MPICH returns, and its launcher ends this process in a moment


def library() -> str:
    """The name and version of the MPI library, in one line."""
    return " ".join(MPI.Get_library_version().split("\0")[0].split("\n")[0].split())
