"""heavyball's optimizers are what their dialects say once their scalars are as wide as the weights."""

from __future__ import annotations

import heavyball
import numpy as np
import pytest
import torch

from graftsim_conformance import dialects
from graftsim_conformance.check import check
from graftsim_conformance.follow import BUDGET

from . import torch_rows

PREFIX = "heavyball:"
TARGETS = [target.removeprefix(PREFIX) for target in dialects.targets() if target.startswith(PREFIX)]
CORRECTED = {"SGD": set(), "AdamW": {"m", "v"}, "RMSprop": {"v"}, "NAdam": {"v"}}
"""Means that heavyball keeps already divided by 1 - beta^t; the reference carries its own."""

pytestmark = pytest.mark.filterwarnings("ignore:Learning rate changed between steps:UserWarning")


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("mode", "dtype"), [("default64", "float64"), ("", "float32")])
def test_equivalent_under_its_dialect(name, mode, dtype):
    report = check(PREFIX + name, mode=mode, dtype=dtype)
    assert report.passed, "\n".join(report.lines())
    assert [row.variant for row in report.rows] == [row.variant for row in dialects.targets()[PREFIX + name].rows]
    for row in report.rows:
        assert row.cases == 6
        assert row.comparisons >= 700
        assert row.undecided == 0
        assert {path.removeprefix("inner.") for path in row.unread} == CORRECTED[name]


@pytest.mark.parametrize("name", TARGETS)
def test_float64_weights_get_float32_steps_by_default(name):
    """The row says so; the difference is of the size of a few float32 roundings of a step."""
    for row in dialects.targets()[PREFIX + name].rows:
        assert set(row.not_expressible) == {"float64"}
        case = torch_rows.cases_of(row)[0]
        assert max(torch_rows.largest(row, case, float32=row.float32).values()) > 1e5
        (step, *_), want = torch_rows.steps_of(row, case), torch_rows.machine_weights(row, case)
        moved = np.abs(want[1] - case.weights) + np.abs(case.weights)
        assert (np.abs(step.new_weights - want[1]) <= 8 * 2.0**-24 * moved).all()


def test_the_learning_rate_is_rounded_to_float32_more_than_once():
    """lr * t / t in float32 is not lr in float32: the rest of what float64 weights lack."""
    weights = torch.zeros(1, dtype=torch.float64)
    optimizer = heavyball.SGD([weights], lr=0.1, beta=0.0, storage_dtype="float64")
    with torch.compiler.set_stance("force_eager"):
        used = []
        for _ in range(64):
            before = weights.clone()
            weights.grad = torch.ones_like(weights)
            optimizer.step()
            used.append(float(optimizer.param_groups[0]["prev_lr"]))
            assert float(before - weights) == pytest.approx(used[-1], rel=2.0**-40)
    rate = np.float32(0.1)
    want = [rate * np.float32(step) / np.float32(step) for step in range(1, 65)]
    assert used == [float(x) for x in want]
    assert len(set(used)) > 1


def test_nadams_product_is_the_machines_where_it_is_float64():
    row = torch_rows.row_of(f"{PREFIX}NAdam", "plain")
    for case in torch_rows.cases_of(row):
        assert torch_rows.largest(row, case, "default64")["product"] <= BUDGET


WRONG = [
    # what is claimed, of which row, where it shows first, which step, the hint
    ("SGD", "momentum(form=lr_inside, dampening=0)", "plain", "b", 1, "form=heavy_ball"),
    ("SGD", "momentum(dampening=0.5)", "plain", "b", 1, "own defaults"),
    ("SGD", "decay_in_gradient(momentum(dampening=0))", "weight_decay", "inner.b", 1, "decay_decoupled"),
    ("AdamW", "adam(eps_placement=corrected)", "plain", "weights", 1, "eps_placement=clamp"),
    ("AdamW", "decay_in_gradient(adam(eps_placement=clamp))", "weight_decay", "weights", 1, "decay_decoupled"),
    (
        "RMSprop",
        "rmsprop(eps_placement=clamp, bias_correction=off, initial_accumulator=0)",
        "plain",
        "weights",
        1,
        "bias_correction=on",
    ),
    (
        "RMSprop",
        "rmsprop(eps_placement=outside, bias_correction=on, initial_accumulator=0)",
        "plain",
        "weights",
        1,
        "eps_placement=clamp",
    ),
    (
        "RMSprop",
        "decay_decoupled(rmsprop(eps_placement=outside, bias_correction=on, initial_accumulator=0))",
        "weight_decay",
        "weights",
        1,
        "it agrees with",
    ),
    ("NAdam", "nadam(form=scheduled, eps_placement=corrected)", "plain", "weights", 1, "eps_placement=clamp"),
    ("NAdam", "nadam(form=constant, eps_placement=clamp)", "plain", "weights", 1, "form=scheduled"),
    (
        "NAdam",
        "decay_in_gradient(nadam(form=scheduled, eps_placement=clamp))",
        "weight_decay",
        "inner.m",
        1,
        "decay_decoupled",
    ),
]


@pytest.mark.parametrize(("name", "machine", "variant", "place", "step", "hint"), WRONG)
def test_not_equivalent_under_a_wrong_one(name, machine, variant, place, step, hint):
    (row,) = check(PREFIX + name, machine, mode="default64").rows
    assert row.variant == variant
    assert row.failure is not None
    assert (row.failure.place, row.failure.step) == (place, step)
    assert row.failure.units > 1e6
    assert hint in row.hint


def test_every_row_fails_under_a_neighbour():
    rows = {(target, row.variant) for target in TARGETS for row in dialects.targets()[PREFIX + target].rows}
    assert rows == {(name, variant) for name, _, variant, *_ in WRONG}


# -- traps -------------------------------------------------------------------------------------------------------------


def one_step(**arguments):
    weights = torch.full((1,), 2.0)
    optimizer = heavyball.NAdam([weights], lr=0.125, **arguments)
    weights.grad = torch.ones(1)
    with torch.compiler.set_stance("force_eager"):
        optimizer.step()
    assert weights.grad is None
    return float(weights[0])


def test_nadams_default_decay_makes_weights_grow():
    """The direction has the size 1 at the first step, with decay in the gradient or not; what is left is + lr wd w."""
    growth = one_step(weight_decay=0.5) - one_step()
    assert growth == pytest.approx(0.125 * 0.5 * 2.0, rel=1e-6)
    shrinking = one_step(weight_decay=0.5, decoupled_weight_decay=True) - one_step()
    assert shrinking == pytest.approx(-0.125 * 0.5 * 2.0, rel=1e-6)


ONE = slice(1, 2)


@pytest.mark.parametrize(
    ("name", "step", "count"), [("SGD", 0, 0), ("AdamW", 1, 1), ("RMSprop", 1, 1), ("NAdam", 1, 1)]
)
@pytest.mark.parametrize("mode", ["", "default64"])
def test_which_natives_are_nan_without_eps(name, step, count, mode):
    row = torch_rows.row_of(PREFIX + name, "plain")
    case = torch_rows.without_gradient(row, ONE, {"eps": 0.0, "initial_accumulator": 0.0})
    assert torch_rows.first_nan(row, case, mode) == (step, count)
    for weights in torch_rows.machine_weights(row, case):
        assert (weights[ONE] == case.weights[ONE]).all()
    assert ("eps=0" in " ".join(dialects.targets()[row.target].notes)) is (count > 0)
