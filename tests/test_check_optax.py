"""optax's optimizers are what their dialects say, and nothing else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
import pytest

from graftsim_conformance import dialects
from graftsim_conformance.check import check

TARGETS = [f"optax:{name}" for name in ("sgd", "adagrad", "rmsprop", "adam", "adamw")]


@pytest.mark.parametrize("target", TARGETS)
def test_equivalent_under_its_dialect(target):
    report = check(target)
    assert report.passed, "\n".join(report.lines())
    assert {row.variant for row in report.rows} == {row.variant for row in dialects.targets()[target].rows}
    for row in report.rows:
        assert row.cases == 6
        assert row.comparisons >= 700
        assert row.undecided == 0
        assert set(row.unread) <= ({"t"} if target in ("optax:sgd", "optax:adagrad") else set())


WRONG = [
    ("sgd", "momentum(form=lr_inside)", "b", 1, "form=heavy_ball"),
    ("sgd", "momentum(form=lr_inside, nesterov=on)", "b", 1, "form=heavy_ball"),
    ("adagrad", "adagrad(eps_placement=outside)", "weights", 1, "eps_placement=inside"),
    ("adagrad", "adagrad(eps_placement=inside, initial_accumulator=0)", "a", 0, "initial_accumulator_value=0.1"),
    ("rmsprop", "rmsprop(eps_placement=clamp)", "weights", 1, "eps_placement="),
    ("rmsprop", "rmsprop(eps_placement=inside, initial_accumulator=1)", "v", 0, "initial_scale=0"),
    ("rmsprop", "rmsprop(eps_placement=inside, momentum_form=heavy_ball)", "b", 1, "momentum_form=lr_inside"),
    ("adam", "adam(eps_placement=hat)", "weights", 1, "eps_placement=corrected"),
    ("adam", "adam(eps_placement=clamp)", "weights", 1, "eps_placement=corrected"),
    ("adamw", "decay_in_gradient(adam)", "inner.m", 1, "decay_decoupled"),
    ("adamw", "decay_decoupled(adam(eps_placement=hat))", "weights", 1, "eps_placement=corrected"),
    ("adamw", "decay_decoupled(adam(eps_placement=inside, eps=0.01))", "weights", 1, "own defaults"),
    ("rmsprop", "rmsprop(centered=on, momentum_form=heavy_ball)", "b", 1, "momentum_form=lr_inside"),
    (
        "rmsprop",
        "rmsprop(bias_correction=on, momentum_form=heavy_ball, nesterov=on)",
        "b",
        1,
        "momentum_form=lr_inside",
    ),
    ("adabelief", "adabelief(eps_root=0)", "s", 1, "own defaults"),
    ("adabelief", "adabelief(nesterov=on, eps=0.01)", "weights", 1, "own defaults"),
    ("adan", "decay_in_gradient(adan(lookahead=new))", "inner.m", 1, "decay_decoupled"),
    ("fromage", "fromage(min_norm=0)", "weights", 1, "own defaults"),
    ("optimistic_gradient_descent", "optimistic(sgd(lr=1), beta=0)", "weights", 2, "own defaults"),
    ("optimistic_adam_v2", "optimistic(adam(lr=1, eps_placement=hat))", "before", 1, "eps_placement=corrected"),
    ("optimistic_adam_v2", "optimistic(nadam(lr=1, form=scheduled, momentum_decay=0))", "before", 1, "form=constant"),
    ("rprop", "rprop(form=immediate)", "before", 1, "form=late"),
]


@pytest.mark.parametrize(("name", "machine", "place", "step", "hint"), WRONG)
def test_not_equivalent_under_a_wrong_one(name, machine, place, step, hint):
    report = check(f"optax:{name}", machine)
    (row,) = report.rows
    assert not report.passed
    assert row.failure is not None
    assert (row.failure.place, row.failure.step) == (place, step)
    assert hint in row.hint


def test_defaults_can_be_claimed():
    assert check("optax:adagrad", "adagrad(eps_placement=inside, initial_accumulator=0.1, eps=1e-7)").passed
    assert not check("optax:adagrad", "adagrad(eps_placement=inside, eps=1e-10)").passed


def schedule_late(learning_rate, **arguments):
    """A port whose schedule is read one step late: only a learning rate that changes shows it."""
    return optax.adam(lambda count: learning_rate(jnp.maximum(count - 1, 0)), **arguments)


def in_float32(learning_rate, **arguments):
    """A port that computes in float32 in a float64 world."""
    inner = optax.adam(learning_rate, **arguments)

    def update(updates, state, params=None):
        found, state = inner.update(jax.tree.map(lambda g: g.astype(jnp.float32), updates), state, params)
        return jax.tree.map(lambda u: u.astype(jnp.float64), found), state

    return optax.GradientTransformation(inner.init, update)


@pytest.mark.parametrize(("port", "step"), [("schedule_late", 3), ("in_float32", 1)])
def test_broken_ports_are_found(port, step):
    report = check(f"{__name__}:{port}", "adam", like="optax:adam")
    assert not report.passed
    assert report.rows[0].failure is not None
    assert report.rows[0].failure.step == step


def test_the_framework_is_left_as_it_was():
    """64 bits are enabled for the check alone."""
    check("optax:sgd")
    assert not jax.config.jax_enable_x64
