"""Handing out jobs: one at a time to whoever is free, and what is said on the way."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Sequence
from typing import Protocol

from graftsim.errors import GraftsimError
from graftsim.experiments.jobs import Job
from graftsim.versions import version

STOP = b""
"""In place of a job: there are no more."""


class LostError(Exception):
    """A worker has ended without an answer; ``str`` says how."""

    def __init__(self, worker: int, why: str) -> None:
        super().__init__(why)
        self.worker = worker


class LostJobError(GraftsimError):
    """A job whose worker has ended."""


class Team(Protocol):
    """Workers that each do one job at a time."""

    @property
    def size(self) -> int:
        """How many there are."""

    def send(self, worker: int, message: bytes) -> None:
        """Hand a message to a worker that is free."""

    def receive(self) -> tuple[int, bytes]:
        """The next answer, and whose it is.

        Raises:
            LostError: a worker has ended.
        """


def hand_out(team: Team, jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
    """Each job with its result as JSON, in the order in which they are finished.

    Raises:
        LostJobError: the worker of a job has ended.
        GraftsimError: a job found a mistake.
        RuntimeError: a job raised anything else; with the traceback of its worker.
    """
    waiting = iter(jobs)
    busy: dict[int, Job] = {}

    def give(worker: int) -> None:
        job = next(waiting, None)
        if job is not None:
            busy[worker] = job
            team.send(worker, asked(job))

    try:
        for worker in range(team.size):
            give(worker)
        while busy:
            worker, message = team.receive()
            job = busy.pop(worker)
            result = told(job, message)
            give(worker)
            yield job, result
    except LostError as lost:
        raise LostJobError(f"the worker of {busy[lost.worker]} {lost}") from None


def asked(job: Job) -> bytes:
    """The message that asks for a job."""
    return json.dumps([job.function, job.arguments, job.id]).encode()


def answer(message: bytes) -> bytes:
    """Do the job that a message asks for: the message that tells what came of it."""
    try:
        function, arguments, digest = json.loads(message)
        job = Job(function, arguments)
        if job.id != digest:
            raise GraftsimError(f"all workers must have one version of graftsim; one has {version()}")
        return b"result\n" + job.do().encode()
    except GraftsimError as error:
        return b"mistake\n" + str(error).encode()
    except Exception:  # whatever it is, it is told where the job was handed out
        return b"fault\n" + traceback.format_exc().encode()


def told(job: Job, message: bytes) -> str:
    """The result in an answer, or the error."""
    kind, _, text = message.partition(b"\n")
    match kind:
        case b"result":
            return text.decode()
        case b"mistake":
            raise GraftsimError(text.decode())
    raise RuntimeError(f"{job}\n{text.decode()}")
