"""Judging a candidate: one verdict for each case, whatever the candidate does.

::

    results = judge(lambda: MyOptimizer(), notation.parse("adam#sgd"), golden.of_machine(instance, edges=True))

A candidate is what :class:`graftsim_conformance.candidates.Candidate` says. It may also have

- ``abilities``: words, of which ``missing`` says that it takes lists of gradients with None in them;
- ``write_state(weights, state, step)``: stand as after ``step`` steps, within a run that ``start`` began;
- ``info()``: what the last step computed on the way, by the machine's paths (``n_m``, ``ratio``, ``magnitude.delta``).

A candidate that cannot do what a case needs is *not supported* there, which is never counted as passed.
"""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from graftsim import compiler
from graftsim.errors import GraftsimError
from graftsim.notation import Instance
from graftsim_conformance.candidates import Candidate
from graftsim_conformance.cases import Case, settled, without_tables
from graftsim_conformance.dialects import Row, fixed
from graftsim_conformance.recording import OWN, Recorded, record, record_reset, record_restored
from graftsim_conformance.report import Failure, profile
from graftsim_conformance.tally import Tally, same_bits, tallied
from graftsim_conformance.verdicts import CandidateError, Verdict

__all__ = ["LINES", "CaseResult", "Mode", "Tally", "judge", "results", "same_bits", "tallied"]

LINES = 40
"""How much of a traceback is kept."""


class Mode(StrEnum):
    """How a candidate is run over a case; see :mod:`graftsim_conformance.recording`."""

    FOLLOW = "follow"
    RESET = "reset"
    RESTORE = "restore"


@dataclass(frozen=True)
class CaseResult:
    """The verdict on one case in one mode.

    ``largest`` is the largest error in error bounds (``BUDGET`` of which are allowed), at ``largest_at``. ``failure``
    is the first place outside the budget, where there is one; ``reason`` says in one line why a case did not pass, and
    ``detail`` has a traceback or what a program wrote. ``unread`` state was carried along by the reference.
    """

    case: str
    verdict: Verdict
    mode: Mode = Mode.FOLLOW
    largest: float = 0.0
    largest_at: str = ""
    comparisons: int = 0
    undecided: int = 0
    failure: Failure | None = None
    reason: str = ""
    detail: str = ""
    profile: str = ""
    unread: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    about: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.verdict.passed


def judge(
    factory: Callable[[], Candidate],
    instance: Instance,
    cases: Iterable[Case],
    *,
    row: Row = OWN,
    modes: Sequence[Mode] = (Mode.FOLLOW,),
    through_float32: Collection[str] = (),
    profiles: Collection[str] = (),
    float32: Collection[str] | None = None,
) -> list[CaseResult]:
    """Judge a candidate that claims to be a machine.

    Args:
        factory: gives a candidate for a case; it may give the same one each time, which is then started anew.
        instance: the machine. Hyperparameters written in it are not given to the candidate, whose own they must be.
        cases: what it is run on; each must be of a relative of the machine, that has the hyperparameters it reads.
        row: how a native's arguments and state are named; the machine's own names where not given.
        modes: how it is run; each gives a result of its own.
        through_float32: hyperparameters that the candidate rounds to float32, which is a profile and not a pass of all.
        profiles: what its platform is known to do otherwise; granted where a case is outside the budget without.
        float32: state slots that it keeps in float32; those of the row where None.
    """
    found = results(
        factory, instance, cases, row=row, modes=modes, through_float32=through_float32, profiles=profiles,
        float32=float32,
    )  # fmt: skip
    return list(found)


def results(
    factory: Callable[[], Candidate],
    instance: Instance,
    cases: Iterable[Case],
    *,
    row: Row = OWN,
    modes: Sequence[Mode] = (Mode.FOLLOW,),
    through_float32: Collection[str] = (),
    profiles: Collection[str] = (),
    float32: Collection[str] | None = None,
    records: dict[str, list[Recorded]] | None = None,
) -> Iterator[CaseResult]:
    """What :func:`judge` gives, one result after another, for showing progress.

    A candidate runs over a case from its start to its end once; ``records``, if given, is filled with what that gave.
    """
    held, narrow = fixed(without_tables(instance)), tuple(row.float32 if float32 is None else float32)
    kept = {} if records is None else records
    judged = _Judge(factory, instance, row, held, tuple(through_float32), tuple(profiles), narrow, kept)
    for case in cases:
        for mode in modes:
            began = time.perf_counter()
            found = judged.case(case, mode)
            yield dataclasses.replace(found, seconds=time.perf_counter() - began)


@dataclass(frozen=True)
class _Judge:
    factory: Callable[[], Candidate]
    instance: Instance
    row: Row
    held: dict[str, float]
    rounded: tuple[str, ...]
    granted: tuple[str, ...]
    narrow: tuple[str, ...]
    records: dict[str, list[Recorded]]

    def case(self, case: Case, mode: Mode) -> CaseResult:
        blank = CaseResult(case.name, Verdict.EXACT, mode, rules=case.rules, about=case.about)
        blank = dataclasses.replace(blank, profile=profile(self.rounded, ""))
        try:
            return self.restored(case, blank) if mode is Mode.RESTORE else self.followed(case, mode, blank)
        except CandidateError as error:
            return dataclasses.replace(blank, verdict=error.verdict, reason=error.reason, detail=error.detail)
        except GraftsimError as error:
            return dataclasses.replace(blank, verdict=Verdict.DIFFERENT, reason=str(error))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            detail = "\n".join("".join(traceback.format_exception(error)).splitlines()[-LINES:])
            return dataclasses.replace(blank, verdict=Verdict.CRASHED, reason=reason, detail=detail)

    def run(self, how: Callable[..., list[Recorded]], case: Case, *begun: list[Recorded]) -> list[Recorded]:
        """A record of the case; what an adapter refuses to do with its native is not supported."""
        try:
            return how(self.factory(), self.row, case, self.held, *begun, through_float32=self.rounded)
        except GraftsimError as error:
            raise CandidateError(Verdict.NOT_SUPPORTED, str(error)) from None

    def whole(self, case: Case) -> list[Recorded]:
        """The record of the case from its start to its end."""
        if case.name not in self.records:
            self.records[case.name] = self.run(record, case)
        return self.records[case.name]

    def followed(self, case: Case, mode: Mode, blank: CaseResult) -> CaseResult:
        steps = self.run(record_reset, case) if mode is Mode.RESET else self.whole(case)
        program = compiler.build(settled(self.instance, steps[0].settings), case.layout, case.dtype)
        tally = tallied(program, case, steps, dataclasses.replace(self.row, float32=self.narrow), self.granted)
        unread = tuple(path for path in program.slots if any(path not in step.new_state for step in steps))
        return dataclasses.replace(
            blank,
            verdict=tally.verdict,
            largest=tally.largest,
            largest_at=tally.largest_at,
            comparisons=tally.comparisons,
            undecided=tally.undecided,
            failure=tally.failure,
            reason=tally.failure.lines()[0] if tally.failure else tally.nothing,
            profile=profile(self.rounded, tally.granted),
            unread=unread,
        )

    def restored(self, case: Case, blank: CaseResult) -> CaseResult:
        if len(case.gradients) < 2:
            raise CandidateError(Verdict.NOT_SUPPORTED, "a case of one step has no middle")
        whole = self.whole(case)
        rest = self.run(record_restored, case, whole)
        first = len(whole) - len(rest)
        compared = list(zip(whole[first:], rest, strict=True))
        count = sum(a.new_weights.size + sum(x.size for x in a.new_state.values()) for a, _ in compared)
        for number, (a, b) in enumerate(compared, first + 1):
            if place := _unlike(a, b):
                reason = f"restored after step {first}, it has another {place} after step {number}"
                return dataclasses.replace(blank, verdict=Verdict.DIFFERENT, reason=reason, comparisons=count)
        return dataclasses.replace(blank, comparisons=count)


def _unlike(first: Recorded, second: Recorded) -> str:
    """What differs in a bit between two records of a step; every NaN counts as one."""
    pairs = [(path, first.new_state[path], second.new_state.get(path)) for path in first.new_state]
    for place, a, b in [*pairs, ("weights", first.new_weights, second.new_weights)]:
        if b is None or not same_bits(a, b).all():
            return place
    return ""
