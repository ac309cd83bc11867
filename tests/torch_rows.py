"""Runs of one row of a dialect on torch, for tests that ask more than ``check`` tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from graftsim import compiler, notation
from graftsim.engine import Engine
from graftsim_conformance import candidates, dialects, golden
from graftsim_conformance.cases import Case, in_dtype, settled
from graftsim_conformance.dialects import Row, fixed
from graftsim_conformance.follow import Recorded, follow, record


def row_of(target: str, variant: str) -> Row:
    return next(row for row in dialects.targets()[target].rows if row.variant == variant)


def cases_of(row: Row, dtype: str = "float64") -> list[Case]:
    return [in_dtype(case, dtype) for case in golden.of_machine(row.instance)]


def steps_of(row: Row, case: Case, mode: str = "") -> list[Recorded]:
    return record(candidates.wrap("torch", candidates.load(row.target), mode), row, case, fixed(row.instance))


def largest(row: Row, case: Case, mode: str = "", float32: Collection[str] = (), machine: str = "") -> dict[str, float]:
    """The largest error of each place, in error bounds of the row's machine, or of another."""
    steps = steps_of(row, case, mode)
    instance = notation.parse(machine) if machine else row.instance
    program = compiler.build(settled(instance, steps[0].settings), case.layout, case.dtype)
    found: dict[str, float] = {}
    for comparison in follow(program, steps, float32):
        found[comparison.place] = max(found.get(comparison.place, 0.0), float(comparison.units.max(initial=0.0)))
    return found


def replaced(case: Case, hyperparameters: Sequence[Mapping[str, float]]) -> Case:
    """The case with other hyperparameters, and without its answer."""
    return dataclasses.replace(case, hyperparameters=hyperparameters, after=())


def without_gradient(row: Row, idle: slice, zero: Mapping[str, float]) -> Case:
    """A stream without zeros, where some coordinates never have a gradient and some hyperparameters are zero."""
    case = next(case for case in cases_of(row) if case.name.endswith(".spike"))
    gradients = [np.array(flat) for flat in case.gradients]
    for flat in gradients:
        flat[idle] = 0.0
    values = [{path: zero.get(path.split(".")[-1], x) for path, x in given.items()} for given in case.hyperparameters]
    return dataclasses.replace(replaced(case, values), gradients=gradients)


def machine_weights(row: Row, case: Case) -> list[np.ndarray]:
    """The weights of the row's machine after each step."""
    held = fixed(row.instance)
    program = compiler.build(settled(row.instance, {**case.hyperparameters[0], **held}), case.layout)
    engine, found = Engine(program), [case.weights]
    state = engine.initial_state()
    for number, (flat, values) in enumerate(zip(case.gradients, case.hyperparameters, strict=True), 1):
        given = {path: x for path, x in {**values, **held}.items() if path in program.parameters}
        out = engine.step(found[-1], flat, state, number, given)
        found.append(out.weights)
        state = out.state
    return found


def first_nan(row: Row, case: Case, mode: str = "") -> tuple[int, int]:
    """The first step (0 for none) after which the native's weights have NaN, and how many are at the end."""
    steps = steps_of(row, case, mode)
    when = [number for number, step in enumerate(steps, 1) if np.isnan(step.new_weights).any()]
    return (when[0] if when else 0), int(np.isnan(steps[-1].new_weights).sum())
