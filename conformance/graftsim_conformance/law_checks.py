"""The checks of laws and their preconditions, by the names that stand in ``laws.yaml``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from graftsim.partitions import by_tensor, refines
from graftsim.program import Program
from graftsim_conformance import homogeneity, law_changes, law_grafts
from graftsim_conformance.law_changes import SHIFT
from graftsim_conformance.law_compared import Compared
from graftsim_conformance.law_trials import Trial

Check = Callable[..., Iterator[Compared]]

CHECKS: Mapping[str, Check] = {
    "length": law_grafts.length,
    "direction": law_grafts.direction,
    "children": law_grafts.children,
    "same": law_grafts.same,
    "near": law_grafts.near,
    "rescaled": law_changes.rescaled,
    "flipped": law_changes.flipped,
    "others": law_changes.others,
    "reordered": law_changes.reordered,
    "owned": law_changes.owned,
    "restored": law_changes.restored,
    "missing": law_changes.missing,
}


# -- preconditions -----------------------------------------------------------------------------------------------------


def _is(program: Program, path: str, value: float) -> bool:
    """Whether a hyperparameter has this value at every step."""
    node = program.parameters[path].node
    return node.operator == "number" and float(node.data) == value


def _is_graft(trial: Trial) -> bool:
    return trial.instance.machine.name == "graft"


def _rescales(trial: Trial, rates: str, gradients: int = 0, also: Sequence[str] = ()) -> bool:
    degree, _ = law_changes.degree_of(trial, rates, gradients, also)
    return isinstance(degree, Fraction) and (degree * SHIFT).denominator == 1


def _is_odd(trial: Trial) -> bool:
    odd = {"g": Fraction(1)}
    return homogeneity.of_weights(trial.program, odd, Fraction(1), signs=True) == Fraction(1)


def _within_tensors(trial: Trial) -> bool:
    whole = by_tensor(trial.layout)
    return all(refines(row.partition, whole) for row in trial.program.reductions)


CONDITIONS: Mapping[str, Callable[..., bool]] = {
    "graft": lambda trial, **_: _is_graft(trial),
    "plain": lambda trial, **_: not _is_graft(trial),
    "no_eps": lambda trial, **_: _is(trial.program, "eps", 0),
    "has_eps": lambda trial, **_: not _is(trial.program, "eps", 0),
    "unit_scale": lambda trial, **_: _is(trial.program, "scale", 1),
    "keeps_state": lambda trial, **_: bool(trial.program.slots),
    "rescales": _rescales,
    "odd": lambda trial, **_: _is_odd(trial),
    "within_tensors": lambda trial, **_: _within_tensors(trial),
}
"""What is derived from the program; a check's own arguments are given too."""


def holds(condition: str, trial: Trial, given: Mapping[str, Any]) -> bool:
    """Whether a precondition of a law is met."""
    return CONDITIONS[condition](trial, **given)
