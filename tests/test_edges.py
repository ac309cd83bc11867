"""Edges do what they are for, and every candidate gets one verdict for each: right, wrong, unable, broken."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from graftsim import compiler, notation
from graftsim.engine import Engine
from graftsim_conformance import cases, edge_machines, edge_streams, edges, golden, posing
from graftsim_conformance.cases import settled
from graftsim_conformance.follow import equations, showing
from graftsim_conformance.judge import Mode, judge, same_bits
from graftsim_conformance.recording import Recorded
from graftsim_conformance.verdicts import CandidateError, Verdict


class Reference:
    """The reference engine as a candidate; what follows breaks it."""

    abilities = ("missing",)

    def __init__(self, machine):
        self.instance = notation.parse(machine)

    def start(self, layout, weights, arguments):
        program = compiler.build(settled(self.instance, arguments), layout, str(weights.dtype))
        more = {path: path for path in ("magnitude.delta", "direction.delta") if path in program.kinds}
        names = [Recorded(weights, {}, weights, {}, weights, {}, {**program.info, **more})]
        self.engine = Engine(showing(program, names))
        self.weights, self.state, self.step_number = weights.copy(), self.engine.initial_state(), 0
        self.shown = {}

    def step(self, gradients, arguments):
        self.step_number += 1
        found = self.engine.step(self.weights, self.taken(gradients), self.state, self.step_number, arguments)
        self.weights, self.state, self.shown = found.weights, found.state, found.info
        return self.weights.copy()

    def taken(self, gradients):
        return gradients.copy() if isinstance(gradients, np.ndarray) else gradients

    def read_state(self, names):
        return {slot: self.state[name].copy() for slot, name in names.items()}

    def write_state(self, weights, state, step):
        self.weights, self.state, self.step_number = weights.copy(), dict(state), step

    def info(self):
        return self.shown


def verdicts(kind, names, modes=(Mode.FOLLOW,), machine=None):
    """The results of a kind of candidate over golden cases."""
    found = []
    for name in names:
        expression = machine or posing.names()[name]
        case = golden.stored(name)
        found += judge(lambda: kind(expression), notation.parse(expression), [case], modes=modes)  # noqa: B023
    return found


EVERY = [edges.name_of(*row) for row in edges.posed()]
ONE_OF_EACH = [name for name in EVERY if name.partition(".")[0] in ("pair-adam-sgd", "missing-graft-pattern")]


def test_the_reference_is_exact_in_every_mode():
    found = verdicts(Reference, ONE_OF_EACH, tuple(Mode))
    assert {result.verdict for result in found} == {Verdict.EXACT}
    assert len(found) == 3 * len(ONE_OF_EACH)
    assert all(result.comparisons > 0 and not result.unread and not result.reason for result in found)
    assert all(result.rules and result.about and result.seconds > 0 for result in found)


# -- edges are what they are called ------------------------------------------------------------------------------------


def case(name):
    return golden.stored(name)


def test_zeros_are_where_they_are_said_to_be():
    assert all((row == 0).all() for row in case("pair-adam-sgd.zero_all").gradients)
    first, *later = case("pair-adam-sgd.zero_first").gradients
    assert (first == 0).all()
    assert all((row != 0).all() for row in later)
    after = case("pair-momentum-sgd.zero_after").after
    assert (after[1].info["n_d"] == 0).all()
    assert (after[1].info["n_m"][[0, 1, 2, 4, 5]] > 0).all()
    reverse = case("pair-sgd-momentum.zero_after").after
    assert (reverse[1].info["n_m"] == 0).all()
    assert (reverse[1].info["n_d"][[0, 1, 2, 4, 5]] > 0).all()
    layer = case("lamb.zero_layer")
    assert [(part == 0).all() for part in layer.layout.unflatten(layer.weights)] == [
        False,
        True,
        False,
        True,
        True,
        False,
    ]


def test_squares_would_leave_the_range():
    for name, dtype in (("tiny_direction", np.float64), ("tiny_direction32-float32", np.float32)):
        norms = case(f"pair-adam-sgd.{name}").after[0].info["n_d"].astype(dtype)
        assert ((norms * norms)[norms > 0] == 0).all()
        assert (norms > 0).any()
    for name, dtype in (("huge_gradient", np.float64), ("huge_gradient32-float32", np.float32)):
        with np.errstate(over="ignore"):
            assert np.isinf(np.square(case(f"sgd.{name}").gradients[0].astype(dtype))).all()
    for name, dtype in (("subnormal", "float64"), ("subnormal32-float32", "float32")):
        gradient = case(f"sgd.{name}").gradients[0]
        assert gradient.dtype == dtype
        assert ((gradient != 0) & (np.abs(gradient) < np.finfo(dtype).tiny)).all()
    ratio = case("pair-lion-sgd.wide_ratio32-float32").after[0].info["ratio"]
    assert (ratio[ratio > 0] > np.finfo(np.float32).max).all()


def test_faults_stay_in_their_group():
    bad = np.isnan(case("pair-adam-sgd.nan").after[1].info["ratio"])
    assert bad.tolist() == [False, True, False, False, False, False]
    assert np.isnan(case("faults-global.nan").after[1].weights).all()
    infinite = case("pair-lion-sgd.infinite_direction").after[1].info
    assert np.isinf(infinite["n_d"][1])
    assert infinite["ratio"][1] == 0
    assert np.isinf(case("pair-sgd-lion.infinite_magnitude").after[1].info["ratio"][1])
    masked = case("faults-momentum-sgd.nan_zero_direction").after[1]
    assert np.isnan(masked.info["n_m"][1])
    assert masked.info["ratio"][1] == 0


def test_a_missing_gradient_is_no_zero():
    """Else the edge could not tell one from the other."""
    found = case("adam-corrected.missing")
    sizes = found.layout.sizes
    rows = [cases.parts(found.layout, row) for row in found.gradients]
    zeros = [
        np.concatenate([np.zeros(n) if p is None else p.ravel() for p, n in zip(row, sizes, strict=True)])
        for row in rows
    ]
    filled = golden.solved(dataclasses.replace(found, gradients=zeros, after=()))
    assert found.needs == {"missing"}
    assert (filled.after[1].state["m"] != found.after[1].state["m"]).any()
    assert found.after[3].state["t"].tolist() == [4, 2, 4, 3, 3, 3]
    assert golden.stored("missing-adam-advance.missing").after[3].state["t"].tolist() == [4] * 6


def test_late_runs_stand_where_they_say():
    for name, step in (("late_10000", 10_000), ("late_1000000", 10**6), ("late_16777216", 2**24 - 1)):
        found = case(f"adam-corrected.{name}")
        assert found.taken == step
        assert (found.start["t"] == step).all()
        assert (found.start["m"] != 0).all()
        assert len(found.gradients) <= 16
    narrow = np.float32(case("adam-corrected.late_16777216-float32").after[1].state["t"])
    assert narrow[0] + np.float32(1) == 2**24 + 2 or np.float32(2**24) + np.float32(1) == 2**24


def test_schedules_are_evaluated():
    rates = [values["magnitude.lr"] for values in case("pair-adam-sgd.warm_up_from_zero").hyperparameters]
    assert rates == [0.0, 0.5 * (1 / 3) ** 2, 0.5 * (2 / 3) ** 2, 0.5]
    assert (case("pair-adam-sgd.warm_up_from_zero").after[0].info["n_m"] == 0).all()


def test_every_ordered_pair_is_a_case():
    pairs = {name.partition(".")[0] for name in EVERY if name.partition(".")[2] == "grafted"}
    assert pairs == {f"pair-{m}-{d}" for m in edge_machines.CHOSEN for d in edge_machines.CHOSEN}


def test_every_edge_about_gradients_has_its_twin_at_zero():
    for edge in edges.EDGES:
        twins = {twin for other, _, _, twin in edges.posed() if other is edge}
        assert twins == ({False, True} if edge.zero == () else {False})
    assert (case("lion.zero_first-zero").weights == 0).all()
    assert (case("lion.zero_first").weights != 0).all()


# -- verdicts ----------------------------------------------------------------------------------------------------------


class NormOfAll(Reference):
    """The norm of the direction over the whole model."""

    def info(self):
        return {**self.shown, "n_d": np.full_like(self.shown["n_d"], np.sqrt((self.shown["n_d"] ** 2).sum()))}


class Unsaved(Reference):
    """State that does not survive: the direction starts anew."""

    def write_state(self, weights, state, step):
        super().write_state(weights, state, step)
        self.state["magnitude.m"] = np.zeros_like(self.state["magnitude.m"])


class Lost(Reference):
    """The counter is lost on restoring."""

    def write_state(self, weights, state, step):
        super().write_state(weights, {path: values * (path[-1] != "t") for path, values in state.items()}, step)


class ChangesTheGradient(Reference):
    def taken(self, gradients):
        gradients *= 1.5
        return gradients


class KeepsTheGradient(Reference):
    """The buffer is not a copy of the first gradient but the caller's array."""

    def step(self, gradients, arguments):
        moved = super().step(gradients, arguments)
        if self.step_number == 1:
            self.state["b"] = gradients
        return moved


class Short(Reference):
    def step(self, gradients, arguments):
        return super().step(gradients, arguments)[:-1]


class WideWeights(Reference):
    """Weights with more digits than their dtype has."""

    def step(self, gradients, arguments):
        return super().step(gradients, arguments).astype(np.float64) * (1 + 2.0**-40)


class Raises(Reference):
    def step(self, gradients, arguments):
        raise RuntimeError("a line\nand another")


class Slow(Reference):
    def step(self, gradients, arguments):
        raise CandidateError(Verdict.TIMED_OUT, "longer than 1 s")


class Masks(Reference):
    """A step that is not finite is left out."""

    def step(self, gradients, arguments):
        before = self.weights
        found = super().step(gradients, arguments)
        self.weights = np.where(np.isfinite(found), found, before)
        return self.weights.copy()


class Unable(Reference):
    abilities = ()
    write_state = None


GRAFTED = "pair-adam-sgd.grafted"


@pytest.mark.parametrize(
    ("kind", "name", "mode", "verdict", "reason"),
    [
        (NormOfAll, GRAFTED, Mode.FOLLOW, Verdict.DIFFERENT, "norm of direction (n_d) of"),
        (Unsaved, GRAFTED, Mode.FOLLOW, Verdict.EXACT, ""),
        (Unsaved, GRAFTED, Mode.RESTORE, Verdict.DIFFERENT, "restored after step 1, it has another magnitude.m"),
        (Lost, "adam-corrected.late_10000", Mode.FOLLOW, Verdict.DIFFERENT, "before the first step, t of c"),
        (Lost, "adam-corrected.zero_first", Mode.RESTORE, Verdict.DIFFERENT, "another t"),
        (ChangesTheGradient, GRAFTED, Mode.FOLLOW, Verdict.DIFFERENT, "changed the gradients"),
        (KeepsTheGradient, "momentum-copy.zero_coordinate", Mode.FOLLOW, Verdict.DIFFERENT, "b of"),
        (Short, GRAFTED, Mode.FOLLOW, Verdict.DIFFERENT, "must be 11 numbers; received shape (10,)"),
        (WideWeights, f"{GRAFTED}-float32", Mode.FOLLOW, Verdict.DIFFERENT, "are not float32"),
        (Raises, GRAFTED, Mode.FOLLOW, Verdict.CRASHED, "RuntimeError: a line and another"),
        (Slow, GRAFTED, Mode.FOLLOW, Verdict.TIMED_OUT, "longer than 1 s"),
        (Masks, "sgd.nan", Mode.FOLLOW, Verdict.DIFFERENT, "weights of k[0,0,0,0]"),
        (Unable, "pair-adam-sgd.missing", Mode.FOLLOW, Verdict.NOT_SUPPORTED, "missing gradients"),
        (Unable, "pair-adam-sgd.late_10000", Mode.FOLLOW, Verdict.NOT_SUPPORTED, "cannot be set"),
        (Unable, GRAFTED, Mode.RESET, Verdict.NOT_SUPPORTED, "cannot be set"),
        (Unable, GRAFTED, Mode.FOLLOW, Verdict.EXACT, ""),
    ],
)
def test_one_verdict_whatever_it_does(kind, name, mode, verdict, reason):
    (found,) = verdicts(kind, [name], [mode])
    assert found.verdict == verdict, found
    assert reason in found.reason
    assert "\n" not in found.reason
    assert found.passed == (verdict is Verdict.EXACT)
    assert ("Traceback" in found.detail) == (kind is Raises)


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("adam(eps_placement=hat)#sgd", "step (magnitude.delta) of"),
        ("adam(eps_placement=inside)#sgd", "step (magnitude.delta) of"),
        ("graft(adam, sgd, partition=global)", "n_m of the candidate must be 1 numbers; received shape (6,)"),
    ],
)
def test_a_wrong_machine_is_located(claim, reason):
    """What the candidate shows comes before the weights: the mistake is where the first difference is."""
    expression = posing.names()[GRAFTED]
    (found,) = judge(lambda: Reference(expression), notation.parse(claim), [golden.stored(GRAFTED)])
    assert found.verdict is Verdict.DIFFERENT
    assert reason in found.reason


def test_equations_of_what_is_shown():
    program = compiler.build(notation.parse("adam#sgd"), edge_streams.LAYOUT)
    assert equations(program, "n_d")[0] == "graft: n_d = norm(direction.delta)"
    assert equations(program, "ratio")[0].startswith("graft: ratio = where(n_d == 0")


def test_bits_are_compared_as_the_spec_says():
    a = np.array([0.0, -0.0, np.nan, np.inf, 1.0, 0.0])
    b = np.array([0.0, 0.0, -np.nan, np.inf, 1.0, np.nan])
    assert same_bits(a, b).tolist() == [True, False, True, True, True, False]
