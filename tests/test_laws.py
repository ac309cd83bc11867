"""Laws: right candidates obey each, and each finds mutants."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from graftsim import build, notation, rules
from graftsim.errors import GraftsimError
from graftsim_conformance import candidates, dialects, homogeneity, law_checks, laws, mutants
from graftsim_conformance.mutated import ReferenceCandidate
from graftsim_conformance.python_candidate import PythonCandidate
from graftsim_conformance.verdicts import Verdict
from tests import right_implementations as right

DTYPES = ("float64", "float32")
COPY = "momentum(first_step=copy)"
RIGHT = [
    "sgd",
    "adam",
    "adam#sgd",
    "sgd#adam",
    f"graft({COPY}, adagrad, partition=global)",
    "graft(rmsprop, lion, partition=coordinate)",
    f"graft({COPY}#adam, sgd, partition=row)",
    "graft(lion, adam, partition=block(2))",
]
REFERENCE = [
    *RIGHT,
    "lamb#novograd",
    "decay_outside(scaled(momentum_after(rmsprop#adagrad, nesterov=on)))",
    "in_place(decay_decoupled(adam))#in_place(momentum)",
    "graft(adam, sgd, eps=0.001, scale=0.5, partition=pattern(pooled=['c', 'o*', 'none'], rest=None))",
    "scaled(adam#sgd, factor={'w': 0.5, 'b': 2, 's': 0.25})",
    "adafactor(rate=relative)",
    "radam(rectified=above)",
    "shampoo#adagrad",
]


def reference(instance):
    return ReferenceCandidate(str(instance))


def numpys(instance):
    return PythonCandidate(right.Right(right.machine_of(instance)), str(instance))


def tried(family, machine, dtype="float64", factory=None, **more):
    return {found.law: found for found in laws.check(factory, notation.parse(machine), dtype, family=family, **more)}


def failed(found):
    return [f"{name}: {each.verdict}: {each.reason}" for name, each in found.items() if not each.passed]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_row_names_rules_checks_and_conditions_that_there_are():
    known = rules.load()
    for law in laws.table().values():
        assert law.rules
        assert set(law.rules) <= set(known), law.name
        assert law.check in law_checks.CHECKS
        assert set(law.when) <= set(law_checks.CONDITIONS)
        assert law.how in ("bitwise", "bounded")
    assert {law.check for law in laws.table().values()} == set(law_checks.CHECKS)
    assert {each for law in laws.table().values() for each in law.when} == set(law_checks.CONDITIONS)


# -- right candidates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("machine", REFERENCE)
def test_the_reference_obeys_all(machine, dtype):
    found = tried(reference, machine, dtype)
    assert len(found) >= 8
    assert failed(found) == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("machine", RIGHT)
def test_another_order_of_operations_obeys_all(machine, dtype):
    found = tried(numpys, machine, dtype)
    unknown = found.pop("same-direction", None)
    assert unknown is None or unknown.verdict is Verdict.NOT_SUPPORTED, "it has no machine 'scaled'"
    assert failed(found) == []
    bitwise = {name for name in found if laws.table()[name].how == "bitwise"}
    assert {found[name].verdict for name in bitwise} == {Verdict.EXACT}


def test_every_law_applies_to_some_machine():
    assert set().union(*(tried(reference, machine) for machine in ("adam", "adam#sgd"))) == set(laws.table())


@pytest.mark.parametrize("target", ["torch.optim:Adam", "torch.optim:SGD"])
def test_a_native_obeys_what_is_about_one_machine(target):
    """Its row tells names; laws about two machines cannot be tried with one native."""
    row = next(row for row in dialects.rows() if row.target == target)
    factory = lambda: candidates.wrap("torch", candidates.load(target))  # noqa: E731
    found = {each.law: each for each in laws.check(factory, row.instance, row=row)}
    assert {"sign", "other-tensors", "order", "ownership"} <= {name for name, each in found.items() if each.passed}
    assert {each.verdict for each in found.values() if not each.passed} <= {Verdict.NOT_SUPPORTED}


class Optimistic:
    """Has the rate 1 inside, whatever it is told of it, as ``optax.optimistic_gradient_descent`` does."""

    def init(self, weights, hyperparameters):
        return dict.fromkeys(weights)

    def step(self, weights, gradients, state, step, hyperparameters):
        lr, alpha, beta = (hyperparameters[name] for name in ("lr", "alpha", "beta"))
        new = {}
        for name, g in gradients.items():
            before = -g if state[name] is None else state[name]
            new[name] = np.asarray(weights[name] + lr * ((alpha + beta) * -g - beta * before), g.dtype)
        return new, {name: -g for name, g in gradients.items()}


def test_a_rate_that_is_written_in_the_claim_is_not_scaled():
    """The step is of degree 1 in the rates that are left; a candidate need not be told the others."""
    machine = "optimistic(sgd(lr=1))"
    found = tried(None, machine, factory=lambda: PythonCandidate(Optimistic(), machine))
    assert found["rate"].verdict is Verdict.EXACT
    assert {each.verdict for each in found.values() if not each.passed} <= {Verdict.NOT_SUPPORTED}


@pytest.mark.parametrize(
    ("machine", "law", "applies"),
    [
        ("optimistic(sgd(lr=1))", "rate", True),
        ("optimistic(sgd(lr=1), lr=1)", "rate", False),
        ("adam#sgd(lr=1)", "direction-rate", False),
        ("adam(lr=1)#sgd", "direction-rate", True),
        ("graft(adam, sgd, eps=0.1)", "direction-rate-with-eps", False),
    ],
)
def test_a_law_about_a_value_applies_where_the_claim_leaves_it_open(machine, law, applies):
    assert (law in tried(reference, machine)) is applies


class Fused(ReferenceCandidate):
    """Moves a graft of anything by a unit of rounding, as a compiler may that fuses one program and not another."""

    fused = True

    def __init__(self, machine):
        super().__init__(machine)
        self._away = machine.startswith("graft")

    def step(self, gradients, arguments):
        found = super().step(gradients, arguments)
        return np.nextafter(found, np.inf) if self._away else found


def test_where_programs_are_fused_two_of_them_agree_within_the_budget():
    (found,) = laws.check(None, notation.parse("adam"), family=lambda one: Fused(str(one)), only=["self"])
    assert found.verdict is Verdict.EQUIVALENT
    assert found.largest > 0
    plain = type("Plain", (Fused,), {"fused": False})
    (found,) = laws.check(None, notation.parse("adam"), family=lambda one: plain(str(one)), only=["self"])
    assert found.verdict is Verdict.DIFFERENT


# -- wrong ones --------------------------------------------------------------------------------------------------------

PAIR, GLOBAL = "adam#sgd", f"graft({COPY}, adagrad, partition=global)"
KILLS = {
    "length": {
        PAIR: ["graft.norm.squared_norms", "behaviour.norm.largest_size", "graft.rates.scale_dropped"],
        GLOBAL: ["behaviour.norm.squares_in_float32"],
    },
    "direction": {PAIR: ["graft.roles.direction_ignored", "graft.roles.signs_from_magnitude", "graft.roles.ascent"]},
    "self": {"adam": ["graft.guard.eps_of_1e_8", "graft.guard.eps_of_1e_16"]},
    "self-graft": {PAIR: ["behaviour.state.direction_frozen", "graft.guard.eps_of_1e_16"]},
    "same-direction": {"adam": ["graft.norm.squared_norm_of_direction", "graft.norm.root_mean_square_of_magnitude"]},
    "nesting-left": {PAIR: ["graft.norm.squared_norms", "graft.norm.root_mean_square_of_magnitude"]},
    "nesting-right": {PAIR: ["graft.norm.squared_norm_of_direction", "behaviour.norm.squares_in_float32"]},
    "children": {
        "sgd#adam": ["behaviour.state.direction_frozen", "behaviour.state.direction_updated_twice"],
        "adam(beta1=0.5)#adam": ["behaviour.state.shared_by_the_children"],
    },
    "direction-rate": {PAIR: ["graft.ratio.rate_of_direction_again", "graft.roles.no_rescale"]},
    "direction-rate-with-eps": {PAIR: ["graft.guard.eps_under_a_root", "graft.guard.eps_of_1e_8"]},
    "magnitude-rate": {PAIR: ["graft.roles.magnitude_and_direction_swapped", "graft.roles.magnitudes_norm_lost"]},
    "rate": {"adam": ["adam.adam.rate_squared"], "sgd": ["sgd.sgd.rate_squared"]},
    "gradient-scale": {"adam": ["adam.adam.size_for_square", "adam.adam.v_starts_at_one"]},
    "sign": {"lion": ["lion.lion.sign_of_zero_is_one"], PAIR: ["graft.guard.none"]},
    "other-tensors": {PAIR: ["graft.partition.global_for_named", "behaviour.norm.last_groups_norm_for_all"]},
    "order": {PAIR: ["behaviour.norm.last_groups_norm_for_all"], GLOBAL: ["behaviour.norm.first_coordinates_only"]},
    "ownership": {PAIR: ["behaviour.inputs.gradient_buffer_kept", "behaviour.inputs.gradients_changed_in_place"]},
    "restore": {
        PAIR: ["behaviour.checkpoint.without_counters"],
        "sgd#adam": ["behaviour.checkpoint.without_the_directions_state"],
    },
    "missing": {PAIR: ["behaviour.inputs.missing_gradient_as_zero", "behaviour.state.one_counter_for_all_tensors"]},
}


def test_every_law_is_there_with_two_mutants():
    assert KILLS.keys() == laws.table().keys()
    assert all(sum(map(len, rows.values())) >= 2 for rows in KILLS.values())


@pytest.mark.parametrize(
    ("law", "machine", "name"),
    [(law, machine, name) for law, rows in KILLS.items() for machine, names in rows.items() for name in names],
)
def test_a_law_finds_its_mutants(law, machine, name):
    mutant = mutants.catalogue()[name]
    found = tried(lambda instance: mutant.candidate(str(instance)), machine, only=[law])[law]
    assert found.verdict is Verdict.DIFFERENT
    assert found.reason


def test_children_that_are_swapped_are_found_without_a_family():
    mutant = mutants.catalogue()["graft.roles.magnitude_and_direction_swapped"]
    found = {each.law: each for each in laws.check(lambda: mutant.candidate(PAIR), notation.parse(PAIR))}
    assert found["magnitude-rate"].verdict is found["direction-rate"].verdict is Verdict.DIFFERENT
    assert found["length"].verdict is Verdict.NOT_SUPPORTED


# -- whatever a candidate does -----------------------------------------------------------------------------------------


class Strange:
    def __init__(self, step):
        self.step_of = step

    def init(self, weights, hyperparameters):
        return {}

    def step(self, weights, gradients, state, step, hyperparameters):
        return self.step_of(weights), state


def strange(step):
    return {
        found.law: found
        for found in laws.check(lambda: PythonCandidate(Strange(step), "sgd"), notation.parse("sgd"), only=["sign"])
    }["sign"]


def test_a_crash_is_a_verdict_with_a_traceback():
    found = strange(lambda weights: 1 / 0)
    assert found.verdict is Verdict.CRASHED
    assert "ZeroDivisionError" in found.reason
    assert "Traceback" in found.detail


def test_a_value_that_a_native_refuses_is_not_supported():
    class Native:
        """As an adapter: what its native raises comes through."""

        def start(self, layout, weights, arguments):
            raise ValueError("eps must be positive")

    (found,) = laws.check(Native, notation.parse("adam"), only=["gradient-scale"])
    assert found.verdict is Verdict.NOT_SUPPORTED
    assert "eps = 0" in found.reason
    (found,) = laws.check(Native, notation.parse("adam"), only=["sign"])
    assert found.verdict is Verdict.CRASHED


def test_nan_obeys_no_law():
    found = strange(lambda weights: {name: np.full_like(w, np.nan) for name, w in weights.items()})
    assert found.verdict is Verdict.DIFFERENT


def test_an_unknown_law_is_named():
    with pytest.raises(GraftsimError, match="did you mean 'length'"):
        laws.check(None, notation.parse("sgd"), family=reference, only=["lenght"])


def test_a_law_needs_something_to_try():
    with pytest.raises(GraftsimError, match="neither"):
        laws.check(None, notation.parse("sgd"))


# -- preconditions -----------------------------------------------------------------------------------------------------

LAYOUT = {"w": (2, 3), "b": (3,)}
ONE, NONE = Fraction(1), homogeneity.NONE


@pytest.mark.parametrize(
    ("machine", "scaled", "weights", "degree"),
    [
        ("sgd", ["lr"], homogeneity.ANY, ONE),
        ("decay_decoupled(sgd)", ["inner.lr"], homogeneity.ANY, NONE),
        ("decay_decoupled(sgd)", ["g"], ONE, ONE),
        ("adam(eps=0)", ["g"], homogeneity.ANY, Fraction(0)),
        ("adam(eps=0.1)", ["g"], homogeneity.ANY, NONE),
        ("adagrad(eps=0)", ["g", "lr"], homogeneity.ANY, ONE),
        ("adam#sgd", ["direction.lr"], homogeneity.ANY, Fraction(0)),
        ("adam#sgd", ["magnitude.lr"], homogeneity.ANY, ONE),
        ("graft(adam, sgd, eps=0.1)", ["direction.lr"], homogeneity.ANY, NONE),
        ("graft(adam, sgd, eps=0.1)", ["direction.lr", "eps"], homogeneity.ANY, Fraction(0)),
        ("shampoo", ["g"], homogeneity.ANY, NONE),
    ],
)
def test_degrees_are_derived(machine, scaled, weights, degree):
    program = build(machine, LAYOUT)
    assert homogeneity.of_weights(program, dict.fromkeys(scaled, ONE), weights) == degree


@pytest.mark.parametrize(("machine", "odd"), [("adam", True), ("lamb#sgd", True), ("yogi", False)])
def test_oddness_is_derived(machine, odd):
    """Yogi starts its mean of gradients at a positive number."""
    found = homogeneity.of_weights(build(machine, LAYOUT), {"g": ONE}, ONE, signs=True)
    assert (found == ONE) is odd
