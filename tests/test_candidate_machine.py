"""Random machines over random histories: an independent implementation against the reference, within the budget.

A history is steps with ordinary, zero and missing gradients, moves to other weights, restarts, and fresh candidates
that are given what the last one had. What hypothesis shrinks here becomes a row of ``edges.py``.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from graftsim import build
from graftsim.layouts import Layout
from graftsim_conformance.follow import BUDGET, Recorded, follow
from graftsim_conformance.judge import same_bits
from graftsim_conformance.python_candidate import PythonCandidate
from tests import right_implementations as right

LAYOUT = Layout.of({"a": (2, 3), "b": (3,), "c": (), "none": (0, 2)})

# -- machines ----------------------------------------------------------------------------------------------------------

RATES = {
    "0.125": lambda step: 0.125,
    "0.5 * min((step - 1) / 4, 1)": lambda step: 0.5 * min((step - 1) / 4, 1),
    "where(step < 3, 0.25, 0)": lambda step: 0.25 if step < 3 else 0.0,
    "2 ** step / 1024": lambda step: 2.0**step / 1024,
}
"""Schedules, and what they are; the first step of a warm-up is zero."""
DECAYS = st.sampled_from([0.0, 0.5, 0.75, 0.9])
EPS = st.sampled_from([0.0, 1e-8, 2.0**-10, 1.0])
STARTS = st.sampled_from([0.0, 0.1])
VALUES = {
    "sgd": {},
    "momentum(first_step=copy)": {"momentum": DECAYS, "dampening": st.sampled_from([0.0, 0.25, 1.0])},
    "adam": {"beta1": DECAYS, "beta2": DECAYS, "eps": EPS},
    "adagrad": {"eps": EPS, "lr_decay": STARTS, "initial_accumulator": STARTS},
    "rmsprop": {"rho": DECAYS, "eps": EPS, "initial_accumulator": STARTS},
    "lion": {"beta1": DECAYS, "beta2": DECAYS},
}
PARTITIONS = ["global", "tensor", "coordinate", "row", "axis(-1)", "block(2)"]


@dataclasses.dataclass(frozen=True)
class Machine:
    """An expression, its implementation, and its hyperparameters by path: numbers, or functions of the step."""

    text: str
    rule: object
    values: dict


def written(name, values):
    kept, bracket, options = name.partition("(")
    parts = [options.removesuffix(")")] * bool(bracket) + [f"{key}={value}" for key, value in values.items()]
    return f"{kept}({', '.join(parts)})"


@st.composite
def leaves(draw):
    name = draw(st.sampled_from(list(VALUES)))
    rate = draw(st.sampled_from(list(RATES)))
    values = {key: draw(strategy) for key, strategy in VALUES[name].items()}
    text = written(name, {"lr": rate, **{key: repr(value) for key, value in values.items()}})
    return Machine(text, right.Each(right.CHILDREN[name]), {"lr": RATES[rate], **values})


@st.composite
def grafts(draw, children):
    magnitude, direction = draw(children), draw(children)
    partition, scale = draw(st.sampled_from(PARTITIONS)), draw(st.sampled_from(list(RATES)))
    eps = draw(st.sampled_from([0.0, 0.0, 2.0**-10]))
    own = {"partition": partition, "eps": repr(eps), "scale": scale}
    text = written(f"graft({magnitude.text}, {direction.text})", own)
    below = {"magnitude": magnitude.values, "direction": direction.values}
    values = {f"{child}.{key}": value for child, each in below.items() for key, value in each.items()}
    rule_of = right.Graft(magnitude.rule, direction.rule, partition)
    return Machine(text, rule_of, {"eps": eps, "scale": RATES[scale], **values})


simple = grafts(leaves())
machines = st.one_of(leaves(), simple, simple, grafts(st.one_of(leaves(), simple)))

# -- inputs ------------------------------------------------------------------------------------------------------------

numbers = st.builds(lambda k, e: k * 2.0**e, st.integers(-7, 7), st.integers(-12, 3))
"""Short dyadic numbers, exact in float32 and of many sizes; sums of them cancel."""


def vectors(size):
    return st.lists(numbers, min_size=size, max_size=size)


gradients = st.tuples(
    *(st.one_of(vectors(size), vectors(size), st.just([0.0] * size), st.none()) for size in LAYOUT.sizes)
)


# -- the run -----------------------------------------------------------------------------------------------------------


class History(RuleBasedStateMachine):
    wrong: ClassVar = None
    """What is done to a machine's implementation before it is run, in tests of this test."""

    @initialize(machine=machines, dtype=st.sampled_from(["float64", "float32"]), weights=vectors(LAYOUT.size))
    def begin(self, machine, dtype, weights):
        self.machine = machine
        self.program = build(machine.text, LAYOUT, dtype)
        self.first = np.array(weights, dtype)
        self.restart()

    def fresh(self):
        rule_of = self.machine.rule if self.wrong is None else type(self).wrong(self.machine.rule)
        candidate = PythonCandidate(right.Right(rule_of), self.machine.text)
        candidate.start(LAYOUT, self.first, self.values(1))
        return candidate

    def values(self, step):
        return {path: value(step) if callable(value) else value for path, value in self.machine.values.items()}

    def read(self):
        return self.candidate.read_state({path: path for path in self.program.slots})

    @rule()
    def restart(self):
        self.candidate, self.weights, self.taken = self.fresh(), self.first, 0
        self.state = self.read()

    @rule(weights=vectors(LAYOUT.size))
    def move(self, weights):
        """The weights are set to others, as a user may do between steps."""
        self.weights = np.array(weights, self.program.dtype)
        self.candidate.write_state(self.weights, self.state, self.taken)

    @precondition(lambda self: self.taken)
    @rule()
    def restore(self):
        """A fresh candidate goes on from what the last one had; it has that to the bit."""
        self.candidate = self.fresh()
        self.candidate.write_state(self.weights, self.state, self.taken)
        found = self.read()
        assert found.keys() == self.state.keys()
        assert all(same_bits(found[path], value).all() for path, value in self.state.items())

    @rule(given=gradients)
    def step(self, given):
        parts = zip(given, LAYOUT.shapes, strict=True)
        row = [None if part is None else np.array(part, self.program.dtype).reshape(shape) for part, shape in parts]
        self.taken += 1
        values = self.values(self.taken)
        moved = self.candidate.step(row, values)
        done = Recorded(self.weights, self.state, row, {}, moved, self.read(), self.candidate.info())
        assert done.new_state.keys() == self.program.slots.keys()
        for compared in follow(self.program, [done], taken=self.taken - 1, initial=self.state):
            off = float(compared.units.max(initial=0.0))
            assert off <= BUDGET, f"{self.machine.text}: {compared.place} is {off} bounds off"
        self.weights, self.state = moved, done.new_state


BOUNDED = settings(derandomize=True, max_examples=150, stateful_step_count=8, deadline=None, database=None)


def test_right_implementations_stay_within_the_budget():
    run_state_machine_as_test(History, settings=BOUNDED)


# -- it can fail -------------------------------------------------------------------------------------------------------


def with_norm(norm):
    """Grafts at any depth with another norm."""

    def change(rule_of):
        if not isinstance(rule_of, right.Graft):
            return rule_of
        return right.Graft(change(rule_of.magnitude), change(rule_of.direction), rule_of.partition, norm)

    return change


def without_forgetting(rule_of):
    """Children that are never told of a missing gradient, but of a zero one."""

    class Told(type(rule_of)):
        def step(self, weights, given, state, h):
            given = {name: np.zeros_like(weights[name]) if g is None else g for name, g in given.items()}
            return super().step(weights, given, state, h)

    found = object.__new__(Told)
    found.__dict__.update(rule_of.__dict__)
    return found


@pytest.mark.parametrize(
    "wrong",
    [
        with_norm(lambda x: float(np.abs(x.astype(np.float64)).sum())),
        with_norm(lambda x: right.norm(x) * (1 + 1e-6)),
        with_norm(lambda x: right.norm(np.nan_to_num(x)) + 1e-8),
        without_forgetting,
    ],
    ids=["sum of sizes", "longer", "eps in both norms", "missing as zero"],
)
def test_a_wrong_one_is_found(wrong):
    mutant = type("Wrong", (History,), {"wrong": staticmethod(wrong)})
    found_at_once = settings(BOUNDED, phases=[Phase.generate], print_blob=False, report_multiple_bugs=False)
    with pytest.raises(AssertionError, match="bounds off"):
        run_state_machine_as_test(mutant, settings=found_at_once)
