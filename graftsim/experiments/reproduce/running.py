"""Claims at work: what all of them ask for is done together, round after round, and what is done stays in a ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from graftsim.experiments.jobs import Job
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.reproduce.findings import Asking, Claim, Finding, Size
from graftsim.experiments.reproduce.timed import timed
from graftsim.experiments.workers import work

Progress = Callable[[int, int], object]
"""Told how many jobs are done, and how many are known of."""


@dataclass(frozen=True)
class Result:
    """A claim, what was found, and the seconds that its own jobs took, one after the other, wherever they ran."""

    claim: Claim
    finding: Finding
    seconds: float
    jobs: int


@dataclass
class _Asked:
    """A claim that waits for results."""

    claim: Claim
    asking: Asking
    jobs: Sequence[Job]
    seconds: float = 0.0
    every: set[Job] = field(default_factory=set)


def run(
    claims: Sequence[Claim], size: Size, ledger: Ledger, workers: int = 1, progress: Progress | None = None
) -> list[Result]:
    """Test claims; the results in their order.

    Jobs that several claims ask for are done once, and count in the seconds of each.
    """
    results: dict[str, Result] = {}
    waiting = []
    for claim in claims:
        started = time.perf_counter()
        asking = claim.ask(size)
        waiting.append(_Asked(claim, asking, next(asking), time.perf_counter() - started))
    before = 0
    while waiting:
        jobs = [timed(job) for asked in waiting for job in asked.jobs]
        found = iter(work(jobs, ledger, workers, _after(progress, before, before + len(jobs))))
        before += len(jobs)
        waiting = [asked for asked in waiting if not _answered(asked, [next(found) for _ in asked.jobs], results)]
    return [results[claim.id] for claim in claims]


def _answered(asked: _Asked, rows: list[dict], results: dict[str, Result]) -> bool:  # type: ignore[type-arg]
    """Hand a claim its results; whether it is done."""
    new = {job: row["seconds"] for job, row in zip(asked.jobs, rows, strict=True) if job not in asked.every}
    asked.every |= new.keys()
    asked.seconds += sum(new.values())
    started = time.perf_counter()
    try:
        asked.jobs = asked.asking.send([row["result"] for row in rows])
        return False
    except StopIteration as stop:
        results[asked.claim.id] = Result(asked.claim, stop.value, asked.seconds + _since(started), len(asked.every))
        return True
    finally:
        asked.seconds += _since(started)


def _since(started: float) -> float:
    return time.perf_counter() - started


def _after(progress: Progress | None, before: int, total: int) -> Callable[[int], object] | None:
    return None if progress is None else lambda done: progress(before + done, total)
