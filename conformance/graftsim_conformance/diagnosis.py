"""Diagnosis: what a claim that failed looks like, and a few lines of Python that show it again.

The neighbouring options and the mutants are held against the records of the failing cases. What agrees with all of
them, and with some that passed, is a hint and no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graftsim import notation
from graftsim.errors import GraftsimError
from graftsim_conformance import claim as spec_names
from graftsim_conformance import mutants, neighbours
from graftsim_conformance.cases import without_tables
from graftsim_conformance.dialects import fixed
from graftsim_conformance.judge import CaseResult, Mode
from graftsim_conformance.mutants import Mutant
from graftsim_conformance.neighbours import Trial
from graftsim_conformance.recording import OWN, Recorded, record
from graftsim_conformance.subjects import Claim, Subject
from graftsim_conformance.verdicts import Verdict

FAILING, PASSING = 4, 2
"""How many cases are run again, of those that failed and of those that passed."""
CLOSE = 1e-9
"""How near the weights of a wrong behaviour must be to a candidate's, relatively: a hint has no budget of its own."""


@dataclass(frozen=True)
class Diagnosis:
    """``hint`` is a neighbour in options, ``mutants`` are the known mistakes that agree, ``snippet`` shows it again."""

    hint: str = ""
    mutants: tuple[str, ...] = ()
    snippet: str = ""

    def lines(self) -> list[str]:
        found = [f"hint: {self.hint}"] if self.hint else []
        return found + [f"equals the mutant {name}" for name in self.mutants]


def of_claim(found: Subject, claim: Claim, results: Sequence[CaseResult]) -> Diagnosis:
    """Why a claim failed; nothing where it passed."""
    bad = [one for one in results if not one.passed and one.verdict is not Verdict.NOT_SUPPORTED]
    if not bad:
        return Diagnosis()
    code = snippet(found, bad[0].case)
    different = [one.case for one in bad if one.verdict is Verdict.DIFFERENT and one.mode is Mode.FOLLOW]
    good = [one.case for one in results if one.passed and one.mode is Mode.FOLLOW]
    trials = list(_trials(found, claim, [*different[:FAILING], *good[:PASSING]])) if different else []
    if not trials:
        return Diagnosis(snippet=code)
    hint = neighbours.hint(claim.instance, claim.row, found.dialect, trials)
    return Diagnosis(hint, tuple(equal(claim, trials)), code)


def snippet(found: Subject, case: str) -> str:
    """A few lines of Python that judge one case again."""
    asked = found.asked
    named = {"machine": asked.machines[0] if len(asked.machines) == 1 else "", "like": asked.like, "mode": asked.mode}
    named["dtype"] = asked.dtype if found.kind != "native" or asked.dtype != "float64" else ""
    given = "".join(f", {name}={value!r}" for name, value in named.items() if value)
    return (
        "from graftsim_conformance import suite\n\n"
        f"found = suite.reproduce({asked.target!r}, {case!r}{given})\n"
        "print(found.verdict, found.reason, found.detail)\n"
        'print("\\n".join(found.failure.lines() if found.failure else []))'
    )


def _trials(found: Subject, claim: Claim, names: Sequence[str]) -> Iterator[Trial]:
    for name in names:
        case = claim.case(name)
        held = fixed(without_tables(claim.instance))
        try:
            yield case, record(found.fresh(claim), claim.row, case, held, claim.through_float32)
        except Exception:  # a candidate that fails now and did not before has no trial
            continue


# -- mutants -----------------------------------------------------------------------------------------------------------


def equal(claim: Claim, trials: Sequence[Trial]) -> Iterator[str]:
    """The names of the mutants of the claimed machine that agree with all records."""
    text = spec_names.text(claim.instance)
    used = set(_machines(claim.instance))
    for name, mutant in mutants.catalogue().items():
        if mutant.same or mutant.machine not in used:
            continue
        if mutant.changes is None and _equations_agree(mutant, text, claim, trials):
            yield name
        if mutant.changes is not None and _behaviour_agrees(mutant, text, claim, trials):
            yield name


def _machines(instance: notation.Instance) -> Iterator[str]:
    yield instance.machine.name
    for child in instance.children.values():
        yield from _machines(child)


def _equations_agree(mutant: Mutant, text: str, claim: Claim, trials: Sequence[Trial]) -> bool:
    """Whether the mutant, as the claimed machine, is within the budget at each step."""
    try:
        wrong = notation.parse(text, mutant.library)
        return all(neighbours.agrees(wrong, trial, claim.row.float32) for trial in trials)
    except GraftsimError:
        return False  # no state of the mutant's is the candidate's


def _behaviour_agrees(mutant: Mutant, text: str, claim: Claim, trials: Sequence[Trial]) -> bool:
    """Whether the mutant, run by itself, comes to about the same weights at each step."""
    return all(_alike(_recorded(mutant, text, trial), trial[1]) for trial in trials)


def _recorded(mutant: Mutant, text: str, trial: Trial) -> list[Recorded]:
    case, _ = trial
    try:
        return record(mutant.candidate(text), OWN, case, {})
    except Exception:  # a mutant may well crash where the candidate does not
        return []


def _alike(first: Sequence[Recorded], second: Sequence[Recorded]) -> bool:
    return len(first) == len(second) and all(
        np.allclose(a.new_weights, b.new_weights, rtol=CLOSE, atol=0, equal_nan=True)
        for a, b in zip(first, second, strict=True)
    )
