"""Laws: identities that a right optimizer obeys, whatever its numbers are. They need no golden data.

::

    def family(instance):                                    # a candidate of any machine
        return PythonCandidate(MyOptimizer(instance), str(instance))

    for result in laws.check(family=family, instance=notation.parse("adam#sgd")):
        print(result.law, result.verdict, result.reason)

A law is a row of ``laws.yaml``: what it says, which rules it follows from, its preconditions, and what is compared.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from graftsim import documents
from graftsim.errors import GraftsimError, nearest
from graftsim.notation import Instance
from graftsim_conformance import law_checks
from graftsim_conformance.candidates import Candidate
from graftsim_conformance.dialects import Row
from graftsim_conformance.judge import LINES
from graftsim_conformance.law_checks import CHECKS
from graftsim_conformance.law_compared import Compared
from graftsim_conformance.law_trials import Trial
from graftsim_conformance.recording import OWN
from graftsim_conformance.verdicts import CandidateError, Verdict

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Law:
    """A row of the table. ``how`` is ``bitwise`` or ``bounded``; ``given`` are the check's own arguments."""

    name: str
    says: str
    rules: tuple[str, ...]
    when: tuple[str, ...]
    how: str
    check: str
    given: Mapping[str, Any]
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def set_values(self) -> str:
        """The hyperparameters that the law sets, for people."""
        return ", ".join(f"{name} = {value}" for name, value in self.values.items())

    def applies(self, trial: Trial) -> bool:
        """Whether the preconditions hold, which follow from the machine alone."""
        return all(law_checks.holds(condition, trial, self.given) for condition in self.when)


@dataclass(frozen=True)
class LawResult:
    """The verdict on one law. ``largest`` is the largest error in tolerances, of which 1 is allowed, at ``where``.

    ``reason`` says in one line why the law did not pass, and ``detail`` has a traceback.
    """

    law: str
    verdict: Verdict
    how: str
    says: str = ""
    largest: float = 0.0
    where: str = ""
    comparisons: int = 0
    reason: str = ""
    detail: str = ""
    rules: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.verdict.passed


@functools.cache
def table() -> Mapping[str, Law]:
    """All laws, by name."""
    found = {}
    for row in documents.read_yaml(HERE / "laws.yaml"):
        ((check, given),) = row["check"].items()
        lists = {name: tuple(row[name]) for name in ("rules", "when")}
        found[row["law"]] = Law(
            row["law"], row["says"], how=row["how"], check=check, given=given, values=row.get("values", {}), **lists
        )
    return found


def check(
    factory: Callable[[], Candidate] | None,
    instance: Instance,
    dtype: str = "float64",
    *,
    family: Callable[[Instance], Candidate] | None = None,
    row: Row = OWN,
    only: Collection[str] = (),
) -> list[LawResult]:
    """Try a candidate on every law that applies to the machine that it claims to be.

    Args:
        factory: gives a candidate for the machine; ``family`` is asked where None.
        instance: the machine. A hyperparameter written in it keeps its value; others get values that make them matter.
        dtype: of the weights.
        family: gives a candidate for any machine. Without it a law about two machines is not supported.
        row: how a native's arguments and state are named; the machine's own names where not given.
        only: names of laws; all where empty.

    Raises:
        GraftsimError: neither a factory nor a family; an unknown law. What a candidate does is a verdict.
    """
    return list(results(factory, instance, dtype, family=family, row=row, only=only))


def results(
    factory: Callable[[], Candidate] | None,
    instance: Instance,
    dtype: str = "float64",
    *,
    family: Callable[[Instance], Candidate] | None = None,
    row: Row = OWN,
    only: Collection[str] = (),
) -> Iterator[LawResult]:
    """What :func:`check` gives, one result after another."""
    for name in only:
        if name not in table():
            raise GraftsimError(f"there is no law {name!r}{nearest(name, table())}")
    for law in table().values():
        trial = Trial(_own(factory, family, instance), family, instance, dtype, row, law.values)
        if (not only or law.name in only) and law.applies(trial):
            yield tried(law, trial)


def _own(
    factory: Callable[[], Candidate] | None, family: Callable[[Instance], Candidate] | None, instance: Instance
) -> Callable[[], Candidate]:
    if factory is not None:
        return factory
    if family is None:
        raise GraftsimError("a law needs a factory of candidates or a family of them; received neither")
    return functools.partial(family, instance)


def tried(law: Law, trial: Trial) -> LawResult:
    """One law that applies, whatever the candidate does."""
    blank = LawResult(law.name, Verdict.EXACT, law.how, law.says, rules=law.rules)
    try:
        return _tally(blank, list(CHECKS[law.check](trial, **law.given)))
    except CandidateError as error:
        return replace(blank, verdict=error.verdict, reason=error.reason, detail=error.detail)
    except GraftsimError as error:
        return replace(blank, verdict=Verdict.DIFFERENT, reason=str(error))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if law.values and isinstance(error, ValueError):  # a framework's word for a value outside its domain
            return replace(blank, verdict=Verdict.NOT_SUPPORTED, reason=f"with {law.set_values}, {reason}")
        detail = "\n".join("".join(traceback.format_exception(error)).splitlines()[-LINES:])
        return replace(blank, verdict=Verdict.CRASHED, reason=reason, detail=detail)


def _tally(blank: LawResult, found: Sequence[Compared]) -> LawResult:
    """The verdict: exact where all are equal, and else by the largest distance."""
    count = sum(int(row.decided.sum()) for row in found)
    worst = max(found, key=lambda row: float(row.units.max(initial=0.0)), default=None)
    if worst is None or not count:
        return replace(blank, verdict=Verdict.NOT_SUPPORTED, reason="nothing could be compared")
    largest = float(worst.units.max(initial=0.0))
    exact = all(np.array_equal(row.got, row.want, equal_nan=True) for row in found)
    verdict = Verdict.DIFFERENT if largest > 1 else Verdict.EXACT if exact else Verdict.EQUIVALENT
    tallied = replace(blank, verdict=verdict, largest=largest, comparisons=count)
    if not largest:
        return tallied
    place = int(np.argmax(worst.units))
    where = f"{worst.place}, {worst.label(place)}, step {worst.step}"
    got, want = float(worst.got[place]), float(worst.want[place])
    reason = "" if largest <= 1 else f"at {where}: {got!r}, and by the law {want!r}"
    return replace(tallied, where=where, reason=reason)
