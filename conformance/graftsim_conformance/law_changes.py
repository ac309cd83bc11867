"""Laws about one machine under changed inputs: other units, signs, tensors and orders, and what a step leaves alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from graftsim.interpreter import taking_part
from graftsim.layouts import Layout
from graftsim_conformance import homogeneity
from graftsim_conformance.cases import Gradients, given_parameters, parts, without_tables
from graftsim_conformance.dialects import fixed
from graftsim_conformance.follow import BUDGET
from graftsim_conformance.homogeneity import ANY, Degree
from graftsim_conformance.law_compared import Compared, label, to_the_bit
from graftsim_conformance.law_trials import STEPS, Trial, bounded, changed, each, ordinary

SHIFT = 12
"""Powers of two are 2 ** 12, which also has whole roots, and keeps everything here far from over- and underflow."""


def rescaled(trial: Trial, rates: str, gradients: int = 0, also: Sequence[str] = ()) -> Iterator[Compared]:
    """Some inputs times 2 ** 12: every operation is scaled exactly, and the weights by the power that they have.

    ``rates`` names the child whose learning rates are scaled; ``also`` are further hyperparameters by path.
    """
    degree, start = degree_of(trial, rates, gradients, also)
    assert isinstance(degree, Fraction), "the law has the precondition that it is known"
    factor, case = 2.0**SHIFT, trial.case()
    if start is ANY:
        case = changed(case, weights=np.zeros_like(case.weights))
    paths = _scaled(trial, rates, also)
    other = changed(
        case,
        weights=case.weights * case.weights.dtype.type(factor),
        gradients=each(case.gradients, lambda row: row * row.dtype.type(factor**gradients)),
        hyperparameters=[
            {path: value * factor if path in paths else value for path, value in row.items()}
            for row in case.hyperparameters
        ],
    )
    power = case.weights.dtype.type(factor ** float(degree))
    for i, (a, b) in enumerate(zip(trial.run(case), trial.run(other), strict=True)):
        yield to_the_bit(i + 1, "weights", b.new_weights, a.new_weights * power, trial.layout.where)


def _scaled(trial: Trial, rates: str, also: Sequence[str]) -> list[str]:
    """The learning rates of a child, or of all where ``rates`` is empty, and other hyperparameters.

    One that is written in the claim is the candidate's own, which may not be told it, and keeps its value.
    """
    own = fixed(without_tables(trial.given))
    paths = [path for path in given_parameters(trial.program) if path not in own]
    return [path for path in paths if path in also or _is_rate(path, rates)]


def _is_rate(path: str, of: str) -> bool:
    return path.split(".")[-1] == "lr" and (not of or path.startswith(f"{of}."))


def degree_of(trial: Trial, rates: str, gradients: int, also: Sequence[str]) -> tuple[Degree, Degree]:
    """The degree of the weights, and of the start weights: scaled with the gradients where that is a law, else zero."""
    program, scaled = trial.program, {path: Fraction(1) for path in _scaled(trial, rates, also)}
    if not scaled and not gradients:
        return homogeneity.NONE, ANY
    scaled["g"] = Fraction(gradients)
    starts: list[Degree] = [Fraction(1), ANY] if gradients else [ANY]
    found = [(homogeneity.of_weights(program, scaled, start), start) for start in starts]
    return next((row for row in found if isinstance(row[0], Fraction)), found[-1])


def flipped(trial: Trial) -> Iterator[Compared]:
    case = trial.case(zeros=True)
    other = changed(case, weights=-case.weights, gradients=each(case.gradients, np.negative))
    for i, (a, b) in enumerate(zip(trial.run(case), trial.run(other), strict=True)):
        yield to_the_bit(i + 1, "weights", b.new_weights, -a.new_weights, trial.layout.where)


def others(trial: Trial) -> Iterator[Compared]:
    """Every second tensor gets other weights and gradients, then the rest; the tensors in between must not notice."""
    case = trial.case()
    first = trial.run(case)
    noise = [row.astype(case.dtype)[::-1] * case.weights.dtype.type(-3) for row in ordinary(case.layout, STEPS)]
    for turn in (0, 1):
        here = np.repeat(np.arange(len(case.layout.tensors)) % 2 == turn, case.layout.sizes)
        flat = [np.asarray(row) for row in case.gradients]
        other = changed(
            case,
            weights=np.where(here, case.weights[::-1], case.weights),
            gradients=[np.where(here, new, old) for new, old in zip(noise, flat, strict=True)],
        )
        for i, (a, b) in enumerate(zip(first, trial.run(other), strict=True)):
            want = np.where(here, b.new_weights, a.new_weights)
            yield to_the_bit(i + 1, "weights", b.new_weights, want, trial.layout.where)


def reordered(trial: Trial) -> Iterator[Compared]:
    """The tensors in the opposite order: the errors of both sides have one bound, since it knows no order."""
    case = trial.case()
    layout = Layout(tuple(reversed(case.layout.tensors)))
    places = [np.arange(place.start, place.stop) for _, _, place in case.layout.slices()]
    order = np.concatenate(places[::-1])
    other = changed(
        case, layout=layout, weights=case.weights[order], gradients=each(case.gradients, lambda row: row[order])
    )
    pairs = zip(trial.run(case), trial.run(other), bounded(case), strict=True)
    for i, (a, b, (bound, _)) in enumerate(pairs):
        error = 2 * BUDGET * bound.error[order]
        yield Compared(i + 1, "weights", b.new_weights, a.new_weights[order], error, layout.where)


# -- what a step leaves alone ------------------------------------------------------------------------------------------


def owned(trial: Trial) -> Iterator[Compared]:
    """Running is the check: gradients are compared after each step and overwritten with NaN, which must not be seen."""
    for i, step in enumerate(trial.run(trial.case())):
        yield to_the_bit(i + 1, "weights", step.new_weights, step.new_weights, trial.layout.where)


def restored(trial: Trial) -> Iterator[Compared]:
    case = trial.case()
    whole = trial.run(case)
    rest = trial.restored(case, whole)
    first = len(whole) - len(rest)
    for i, (a, b) in enumerate(zip(whole[first:], rest, strict=True), first + 1):
        for path, slot in case.program.slots.items():
            yield to_the_bit(i, path, b.new_state[path], a.new_state[path], label(slot, case.layout))
        yield to_the_bit(i, "weights", b.new_weights, a.new_weights, trial.layout.where)


def missing(trial: Trial) -> Iterator[Compared]:
    """Every second tensor has no gradient at the second step, and the others none at the third."""
    case = trial.case()
    layout = case.layout
    gradients: list[Gradients] = [*case.gradients]
    for step in (1, 2):
        gradients[step] = [
            None if number % 2 == step % 2 else part for number, part in enumerate(parts(layout, case.gradients[step]))
        ]
    steps = trial.run(changed(case, gradients=gradients))
    for step in (1, 2):
        absent = np.array([part is None for part in parts(layout, gradients[step])])
        a, here = steps[step], np.repeat(absent, layout.sizes)
        for path, slot in case.program.slots.items():
            if path in a.new_state and not slot.advance_missing:
                kept = ~taking_part(case.program, slot.kind, ~absent)
                want = np.where(kept, a.state[path], a.new_state[path])
                yield to_the_bit(step + 1, path, a.new_state[path], want, label(slot, layout))
        want = np.where(here, a.weights, a.new_weights)
        yield to_the_bit(step + 1, "weights", a.new_weights, want, layout.where)
