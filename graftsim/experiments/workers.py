"""Doing jobs: here, in processes, or over the ranks of MPI; the results are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from graftsim.errors import GraftsimError
from graftsim.experiments import queue_processes
from graftsim.experiments.jobs import Job
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.queue import LostJobError, hand_out
from graftsim.experiments.queue_ranks import lead

MOST = 1024
"""Processes."""


def work(
    jobs: Sequence[Job], ledger: Ledger, workers: int = 1, progress: Callable[[int], object] | None = None
) -> list[Any]:
    """Do the jobs that the ledger does not have, equal ones once.

    Args:
        jobs: in any number.
        ledger: has each result as soon as its job is finished, also when the work is stopped in the middle.
        workers: how many processes do jobs at a time; 1 does them here. Where MPI started many ranks, they do the
            jobs, one each at a time; rank 0 alone returns (see :func:`graftsim.experiments.queue_ranks.lead`).
        progress: called with the number of jobs that are done, those of the ledger among them.

    Returns:
        The results in the order of ``jobs``.

    Raises:
        GraftsimError: what a job raised, or a worker that was killed. What is finished stays in the ledger.
    """
    lead()
    if not 1 <= workers <= MOST:
        raise GraftsimError(f"there must be from 1 to {MOST} workers; received {workers}")
    left = [job for job in dict.fromkeys(jobs) if job not in ledger]
    tell = _Progress(jobs, ledger, progress)
    try:
        for job, result in _done(left, workers):
            ledger.write(job, result)
            tell(job)
    except LostJobError as error:
        kept = f"; what is finished is kept in {ledger.path}: do the same again to go on" if ledger.path else ""
        raise GraftsimError(f"{error}{kept}") from None
    return [ledger[job] for job in jobs]


def _done(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, str]]:
    ranks = lead()
    if ranks is not None:
        yield from ranks.hand_out(jobs)
    elif workers > 1 and len(jobs) > 1:
        with queue_processes.started(min(workers, len(jobs))) as team:
            yield from hand_out(team, jobs)
    else:
        for job in jobs:
            yield job, job.do()


class _Progress:
    """Counts how many of the jobs that were asked for are done."""

    def __init__(self, jobs: Sequence[Job], ledger: Ledger, tell: Callable[[int], object] | None) -> None:
        self._tell = tell
        self._times: dict[Job, int] = {}
        for job in jobs:
            self._times[job] = self._times.get(job, 0) + 1
        self._done = sum(times for job, times in self._times.items() if job in ledger)
        if tell and self._done:
            tell(self._done)

    def __call__(self, job: Job) -> None:
        self._done += self._times[job]
        if self._tell:
            self._tell(self._done)
