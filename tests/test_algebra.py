"""The papers' algebra of grafting as properties (2021 paper, section 3), to the bit where it is exact.

Gradients are an open loop: they do not depend on the weights, so that steps of two machines compare one by one.
u is 2^-53, and T is the unit of the dtype, 2^-24 or 2^-53. Gradients keep away from over- and underflow.
"""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftsim import Engine, Layout, build, sums
from graftsim.problems.counterexamples import HESSIAN, Divergent, NotDescent
from graftsim.simulate import simulate

U = 2.0**-53
LAYOUT = Layout.of({"a": (2, 3), "b": (3,), "c": ()})
PARTITIONS = ["global", "tensor", "coordinate", "row", "block(2)", "sets(one={'a': [0, 5], 'c': [0]}, rest=None)"]
DTYPES = ["float32", "float64"]
SCALED_BY_LR = [
    "sgd(lr={})",
    "momentum(lr={})",
    "momentum(lr={}, nesterov=on)",
    "adagrad(lr={}, eps=0)",
    "rmsprop(lr={})",
    "adam(lr={})",
    "second_moment(lr={}, beta1=0.5)",
]
"""Machines whose step is lr times something that does not know lr."""
PLAIN = [
    *(machine.format(0.1) for machine in SCALED_BY_LR),
    "momentum(form=lr_inside, dampening=0.5)",
    "momentum(form=ema, nesterov=on, first_step=copy)",
    "adagrad(momentum=0.5, momentum_on=preconditioned, initial_accumulator=0.1, eps_placement=inside)",
    "rmsprop(centered=on, momentum=0.5, momentum_form=lr_inside)",
    "adam(eps=0, lr=0.1/step, eps_placement=clamp)",
    "second_moment(denominator=off)",
    "decay_in_gradient(adam)",
    "decay_decoupled(sgd)",
    "in_place(momentum)",
    "momentum_after(adagrad)",
    "scaled(sgd, factor={'a': 1, 'b': 0, 'c': -2})",
]

partitions = st.sampled_from(PARTITIONS)
dtypes = st.sampled_from(DTYPES)
plain = st.sampled_from(PLAIN)
by_lr = st.sampled_from(SCALED_BY_LR)
seeds = st.integers(0, 2**32)
quick = settings(max_examples=60, deadline=None)


def graft(magnitude, direction, partition="tensor"):
    return f"graft({magnitude}, {direction}, partition={partition})"


def stream(seed, dtype, steps=4, layout=LAYOUT):
    """Gradients of very different sizes, signs and a few zeros, shape (steps, n)."""
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.integers(-3, 4, layout.size)
    return (rng.standard_normal((steps, layout.size)) * sizes * (rng.random((steps, layout.size)) > 0.1)).astype(dtype)


def without_zeros(gradients):
    return np.where(gradients == 0, 1, gradients).astype(gradients.dtype)


@dataclasses.dataclass
class Steps:
    weights: np.ndarray
    deltas: np.ndarray
    info: list


def steps_of(machine, gradients, layout=LAYOUT):
    engine = Engine(build(machine, layout, gradients.dtype.name))
    weights, state = np.ones(layout.size, gradients.dtype), engine.initial_state()
    all_weights, deltas, info = [weights], [], []
    for number, gradient in enumerate(gradients, 1):
        done = engine.step(weights, gradient, state, number)
        weights, state = done.weights, done.state
        all_weights.append(weights)
        deltas.append(done.delta)
        info.append(done.info)
    return Steps(np.array(all_weights), np.array(deltas), info)


def same_bits(first, second):
    return first.dtype == second.dtype and first.tobytes() == second.tobytes()


def near(found, wanted, roundings, more):
    """Within so many T and u of the wanted values, which are not subnormal."""
    unit = np.finfo(wanted.dtype).eps / 2
    return (np.abs(found - wanted) <= 1.01 * (roundings * unit + more * U) * np.abs(wanted)).all()


# -- A#A = A ---------------------------------------------------------------------------------------------------------


@quick
@given(plain, partitions, dtypes, seeds)
def test_a_machine_grafted_on_itself_is_itself(machine, partition, dtype, seed):
    """Bitwise: both norms are one number n, and n / n = 1, or there is no step at all."""
    gradients = stream(seed, dtype)
    alone, both = steps_of(machine, gradients), steps_of(graft(machine, machine, partition), gradients)
    assert same_bits(alone.weights, both.weights)
    assert same_bits(alone.deltas, both.deltas)


@quick
@given(plain, plain, partitions, dtypes, seeds)
def test_a_graft_grafted_on_itself_is_itself(magnitude, direction, partition, dtype, seed):
    gradients, inner = stream(seed, dtype), graft(magnitude, direction, partition)
    assert same_bits(steps_of(inner, gradients).deltas, steps_of(graft(inner, inner, partition), gradients).deltas)


# -- the direction's schedule ----------------------------------------------------------------------------------------


@quick
@given(by_lr, st.sampled_from(["0.003*step", "7/step", "0.2+cospi(step,5)*0.1", "3"]), partitions, dtypes, seeds)
def test_the_same_direction_with_another_positive_schedule_gives_the_magnitude(machine, rate, partition, dtype, seed):
    """Step m = -(lr x) rounded: 1 T. In M#D: the direction's elements 1 T, both norms of rounded elements 1 T each,
    the product 1 T: 5 T in all; the norms' own roundings and the division, 3 u."""
    gradients = stream(seed, dtype)
    alone = steps_of(machine.format(0.1), gradients)
    both = steps_of(graft(machine.format(0.1), machine.format(rate), partition), gradients)
    assert near(both.deltas, alone.deltas, 5, 3)


@quick
@given(plain, by_lr, st.integers(-20, 20), partitions, dtypes, seeds)
def test_powers_of_two_in_the_directions_rate_cannot_be_seen(magnitude, direction, k, partition, dtype, seed):
    """Bitwise: the direction and its norm are scaled exactly and the ratio inversely."""
    gradients = stream(seed, dtype)
    one, other = (
        steps_of(graft(magnitude, direction.format(repr(0.1 * scale)), partition), gradients) for scale in (1.0, 2.0**k)
    )
    assert same_bits(one.weights, other.weights)


@quick
@given(by_lr, plain, st.integers(-20, 20), partitions, dtypes, seeds)
def test_powers_of_two_in_the_magnitudes_rate_scale_the_step(magnitude, direction, k, partition, dtype, seed):
    """Bitwise for directions that do not read the weights (which the scaled step moves elsewhere)."""
    if any(word in direction for word in ("decay", "in_place")):
        direction = "sgd"
    gradients = stream(seed, dtype)
    one, other = (
        steps_of(graft(magnitude.format(repr(0.1 * scale)), direction, partition), gradients) for scale in (1.0, 2.0**k)
    )
    assert same_bits(one.deltas * one.deltas.dtype.type(2.0**k), other.deltas)


# -- nesting ---------------------------------------------------------------------------------------------------------


@quick
@given(by_lr, by_lr, by_lr, partitions, dtypes, seeds)
def test_what_stands_between_does_not_matter(m, a, d, partition, dtype, seed):
    """(M#A)#D = M#(A#D) = M#D where A has a step wherever M or D has one.

    In M#D the product is rounded: 1 T. (M#A)#D: elements of M#A are off by 1 T and 3 u, so is its norm; then the
    product: 3 T with M#D's. M#(A#D): elements of A#D 1 T, its norm 1 T, the product 1 T: 4 T with M#D's. Each path has
    at most 4 norms and 3 divisions and their products in float64, M#D itself 3: 12 u.
    """
    m, a, d = m.format(0.1), a.format(0.7), d.format(0.01)
    gradients = without_zeros(stream(seed, dtype))
    plainly = steps_of(graft(m, d, partition), gradients).deltas
    assert near(steps_of(graft(graft(m, a, partition), d, partition), gradients).deltas, plainly, 3, 12)
    assert near(steps_of(graft(m, graft(a, d, partition), partition), gradients).deltas, plainly, 4, 12)


@quick
@given(by_lr, by_lr, dtypes, seeds)
def test_the_exception_a_zero_step_between_is_one_of_its_group_only(m, d, dtype, seed):
    """A that rests in tensor b silences both nestings there, and nowhere else, although M#D moves."""
    m, d, a = m.format(0.1), d.format(0.01), "scaled(sgd, factor={'a': 1, 'b': 0, 'c': 1})"
    gradients = without_zeros(stream(seed, dtype))
    plainly, b = steps_of(graft(m, d), gradients).deltas, slice(6, 9)
    assert (np.abs(plainly[:, b]).sum(axis=1) > 0).all()
    for nested in (graft(graft(m, a), d), graft(m, graft(a, d))):
        found = steps_of(nested, gradients).deltas
        assert (found[:, b] == 0).all()
        assert near(np.delete(found, b, axis=1), np.delete(plainly, b, axis=1), 4, 12)


# -- one coordinate a group ------------------------------------------------------------------------------------------


def per_coordinate(m, d, gradients):
    both, alone, other = (steps_of(machine, gradients).deltas for machine in (graft(m, d, "coordinate"), m, d))
    return both, np.where(other == 0, 0, np.copysign(alone, other)).astype(alone.dtype)


@quick
@given(by_lr, by_lr, seeds)
def test_per_coordinate_a_graft_has_the_magnitudes_size_and_the_directions_sign_float32(m, d, seed):
    """Bitwise in float32: |m| / |d| and its product with d are rounded in float64, m (1 + 2 u), and m is its nearest
    float32. Where signs agree this is M#D = M."""
    found, wanted = per_coordinate(m.format(0.1), d.format(0.01), stream(seed, "float32"))
    assert (found == wanted).all()


@quick
@given(by_lr, by_lr, seeds)
def test_per_coordinate_a_graft_has_the_magnitudes_size_and_the_directions_sign_float64(m, d, seed):
    """In float64 the quotient is off by u relative, less than one ulp of m; the product, rounded, is m or its
    neighbour."""
    found, wanted = per_coordinate(m.format(0.1), d.format(0.01), stream(seed, "float64"))
    neighbours = [wanted, np.nextafter(wanted, np.inf), np.nextafter(wanted, -np.inf)]
    assert np.any([found == value for value in neighbours], axis=0).all()


# -- what a graft is -------------------------------------------------------------------------------------------------


@quick
@given(by_lr, by_lr, dtypes, seeds)
def test_a_graft_has_the_magnitudes_norm_and_the_directions_direction(m, d, dtype, seed):
    """|delta| is n_m up to the rounding of each element, 1 T, and of norm and ratio, 4 u; delta is ratio times d."""
    gradients = without_zeros(stream(seed, dtype))
    both = steps_of(graft(m.format(0.1), d.format(0.01), "global"), gradients)
    magnitude, direction = (steps_of(machine, gradients).deltas for machine in (m.format(0.1), d.format(0.01)))
    unit = np.finfo(dtype).eps / 2
    for delta, step, other, info in zip(both.deltas, magnitude, direction, both.info, strict=True):
        assert info["n_m"] == sums.norm(step)
        assert info["n_d"] == sums.norm(other)
        assert info["ratio"] == info["n_m"] / info["n_d"]
        assert abs(sums.norm(delta) - sums.norm(step)) <= 1.01 * (unit + 4 * U) * sums.norm(step)
        assert same_bits(delta, (info["ratio"] * other.astype(np.float64)).astype(dtype))


def test_grafting_is_not_commutative():
    """S#A has S's norm, A#S has A's: on this stream 30 and more times smaller."""
    gradients = stream(0, "float64", steps=8)
    one, other = (
        steps_of(machine, gradients).deltas
        for machine in (graft("sgd(lr=0.1)", "adagrad(lr=0.1)"), graft("adagrad(lr=0.1)", "sgd(lr=0.1)"))
    )
    assert np.abs(one - other).max() > 30 * np.abs(other).max()


# -- counterexamples -------------------------------------------------------------------------------------------------


def radius(preconditioner):
    """The spectral radius of gradient descent with a preconditioner P on the Hessian H: of I - P H."""
    return np.abs(np.linalg.eigvals(np.eye(2) - preconditioner @ np.diag(HESSIAN))).max()


def test_grafting_is_no_descent_method():
    """F goes from 0.50005 to 141.2 in a step, although each child alone can only descend: it scales each coordinate
    by a factor in [-1, 1]. The product and quotients behind the prediction and the run are a few roundings each."""
    problem = NotDescent()
    run = simulate(problem, graft(problem.magnitude, problem.direction, "global"), 1)
    assert run.loss[0] == pytest.approx(0.50005, rel=1e-12)
    assert f"{run.loss[1]:.4g}" == "141.2"
    assert run.loss[1] == pytest.approx(problem.predictions()["one step"]["loss"], rel=64 * U)
    for rates in ((1.9, 1e-4), (1e-3, 0.019)):
        assert all(abs(1 - rate * h) <= 1 for rate, h in zip(rates, HESSIAN, strict=True))
    for machine in (problem.magnitude, problem.direction):
        assert (np.diff(simulate(problem, machine, 200).loss) <= 0).all()


def test_a_graft_of_two_convergent_methods_diverges():
    """w is multiplied by -8.0550 and F by 64.884 at each of 20 steps. Rounding turns w off its line by a few u a step,
    relative, and the other direction grows no faster: 100 u a step is ample and far from any other number."""
    problem = Divergent()
    run = simulate(problem, graft(problem.magnitude, problem.direction, "global"), 20)
    assert round(problem.multiplier, 4) == -8.0550
    growth = run.loss[1:] / run.loss[:-1]
    assert [round(each, 3) for each in growth] == [64.884] * 20
    assert np.allclose(growth, problem.multiplier**2, rtol=20 * 100 * U, atol=0)
    assert np.allclose(run.weights[1:] / run.weights[:-1], problem.multiplier, rtol=20 * 100 * U, atol=0)
    for machine in (problem.magnitude, problem.direction):
        assert simulate(problem, machine, 1000).loss[-1] < 1e-6 * run.loss[0]


def test_the_divergent_direction_is_half_the_inverse_of_the_hessian():
    """P_D = H^-1 / 2 has radius 1/2, as the construction says; the root of the inverse would have 9, and diverge."""
    v, hessian = np.array([math.sqrt(0.99), 0.1]), np.diag(HESSIAN)
    assert round(radius(0.9 * np.outer(v, v) + 1e-3 * np.eye(2)), 4) == 0.9511
    assert radius(0.5 * np.linalg.inv(hessian)) == 0.5
    assert radius(np.diag(1 / np.sqrt(HESSIAN))) == 9
    run = simulate(Divergent(), Divergent.direction, 3)
    assert same_bits(run.weights[1], 0.5 * run.weights[0])
