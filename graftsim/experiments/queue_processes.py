"""Workers that are processes of this machine: new ones, with one thread each, that import what they need.

They read jobs from their standard input and write answers to their standard output. When the process that started them
ends, however it ends, their input ends, and so do they.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait

from graftsim.experiments.jobs import RESULT_BYTES
from graftsim.experiments.queue import STOP, LostError, answer

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
"""Read when the libraries are imported, so they are set before the process starts."""
MESSAGE_BYTES = 2 * RESULT_BYTES
_CODE = (  # a terminal's Ctrl-C is for the process that started this one
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from graftsim.experiments.queue_processes import serve; serve()"
)


class Processes:
    """A team of processes; :func:`started` ends them."""

    def __init__(self, count: int) -> None:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self.size = count
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": path},
            )
            for _ in range(count)
        ]
        self._to = [Connection(_own(each.stdin), readable=False) for each in self._processes]
        self._from = [Connection(_own(each.stdout), writable=False) for each in self._processes]

    def send(self, worker: int, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended; its output tells
            self._to[worker].send_bytes(message)

    def receive(self) -> tuple[int, bytes]:
        ready = wait(self._from)[0]
        worker = next(number for number, each in enumerate(self._from) if each is ready)
        try:
            return worker, self._from[worker].recv_bytes(MESSAGE_BYTES)
        except (EOFError, OSError):
            raise LostError(worker, _end(self._processes[worker].wait())) from None

    def end(self) -> None:
        """Whatever they do."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for connection in (*self._to, *self._from):
            connection.close()


@contextlib.contextmanager
def started(count: int) -> Iterator[Processes]:
    """A team of so many processes, which all end with the block."""
    team = Processes(count)
    try:
        yield team
    finally:
        team.end()


def serve() -> None:
    """Do the jobs that come through standard input, until it ends. What a job prints goes to standard error."""
    asks, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while (message := asks.recv_bytes()) != STOP:
            answers.send_bytes(answer(message))


def _own(pipe: object) -> int:
    """A handle of our own, so that one object closes it."""
    handle = os.dup(pipe.fileno())  # type: ignore[attr-defined]
    pipe.close()  # type: ignore[attr-defined]
    return handle


def _end(code: int) -> str:
    """How a process ended."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
