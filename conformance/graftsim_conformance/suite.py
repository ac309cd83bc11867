"""The suite: all claims of a target over all their cases, in one process or several, to a report.

::

    report = suite.run(Asked("torch.optim:Adam"))
    print("\\n".join(report.lines()))

Results do not depend on the number of processes, nor on whether a run was interrupted and went on.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from graftsim_conformance import composition, diagnosis, laws, subjects, workers
from graftsim_conformance.follow import BUDGET
from graftsim_conformance.judge import CaseResult, Mode, results
from graftsim_conformance.ledger import Judged, Ledger
from graftsim_conformance.recording import Recorded
from graftsim_conformance.report import PROFILE
from graftsim_conformance.subjects import Asked, Claim, Subject
from graftsim_conformance.suite_report import ClaimReport, SuiteReport
from graftsim_conformance.verdicts import Verdict

Job = tuple[int, str]
"""The number of a claim, and a case."""
Progress = Callable[[int, int], None]
"""Is told how many of how many cases are done."""

LAWS = "laws"
"""In place of a case: the laws of a claim."""
CHUNK = 4
"""How many cases of a claim a process is handed at a time, and how many claims each must have to get whole ones."""
PATIENCE = 60
"""How many times the limit of one call a case in all its modes, or the laws of a claim, may take in a process."""


def run(
    asked: Asked, processes: int = 1, fresh: bool = False, progress: Progress = lambda done, of: None
) -> SuiteReport:
    """Judge a target.

    Args:
        asked: what is judged, and on what.
        processes: how many run at a time; more than one are started anew and import what they need.
        fresh: forget what an interrupted run found.
        progress: is told after each case.

    Raises:
        GraftsimError: the target cannot be judged; see :func:`graftsim_conformance.subjects.subject`. What a candidate
            does is a verdict.
    """
    found = subjects.subject(asked)
    jobs = [(number, case) for number, claim in enumerate(found.claims) for case in claim.cases]
    jobs += [
        (number, LAWS) for number, claim in enumerate(found.claims) if claim.cases and claim.lawful and found.lawful
    ]
    try:
        with Ledger(subjects.digest(found), fresh) as ledger:
            left = [job for job in jobs if _key(job) not in ledger.found]
            progress(len(jobs) - len(left), len(jobs))
            steps = _here(found, left) if processes == 1 else _in_processes(found, left, processes)
            for done, (job, judged) in enumerate(steps, len(jobs) - len(left) + 1):
                ledger.add(_key(job), judged)
                progress(done, len(jobs))
            return SuiteReport(found, tuple(_claim(found, number, ledger) for number in range(len(found.claims))))
    finally:
        found.close()


def reproduce(target: str, case: str, mode: str = "", seconds: float = 10.0, **more: str) -> CaseResult:
    """The verdict on one case, for looking at it: what a report's snippet calls.

    Args:
        target, mode, seconds: as of :class:`graftsim_conformance.subjects.Asked`.
        case: the name of a golden case.
        more: ``machine``, ``like`` and ``dtype``, where they were given.
    """
    machines = (more["machine"],) if "machine" in more else ()
    asked = Asked(target, machines, more.get("like"), mode, more.get("dtype"), only=case, seconds=seconds)
    found = subjects.subject(asked)
    try:
        number = next(number for number, claim in enumerate(found.claims) if claim.cases)
        return _judged(found, (number, case)).results[0]
    finally:
        found.close()


def _key(job: Job) -> str:
    return f"{job[0]} {job[1]}"


# -- one case ----------------------------------------------------------------------------------------------------------


def _judged(found: Subject, job: Job) -> Judged:
    """The verdicts on a case, one for each mode, and on its composition; or those on the laws."""
    claim, name = found.claims[job[0]], job[1]
    make = functools.partial(found.fresh, claim)
    if name == LAWS:
        return Judged(laws=_laws(found, claim))
    case = claim.case(name)
    modes = [Mode.FOLLOW]
    if len(case.gradients) > 1 and found.kind != "native":
        modes.append(Mode.RESTORE)
    records: dict[str, list[Recorded]] = {}
    judged = list(
        results(
            make,
            claim.instance,
            [case],
            row=claim.row,
            modes=modes,
            through_float32=claim.through_float32,
            profiles=claim.profiles,
            float32=claim.float32,
            records=records,
        )
    )
    if name not in records:  # it could not be run, which its verdict as a recipe says
        return Judged(judged)
    return Judged(judged, composition.judged(claim.instance, case, records[name], claim.profiles))


def _laws(found: Subject, claim: Claim) -> list[CaseResult]:
    """The verdicts on the laws, as on cases; the error is put so that the budget is what a law allows."""
    dtype = found.asked.dtype or "float64"
    tried = laws.check(functools.partial(found.fresh, claim), claim.instance, dtype, family=found.family, row=claim.row)
    return [
        CaseResult(
            f"law.{one.law}",
            _lawful(found, one.verdict),
            largest=one.largest * BUDGET,
            largest_at=one.where,
            comparisons=one.comparisons,
            reason=one.reason,
            detail=one.detail,
            rules=one.rules,
            about=one.says,
        )
        for one in tried
    ]


def _lawful(found: Subject, verdict: Verdict) -> Verdict:
    """A native may refuse the values or tensors of a law, such as an eps of 0; it is not held to take them."""
    return Verdict.NOT_SUPPORTED if found.kind == "native" and verdict is Verdict.CRASHED else verdict


# -- where it runs -----------------------------------------------------------------------------------------------------


def _here(found: Subject, jobs: Sequence[Job]) -> Iterator[tuple[Job, Judged]]:
    for job in jobs:
        yield job, _judged(found, job)


@functools.cache
def _subject(asked: Asked) -> Subject:
    return subjects.subject(asked)


def _work(asked: Asked, jobs: Sequence[Job], folder: Path) -> list[tuple[Job, Judged]]:
    """What a process of the pool does."""
    found, done = _subject(asked), []
    for job in jobs:
        with workers.limited(PATIENCE * asked.seconds, folder):
            done.append((job, _judged(found, job)))
    return done


def _in_processes(found: Subject, jobs: Sequence[Job], count: int) -> Iterator[tuple[Job, Judged]]:
    for outcome in workers.run(functools.partial(_work, found.asked), _chunks(jobs, count), count):
        yield (outcome.job, _lost(found, outcome)) if isinstance(outcome, workers.Lost) else outcome


def _chunks(jobs: Sequence[Job], count: int) -> list[Sequence[Job]]:
    """What a process is handed at a time: a claim, which a framework compiles for once, or parts of it if few are."""
    claims = [list(of) for _, of in itertools.groupby(sorted(jobs, key=lambda job: job[0]), key=lambda job: job[0])]
    if len(claims) >= CHUNK * count:
        return [*claims]
    return [of[start : start + CHUNK] for of in claims for start in range(0, len(of), CHUNK)]


def _lost(found: Subject, lost: workers.Lost[Job]) -> Judged:
    """The verdict on a job whose process ended."""
    claim, name = found.claims[lost.job[0]], lost.job[1]
    verdict = Verdict.TIMED_OUT if lost.where else Verdict.CRASHED
    reason = "the process that it ran in died without a word"
    if lost.where:
        reason = f"it took more than {PATIENCE * found.asked.seconds:.3g} s, and no alarm could interrupt it"
    if name == LAWS:
        return Judged(laws=[CaseResult("law", verdict, reason=reason, detail=lost.where)])
    case, profile = claim.case(name), PROFILE if claim.through_float32 else ""
    said = CaseResult(name, verdict, reason=reason, detail=lost.where, profile=profile)
    return Judged([dataclasses.replace(said, rules=case.rules, about=case.about)])


# -- all cases of a claim ----------------------------------------------------------------------------------------------


def _claim(found: Subject, number: int, ledger: Ledger) -> ClaimReport:
    claim = found.claims[number]
    rows = [ledger.found[_key((number, name))] for name in claim.cases]
    own = tuple(one for row in rows for one in row.results)
    composed = tuple(one for row in rows for one in row.composition)
    lawful = ledger.found.get(_key((number, LAWS)), Judged()).laws
    return ClaimReport(claim, own, composed, tuple(lawful), diagnosis.of_claim(found, claim, own))
