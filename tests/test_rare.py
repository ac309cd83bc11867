"""Rare coordinates with hinge loss: closed forms against runs (2020 paper, D.1; issue 2)."""

import math

import numpy as np
import pytest

from graftsim import problems
from graftsim.problems.rare import Rare
from graftsim.simulate import simulate

U = 2.0**-53
ADAGRAD = "adagrad(lr=1, eps=0)"
SGD = "sgd(lr=1/sqrt(step))"


def one_pass(problem, machine, seed=0):
    return simulate(problem, machine, problem.samples, seed, record_every=problem.samples)


def grafted(magnitude, direction):
    return f"graft({magnitude}, {direction}, partition=global)"


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize(("d", "c"), [(64, 0.25), (400, 0.5), (400, 1.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_adagrad_learns_what_it_sees_at_the_first_visit(d, c, replacement, seed):
    """Each seen weight is exactly 1 and each other exactly 0; so the mean hinge is the share of unseen coordinates
    (a subgradient taken at margin 1, or eps in the root, would show as a second update)."""
    problem = Rare(d, c, replacement, draw=seed)
    run = one_pass(problem, ADAGRAD, seed)
    seen = np.isin(np.arange(d), problem.sample)
    assert (run.last == seen).all()
    assert problem.measures(run.last) == {"test hinge": (~seen).mean(), "test error": (~seen).mean()}
    assert abs(problem.unseen - (~seen).mean()) <= U


def test_without_replacement_the_unseen_share_is_one_minus_c():
    for share in (0.25, 0.5, 1.0):
        assert Rare(400, share).unseen == 1 - share
        assert Rare(400, share).predictions()["first visit, expected"]["test hinge"] == 1 - share


def test_with_replacement_the_unseen_share_is_right_in_expectation():
    """d = 100, c = 1/2: the number of unseen cells of 50 balls in 100 boxes has mean 60.50 and variance
    d q (1 - q) + d (d - 1) (r - q^2) with q = (1 - 1/d)^n, r = (1 - 2/d)^n; five standard deviations of 400 draws."""
    d, n, draws = 100, 50, 400
    shares = [Rare(d, 0.5, replacement=True, draw=draw).unseen for draw in range(draws)]
    q, r = (1 - 1 / d) ** n, (1 - 2 / d) ** n
    deviation = math.sqrt(q * (1 - q) / d + (d - 1) * (r - q * q) / d)
    wanted = Rare(d, 0.5, replacement=True).predictions()["first visit, expected"]["test hinge"]
    assert wanted == q
    assert abs(np.mean(shares) - wanted) <= 5 * deviation / math.sqrt(draws)
    assert abs(wanted - 0.5) > 5 * deviation / math.sqrt(draws)  # told apart from sampling without replacement


@pytest.mark.parametrize(("d", "c"), [(64, 0.25), (400, 0.5), (900, 1.0)])
def test_sgd_with_a_decaying_rate(d, c):
    """Weights are 1 / sqrt(t), one rounding of the quotient and one of the root each; the mean of d terms adds
    at most d u for sums of size d, divided by d."""
    problem = Rare(d, c)
    found = problem.measures(one_pass(problem, SGD).last)
    assert abs(found["test hinge"] - problem.predictions()["decaying rate"]["test hinge"]) <= (d + 2) * U
    assert found["test error"] == 1 - c
    lower = 1 - c / 2 - (2 - math.sqrt(2)) * math.sqrt(c / d)  # the paper's bound, at finite d
    assert found["test hinge"] >= lower


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_sgd_with_a_large_rate_is_as_good_as_adagrad(scale):
    """lr = a sqrt(cd / t) with a >= 1 takes every visited weight to 1 or beyond, which the hinge does not charge."""
    problem = Rare(400, 0.5)
    machine = f"sgd(lr={scale * math.sqrt(200)!r}/sqrt(step))"
    assert problem.measures(one_pass(problem, machine).last)["test hinge"] <= 0.5 + 2 * U


def test_the_magnitude_decides():
    """Gradients are one-hot: all directions are e_i and the graft is its magnitude, to the two roundings of
    ratio * direction. A graft with magnitude and direction exchanged is off by 0.4."""
    problem = Rare(400, 0.5)
    for magnitude, direction in ((ADAGRAD, SGD), (SGD, ADAGRAD)):
        alone, both = (one_pass(problem, m).last for m in (magnitude, grafted(magnitude, direction)))
        assert np.abs(both - alone).max() <= 2 * U
        assert abs(problem.loss(both) - problem.loss(alone)) <= 2 * U
    assert abs(problem.loss(one_pass(problem, ADAGRAD).last) - problem.loss(one_pass(problem, SGD).last)) > 0.4


def test_a_step_at_margin_one_moves_nothing():
    """The subgradient at a margin of exactly 1 is 0, also in a graft, whose ratio is then 0."""
    problem = Rare(16, 1.0)
    run = simulate(problem, grafted(ADAGRAD, "sgd(lr=0.5)"), 48)  # a rate of 2^-1: ratio 2, weights exactly 1
    assert (run.weights[16] == 1).all()
    assert (run.weights[48] == 1).all()
    assert (run.info["ratio"][:16] == 2).all()
    assert (run.info["ratio"][16:] == 0).all()


@pytest.mark.parametrize(
    ("eps", "dtype", "largest"),
    [("0", "float64", 1.0), ("1e-10", "float64", 1.707107), ("1e-10", "float32", 1.0), ("1e-7", "float32", 1.707107)],
)
def test_eps_costs_a_second_visit(eps, dtype, largest):
    """eps outside the root leaves the first step just short of margin 1, if the dtype can see it."""
    problem = problems.parse("rare(coordinates=50, share=1.0)")
    run = simulate(problem, f"adagrad(lr=1, eps={eps})", 150, dtype=dtype, record_every=150)
    assert round(float(run.last.max()), 6) == pytest.approx(largest, abs=2e-6)


@pytest.mark.parametrize(("lr", "visits"), [("1", 1), ("0.9", 2), ("0.5", 3), ("0.25", 7)])
def test_adagrad_with_a_smaller_rate_needs_more_visits(lr, visits):
    """After m visits w = lr (1 + 1/sqrt 2 + ... + 1/sqrt m): a visit more is needed until that is 1."""
    problem = Rare(20, 1.0)
    run = simulate(problem, f"adagrad(lr={lr}, eps=0)", 20 * visits)
    assert (run.last >= 1).all()
    assert (run.weights[20 * (visits - 1)] < 1).all()


def test_each_pass_visits_the_sample_once_in_an_order_of_its_own():
    problem = Rare(40, 0.5)
    passes = [[problem.visited(step, 5) for step in range(first, first + 20)] for first in (1, 21)]
    assert sorted(passes[0]) == sorted(passes[1]) == sorted(problem.sample.tolist())
    assert passes[0] != passes[1]
    assert passes[0] != [problem.visited(step, 6) for step in range(1, 21)]
