"""What the suite found of a target: claim by claim, for people and for programs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from graftsim.profiles import PROFILES
from graftsim_conformance import ledger
from graftsim_conformance.diagnosis import Diagnosis
from graftsim_conformance.follow import BUDGET
from graftsim_conformance.judge import CaseResult
from graftsim_conformance.report import Report, RowReport
from graftsim_conformance.subjects import Claim, Subject
from graftsim_conformance.verdicts import Verdict, overall

BROKEN = (Verdict.DIFFERENT, Verdict.CRASHED, Verdict.TIMED_OUT)
SHOWN = 5
"""How many broken cases the text names; the HTML report has all."""


def _granted(result: CaseResult) -> Iterator[str]:
    """The profiles of the platform that a verdict is under."""
    yield from (name for name in result.profile.split(" and ") if name in PROFILES)


@dataclass(frozen=True)
class ClaimReport:
    """A machine, and the verdicts on its cases, on its composition where it is a graft that shows it, on its laws."""

    claim: Claim
    results: tuple[CaseResult, ...]
    composition: tuple[CaseResult, ...] = ()
    laws: tuple[CaseResult, ...] = ()
    diagnosis: Diagnosis = field(default_factory=Diagnosis)

    @property
    def all(self) -> tuple[CaseResult, ...]:
        return (*self.results, *self.composition, *self.laws)

    def parts(self) -> Iterator[tuple[str, CaseResult]]:
        """All verdicts, each with what was looked at: the mode of a run, the composition, or the laws."""
        yield from ((str(one.mode), one) for one in self.results)
        yield from (("composition", one) for one in self.composition)
        yield from (("law", one) for one in self.laws)

    @property
    def broken(self) -> list[CaseResult]:
        """The cases that did not pass, without those that the candidate does not support."""
        return [one for one in self.all if one.verdict in BROKEN]

    @property
    def unsupported(self) -> list[CaseResult]:
        return [one for one in self.results if one.verdict is Verdict.NOT_SUPPORTED]

    @property
    def passed(self) -> bool:
        """Whether nothing is broken and something was compared."""
        return not self.broken and any(one.passed and one.comparisons for one in self.results)

    @property
    def verdict(self) -> Verdict:
        """The worst; what is not supported is left aside where something passed."""
        return overall(one.verdict for one in (self.all if not self.passed else [x for x in self.all if x.passed]))

    @property
    def unread(self) -> tuple[str, ...]:
        """State that some case could not read."""
        return tuple(dict.fromkeys(itertools.chain.from_iterable(one.unread for one in self.results)))

    @property
    def largest(self) -> float:
        return max((one.largest for one in self.all), default=0.0)

    def row(self) -> RowReport:
        """The same as the text report of a dialect's row."""
        ran = [one for one in self.results if one.verdict is not Verdict.NOT_SUPPORTED]
        worst = max(ran, key=lambda one: one.largest, default=None)
        claim = self.claim
        return RowReport(
            variant=claim.row.variant or claim.label,
            machine=claim.machine,
            cases=len({one.case for one in ran}),
            comparisons=sum(one.comparisons for one in self.results),
            undecided=sum(one.undecided for one in self.results),
            largest=worst.largest if worst else 0.0,
            largest_at=worst.largest_at if worst else "",
            unread=self.unread,
            float32=claim.float32,
            failure=next((one.failure for one in self.all if one.failure), None),
            hint=self.diagnosis.hint,
            through_float32=claim.through_float32,
            known=claim.known,
            unsupported=(),
            granted=" and ".join(dict.fromkeys(name for one in ran for name in _granted(one))),
        )

    def lines(self) -> list[str]:
        first, *rest = self.row().lines()
        name = f"{self.claim.row.variant}: " if self.claim.row.variant else ""
        under = first.rpartition(" under the profile ")[2].partition(" to ")[0] if "under the profile" in first else ""
        verdict = "equivalent" if self.passed else "NOT equivalent"
        verdict = "not supported" if not self.broken and not self.passed else verdict
        profile = f" under the profile {under}" if under else ""
        rows = [f"{name}{verdict}{profile} to {self.claim.machine}", *rest]
        rows += [f"  equals the mutant {mutant}" for mutant in self.diagnosis.mutants]
        rows += [f"  {line}" for line in self._parts()]
        rows += [f"  {line}" for line in self._others()]
        rows += [f"  not supported, and not counted as passed: {line}" for line in reasons(self.unsupported)]
        if self.claim.left:
            rows.append(f"  {self.claim.left} more cases are left out; --all runs them")
        return rows

    def _parts(self) -> Iterator[str]:
        """What was compared beside the cases as a whole."""
        if self.composition:
            ok = sum(one.passed for one in self.composition)
            largest = max(one.largest for one in self.composition)
            yield (
                f"composition, given its children's own steps: {ok} of {len(self.composition)} cases; "
                f"largest error {largest:.3g} bounds"
            )
        tried = [one for one in self.laws if one.verdict is not Verdict.NOT_SUPPORTED]
        if tried:
            broken = [one.case.removeprefix("law.") for one in tried if not one.passed]
            yield f"laws: {len(tried) - len(broken)} of {len(tried)} hold" + (
                f"; not {', '.join(broken)}" if broken else ""
            )

    def _others(self) -> Iterator[str]:
        """Broken cases beside the first difference."""
        counts = Counter(str(one.verdict) for one in self.broken)
        for verdict, count in counts.items():
            names = [one.case for one in self.broken if one.verdict == verdict]
            yield f"{verdict}: {count} of {len(self.all)} verdicts, such as {', '.join(dict.fromkeys(names[:SHOWN]))}"
        for one in [one for one in self.broken if one.failure is None][:SHOWN]:
            yield f"{one.case}, {one.mode}: {one.verdict}: {one.reason}"


def reasons(results: Iterable[CaseResult]) -> list[str]:
    """One line for each reason, with how many cases it concerns."""
    counts = Counter(f"{one.reason} ({one.mode})" if one.mode != "follow" else one.reason for one in results)
    return [f"{count} cases: {reason}" for reason, count in counts.items()]


@dataclass(frozen=True)
class SuiteReport:
    """The verdict on a target."""

    subject: Subject
    claims: tuple[ClaimReport, ...]

    @property
    def ran(self) -> tuple[ClaimReport, ...]:
        return tuple(one for one in self.claims if one.results)

    @property
    def passed(self) -> bool:
        """Whether every claim that has cases passed, and there is one."""
        return bool(self.ran) and all(one.passed for one in self.ran)

    @property
    def results(self) -> list[CaseResult]:
        return [result for one in self.claims for result in one.all]

    def report(self) -> Report:
        """The same as the text report of a check."""
        found, asked = self.subject, self.subject.asked
        machine = asked.machines[0] if asked.machines else None
        dtype = asked.dtype or "each case in its own dtype"
        rows = tuple(one.row() for one in self.ran)
        return Report(asked.target, machine, BUDGET, found.versions, rows, found.backend, asked.mode, dtype)

    def lines(self) -> list[str]:
        report = self.report()
        first, *_, last = report.lines()
        words = "equivalent" if self.passed else "NOT equivalent"
        rounded = last.partition(": ")[0].partition(" under ")[2]
        under = f" under {rounded}" if rounded else ""
        body = [line for one in self.ran for line in one.lines()]
        code = next((one.diagnosis.snippet for one in self.ran if one.diagnosis.snippet), "")
        again = ["to see it again:", *(f"    {line}" for line in code.splitlines())] if code else []
        return [first, *body, *again, f"{words}{under}: {last.partition(': ')[2]}"]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``: what a check reports, with every case in place."""
        document = self.report().to_json()
        for row, one in zip(document["rows"], self.ran, strict=True):
            row |= {"passed": one.passed, "verdict": str(one.verdict), "machine": one.claim.machine}
            row |= {"results": [ledger.to_document(result) for result in one.results]}
            row |= {"laws": [ledger.to_document(result) for result in one.laws]}
            row |= {"composition": [ledger.to_document(result) for result in one.composition]}
            row |= {"mutants": list(one.diagnosis.mutants), "snippet": one.diagnosis.snippet}
        asked = {name: value for name, value in asdict(self.subject.asked).items() if value not in (None, "", ())}
        return {**document, "passed": self.passed, "asked": asked}
