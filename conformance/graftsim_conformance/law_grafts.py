"""Laws about two machines: a graft beside its children alone, and machines that are one.

Both sides of a bounded law are two ways to compute one real number, each within ``BUDGET`` first-order bounds of it
(GS-budget-comparison), so they lie within the sum of both. Hence a tolerance without golden data.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graftsim import sums
from graftsim.partitions import Partition
from graftsim_conformance.cases import Array, Case
from graftsim_conformance.follow import BUDGET
from graftsim_conformance.law_compared import Compared, label, to_the_bit
from graftsim_conformance.law_trials import STEPS, Trial, bounded
from graftsim_conformance.recording import Recorded


@dataclass(frozen=True)
class _Steps:
    """The steps that a record shows, ``w' - w``, with how far each may lie from the real number.

    ``w'`` is rounded once from ``w + delta``, and so is their difference here.
    """

    deltas: list[Array]
    errors: list[Array]


def _steps(case: Case, steps: list[Recorded]) -> _Steps:
    deltas = [step.new_weights.astype(np.float64) - step.weights for step in steps]
    unit = 2.0 ** (-24 if case.dtype == "float32" else -53)
    errors = [
        BUDGET * outcome.delta.error + unit * np.abs(step.new_weights) + 2.0**-53 * np.abs(delta)
        for (_, outcome), step, delta in zip(bounded(case), steps, deltas, strict=True)
    ]
    return _Steps(deltas, errors)


def _beside(trial: Trial, of: str) -> tuple[Case, _Steps, _Steps]:
    """A graft's steps, and those of one of its children alone on the same weights.

    The weights of both part after one step, which is then the only one where they are read.
    """
    count = 1 if trial.reads_weights else STEPS
    case, alone = trial.case(steps=count), trial.case(of, steps=count)
    return case, _steps(case, trial.run(case)), _steps(alone, trial.run(alone))


def _groups(trial: Trial) -> Partition:
    """The partition of the graft."""
    return next(row.partition for row in trial.program.reductions if row.target == trial.program.info["n_m"])


def _norms(values: Array, groups: Partition) -> Array:
    return np.array([sums.norm(values[groups.group_of == group]) for group in range(groups.count)])


def _with_own(error: Array, got: Array, want: Array) -> Array:
    """The tolerance with what the comparison itself rounds: a norm once, a product once, on each side."""
    return np.asarray(error + 2.0**-52 * (np.abs(got) + np.abs(want)))


def length(trial: Trial, of: str) -> Iterator[Compared]:
    """|delta| = scale |M's delta|: norms differ by no more than the norm of the errors."""
    case, graft, alone = _beside(trial, of)
    groups = _groups(trial)
    for i, settings in enumerate(case.hyperparameters):
        scale = settings.get("scale", 1.0)
        got, want = _norms(graft.deltas[i], groups), scale * _norms(alone.deltas[i], groups)
        error = _norms(graft.errors[i], groups) + scale * _norms(alone.errors[i], groups)
        yield Compared(i + 1, "length", got, want, _with_own(error, got, want), groups.label)


def direction(trial: Trial, of: str) -> Iterator[Compared]:
    """delta |d| = |delta| d: a product moves by the error of each factor times the other, which has its own."""
    _, graft, alone = _beside(trial, of)
    groups = _groups(trial)
    for i, (x, d) in enumerate(zip(graft.deltas, alone.deltas, strict=True)):
        e, f = graft.errors[i], alone.errors[i]
        long, far, e_long, e_far = (_norms(values, groups)[groups.group_of] for values in (x, d, e, f))
        got, want = x * far, long * d
        error = e * (far + e_far) + np.abs(x) * e_far + e_long * (np.abs(d) + f) + long * f
        yield Compared(i + 1, "direction", got, want, _with_own(error, got, want), trial.layout.where)


def children(trial: Trial) -> Iterator[Compared]:
    """The state of M and D within M#D, beside each alone."""
    count = 1 if trial.reads_weights else STEPS
    case = trial.case(steps=count)
    steps, errors = trial.run(case), [outcome.state for _, outcome in bounded(case)]
    for child in trial.instance.children:
        own = trial.case(f"{{{child}}}", steps=count)
        alone, of_alone = trial.run(own), [outcome.state for _, outcome in bounded(own)]
        for i, path in itertools.product(range(count), own.program.slots):
            whole = f"{child}.{path}"
            if whole in steps[i].new_state and path in alone[i].new_state:
                error = BUDGET * (errors[i][whole].error + of_alone[i][path].error)
                error = np.zeros_like(error) if own.program.slots[path].counter else error
                called = label(own.program.slots[path], trial.layout)
                yield Compared(i + 1, whole, steps[i].new_state[whole], alone[i].new_state[path], error, called)


def same(trial: Trial, left: str, right: str) -> Iterator[Compared]:
    """Two machines that are one: their weights after each step, to the bit, or near where programs are fused."""
    if trial.fused:
        yield from near(trial, left, right)
        return
    runs = [trial.run(trial.case(machine)) for machine in (left, right)]
    for i, (a, b) in enumerate(zip(*runs, strict=True)):
        yield to_the_bit(i + 1, "weights", a.new_weights, b.new_weights, trial.layout.where)


def near(trial: Trial, left: str, right: str) -> Iterator[Compared]:
    """Two machines that are one up to rounding."""
    cases = [trial.case(machine) for machine in (left, right)]
    runs, bounds = [trial.run(case) for case in cases], [bounded(case) for case in cases]
    for i, (a, b, (of_a, _), (of_b, _)) in enumerate(zip(*runs, *bounds, strict=True)):
        error = BUDGET * (of_a.error + of_b.error)
        yield Compared(i + 1, "weights", a.new_weights, b.new_weights, error, trial.layout.where)
