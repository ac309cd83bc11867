"""Composition: given its children's own steps, are a graft's norms, ratio and weights those of the graft?

The children may be anything: their recorded steps take the place of their equations, exact as they stand. It says
whether an implementation *grafts* right, apart from whether its children are the machines that they should be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from graftsim import compiler
from graftsim.errors import GraftsimError
from graftsim.notation import Instance
from graftsim.program import Node, Program
from graftsim_conformance.candidates import Candidate
from graftsim_conformance.cases import Case, settled, without_tables
from graftsim_conformance.dialects import Row, fixed
from graftsim_conformance.follow import Comparison, failure, follow
from graftsim_conformance.judge import CaseResult, Tally
from graftsim_conformance.recording import Recorded, record
from graftsim_conformance.verdicts import CandidateError, Verdict

CHILDREN = ("magnitude.delta", "direction.delta")
PLACES = ("n_m", "n_d", "ratio", "weights")


def judged(factory: Callable[[], Candidate], instance: Instance, case: Case, row: Row) -> list[CaseResult]:
    """The verdict on the composition over a case; nothing where it is no graft, or does not show its children's steps.

    A candidate that cannot be run has its verdict as a recipe, and none here.
    """
    if instance.machine.name != "graft":
        return []
    try:
        steps = record(factory(), row, case, fixed(without_tables(instance)))
    except Exception:  # whatever it was, the recipe's verdict says so
        return []
    if not all(path in step.info for step in steps for path in CHILDREN):
        return []
    blank = CaseResult(case.name, Verdict.DIFFERENT, rules=case.rules, about=case.about)
    tally = Tally()
    try:
        for program, comparison in _compared(settled(instance, steps[0].settings), case, steps):
            tally.add(case, comparison)
            if tally.failure is None:
                tally.failure = failure(case, program, comparison)
    except (GraftsimError, CandidateError) as error:
        return [dataclasses.replace(blank, reason=str(error))]
    return [
        dataclasses.replace(
            blank,
            verdict=tally.verdict,
            largest=tally.largest,
            largest_at=tally.largest_at,
            comparisons=tally.comparisons,
            undecided=tally.undecided,
            failure=tally.failure,
            reason=tally.failure.lines()[0] if tally.failure else tally.nothing,
        )
    ]


def _compared(instance: Instance, case: Case, steps: list[Recorded]) -> Iterator[tuple[Program, Comparison]]:
    """Each step by itself, under a program whose children make the steps that were recorded."""
    program = compiler.build(instance, case.layout, case.dtype)
    for number, step in enumerate(steps):
        told = _children_given(program, step)
        for comparison in follow(told, [step], taken=case.taken + number, initial=step.state or None):
            if comparison.place in PLACES:
                yield told, dataclasses.replace(comparison, step=number + 1)


def _children_given(program: Program, step: Recorded) -> Program:
    """The program in which the children's steps are constants."""
    steps = {path: program.info.get(path, path) for path in CHILDREN}
    given = {name: step.info[path].astype(program.dtype) for path, name in steps.items()}
    statements = tuple(
        dataclasses.replace(each, node=Node("constant", (), each.node.kind, given[each.target]))
        if each.target in given
        else each
        for each in program.statements
    )
    return dataclasses.replace(program, statements=statements)
