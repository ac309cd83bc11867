"""Composition: given its children's own steps, are a graft's norms, ratio and weights those of the graft?

The children may be anything: their recorded steps take the place of their equations, exact as they stand. It says
whether an implementation *grafts* right, apart from whether its children are the machines that they should be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from graftsim import compiler
from graftsim.errors import GraftsimError
from graftsim.notation import Instance
from graftsim.profiles import Profile
from graftsim.program import Kind, Node, Program
from graftsim_conformance.cases import Array, Case, settled
from graftsim_conformance.follow import Comparison, follow
from graftsim_conformance.judge import CaseResult
from graftsim_conformance.recording import Recorded
from graftsim_conformance.tally import fewest
from graftsim_conformance.verdicts import CandidateError, Verdict

CHILDREN = ("magnitude.delta", "direction.delta")
PLACES = ("n_m", "n_d", "ratio", "weights")


def judged(
    instance: Instance, case: Case, steps: Sequence[Recorded], profiles: Collection[str] = ()
) -> list[CaseResult]:
    """The verdict on the composition over the record of a case; nothing where it is no graft, or its steps lack.

    ``profiles`` are granted where a case is outside the budget without.
    """
    if instance.machine.name != "graft" or not all(path in step.info for step in steps for path in CHILDREN):
        return []
    blank = CaseResult(case.name, Verdict.DIFFERENT, rules=case.rules, about=case.about)
    told = settled(instance, steps[0].settings)
    try:
        tally = fewest(case, lambda profile: _compared(told, case, steps, profile), profiles)
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
            profile=tally.granted,
        )
    ]


def _compared(
    instance: Instance, case: Case, steps: Sequence[Recorded], profile: Profile
) -> Iterator[tuple[Program, Comparison]]:
    """Each step by itself, under a program whose children make the steps that were recorded."""
    program = compiler.build(instance, case.layout, case.dtype)
    for number, step in enumerate(steps):
        told = _children_given(program, step)
        for comparison in follow(told, [step], taken=case.taken + number, profile=profile):
            if comparison.place in PLACES:
                yield told, dataclasses.replace(comparison, step=number + 1)


def _children_given(program: Program, step: Recorded) -> Program:
    """The program in which the children's steps are constants.

    A candidate may form M's and D's steps in more digits than its weights have, as a rate in float64 beside a tensor in
    float32, and never round them. What it shows is rounded to the working dtype here, and counts as one rounding.
    """
    steps = {path: program.info.get(path, path) for path in CHILDREN}
    given = {name: _constant(program, step.info[path], program.kinds[name]) for path, name in steps.items()}
    statements = tuple(
        dataclasses.replace(each, node=given[each.target]) if each.target in given else each
        for each in program.statements
    )
    return dataclasses.replace(program, statements=statements)


def _constant(program: Program, values: Array, kind: Kind) -> Node:
    rounded = values.astype(program.dtype)
    node = Node("constant", (), kind, rounded)
    if (rounded == values).all():
        return node
    return Node("mul", (node, Node("constant", (), kind, np.ones_like(rounded))), kind)  # which moves no bit
