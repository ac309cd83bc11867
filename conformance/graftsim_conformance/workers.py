"""Jobs in several processes, so that one that dies or hangs costs only itself.

A job that takes longer than its limit ends its process, wherever it is: in Python, or in code of an extension that
never comes back. Jobs that were in the same chunk, or in a process beside it, are then run again one by one.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import faulthandler
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Job = TypeVar("Job")
Found = TypeVar("Found")
Work = Callable[[Sequence[Job], Path], list[Found]]
"""Does jobs in order; each of them :func:`limited` with the folder that it is given."""


@dataclass(frozen=True)
class Lost(Generic[Job]):
    """A job whose process ended before it; ``where`` is a traceback if it took longer than its limit, else empty."""

    job: Job
    where: str


@contextlib.contextmanager
def limited(seconds: float, folder: Path) -> Iterator[None]:
    """End this process if what is done takes longer, and leave a traceback in the folder."""
    with (folder / f"{os.getpid()}.txt").open("w") as file:
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def run(work: Work[Job, Found], chunks: Sequence[Sequence[Job]], count: int) -> Iterator[Found | Lost[Job]]:
    """What each job finds, in the order in which chunks are done, ``count`` at a time."""
    again: list[Job] = []
    with tempfile.TemporaryDirectory() as folder, _pool(count) as pool:
        running = {pool.submit(work, chunk, Path(folder)): chunk for chunk in chunks}
        for future in concurrent.futures.as_completed(running):
            try:
                yield from future.result()
            except BrokenProcessPool:
                again += running[future]
    yield from _one_by_one(work, again)


def _one_by_one(work: Work[Job, Found], jobs: Sequence[Job]) -> Iterator[Found | Lost[Job]]:
    """In one process for all, and another one after each that it lost."""
    left = list(jobs)
    while left:
        with tempfile.TemporaryDirectory() as folder, _pool(1) as pool:
            while left:
                job = left.pop(0)
                try:
                    yield from pool.submit(work, [job], Path(folder)).result()
                except BrokenProcessPool:
                    yield Lost(job, "".join(path.read_text() for path in Path(folder).iterdir()))
                    break


def _pool(count: int) -> concurrent.futures.ProcessPoolExecutor:
    return concurrent.futures.ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))
