"""Records: a candidate runs over a case and is written down, step by step; judging comes afterwards.

Three ways to run, which are the modes of a judgement. *Follow*: from the case's start to its end, on one instance.
*Reset*: before each step the candidate is set to the golden weights and state. *Restore*: a fresh candidate is set to
what the first one had in the middle, and must go on with the same bits (GS-trajectory-resume).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from graftsim_conformance.candidates import Candidate
from graftsim_conformance.cases import Array, Case, Gradients
from graftsim_conformance.dialects import Row
from graftsim_conformance.verdicts import CandidateError, Verdict

OWN = Row("", "", "", {}, {})
"""The row of a candidate that speaks the machine's own names; it is told every hyperparameter by its path."""


@dataclass(frozen=True)
class Recorded:
    """One step of a candidate: what it started from, what it was given, and what it came to.

    ``info`` has what the candidate computed on the way, where it shows it, by the machine's paths.
    """

    weights: Array
    state: Mapping[str, Array]
    gradients: Gradients
    settings: Mapping[str, float]
    new_weights: Array
    new_state: Mapping[str, Array]
    info: Mapping[str, Array] = field(default_factory=dict)


def record(
    candidate: Candidate, row: Row, case: Case, fixed: Mapping[str, float], through_float32: Collection[str] = ()
) -> list[Recorded]:
    """Run a candidate over a case. ``fixed`` hyperparameters are not given to it: its defaults must be these.

    Those that ``through_float32`` names are written down as the candidate uses them: rounded to float32.

    Raises:
        CandidateError: it cannot do what the case needs, or breaks the contract of a candidate.
    """
    runner = _Runner(candidate, row, case, fixed, through_float32)
    runner.start()
    return [runner.step(number) for number in range(len(case.gradients))]


def record_reset(
    candidate: Candidate, row: Row, case: Case, fixed: Mapping[str, float], through_float32: Collection[str] = ()
) -> list[Recorded]:
    """Run a candidate over a case, set to the golden weights and state before each step but the first.

    Raises:
        CandidateError: its state cannot be set, or as :func:`record`.
    """
    runner = _Runner(candidate, row, case, fixed, through_float32)
    runner.start()
    steps = []
    for number in range(len(case.gradients)):
        if number:
            before = case.after[number - 1]
            runner.restore(before.weights, before.state, case.taken + number)
        steps.append(runner.step(number))
    return steps


def record_restored(
    candidate: Candidate,
    row: Row,
    case: Case,
    fixed: Mapping[str, float],
    begun: list[Recorded],
    through_float32: Collection[str] = (),
) -> list[Recorded]:
    """The second half of a case, run by a fresh candidate that is set to what another one had come to by then.

    Raises:
        CandidateError: its state cannot be set or not all of it be read, or as :func:`record`.
    """
    runner = _Runner(candidate, row, case, fixed, through_float32)
    runner.start()
    middle = len(begun) // 2
    if unread := sorted(case.program.slots.keys() - begun[middle].state.keys()):
        raise CandidateError(Verdict.NOT_SUPPORTED, f"its state cannot be saved: {', '.join(unread)} cannot be read")
    runner.restore(begun[middle].weights, begun[middle].state, case.taken + middle)
    return [runner.step(number) for number in range(middle, len(case.gradients))]


class _Runner:
    """A candidate within a run over a case, held to the contract of a candidate at each step."""

    def __init__(
        self, candidate: Candidate, row: Row, case: Case, fixed: Mapping[str, float], through_float32: Collection[str]
    ) -> None:
        self.candidate, self.row, self.case = candidate, row, case
        self.settings = [{**values, **fixed} for values in case.hyperparameters]
        self.arguments = self.settings if row is OWN else [row.native(values, fixed) for values in self.settings]
        self.names = {path: path for path in case.program.slots} if row is OWN else row.state
        self.rounded = set(through_float32)
        self.weights, self.state = case.weights, dict[str, Array]()

    def start(self) -> None:
        case = self.case
        if "missing" in case.needs and "missing" not in getattr(self.candidate, "abilities", ()):
            raise CandidateError(Verdict.NOT_SUPPORTED, "it does not declare missing gradients")
        lent = case.weights.copy()
        self.candidate.start(case.layout, lent, self.arguments[0])
        _spoil(lent)
        self.weights, self.state = case.weights, self.read()
        if "restore" in case.needs:
            self.restore(case.weights, case.start, case.taken)

    def restore(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        write = getattr(self.candidate, "write_state", None)
        if write is None:
            raise CandidateError(Verdict.NOT_SUPPORTED, "its state cannot be set")
        if unknown := sorted(self.case.program.slots.keys() - self.names.keys()):
            raise CandidateError(Verdict.NOT_SUPPORTED, f"not all of its state can be set: {', '.join(unknown)}")
        write(weights.copy(), {name: state[slot].copy() for slot, name in self.names.items() if slot in state}, step)
        self.weights, self.state = weights, self.read()

    def read(self) -> dict[str, Array]:
        return self.candidate.read_state(self.names)

    def step(self, number: int) -> Recorded:
        gradients, values, when = self.case.gradients[number], self.settings[number], f"at step {number + 1}"
        given = _copied(gradients)
        moved = self._weights(self.candidate.step(cast(Array, given), self.arguments[number]), when)
        if not _same_bits(given, gradients):
            raise CandidateError(Verdict.DIFFERENT, f"{when} it changed the gradients (GS-graft-ownership)")
        _spoil(given)
        used = {path: float(np.float32(x)) if path in self.rounded else x for path, x in values.items()}
        found = Recorded(self.weights, self.state, gradients, used, moved, self.read(), self._info())
        self.weights, self.state = moved, dict(found.new_state)
        return found

    def _weights(self, received: Any, when: str) -> Array:
        case = self.case
        if not isinstance(received, np.ndarray) or received.shape != case.weights.shape:
            what = f"shape {received.shape}" if isinstance(received, np.ndarray) else type(received).__name__
            raise CandidateError(
                Verdict.DIFFERENT,
                f"{when} the weights of the candidate must be {case.weights.size} numbers; received {what}",
            )
        with np.errstate(over="ignore"):
            moved = received.astype(case.dtype)
        if not np.array_equal(moved.astype(np.float64), received.astype(np.float64), equal_nan=True):
            raise CandidateError(Verdict.DIFFERENT, f"{when} the weights of the candidate are not {case.dtype}")
        return moved

    def _info(self) -> dict[str, Array]:
        shown = getattr(self.candidate, "info", None)
        return {} if shown is None else {path: np.asarray(values) for path, values in shown().items()}


def _copied(gradients: Gradients) -> Gradients:
    if isinstance(gradients, np.ndarray):
        return gradients.copy()
    return [None if part is None else part.copy() for part in gradients]


def _arrays(gradients: Gradients) -> list[Array]:
    return [gradients] if isinstance(gradients, np.ndarray) else [part for part in gradients if part is not None]


def _same_bits(first: Gradients, second: Gradients) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(_arrays(first), _arrays(second), strict=True))


def _spoil(gradients: Gradients) -> None:
    """Overwrite what was lent to a candidate, as a training loop does with its buffers: it must not have kept it."""
    for part in _arrays(gradients):
        part.fill(np.nan)
