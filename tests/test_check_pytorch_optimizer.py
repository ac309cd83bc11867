"""pytorch_optimizer's optimizers are what their dialects say, and nothing else."""

from __future__ import annotations

import itertools

import pytest
import pytorch_optimizer
import torch

from graftsim import notation
from graftsim_conformance import dialects, golden
from graftsim_conformance.check import check
from graftsim_conformance.dialects import Row
from graftsim_conformance.follow import BUDGET

from . import torch_rows

PREFIX = "pytorch_optimizer:"
TARGETS = [target.removeprefix(PREFIX) for target in dialects.targets() if target.startswith(PREFIX)]
ELEMENTWISE = [name for name in TARGETS if name != "Shampoo"]
MODES = ("single", "foreach")
LIMITED = {("AdaFactor", "given_rate_momentum")}
"""Rows that are within the budget only where the optimizer is told to keep its state in the dtype of the weights."""


@pytest.mark.parametrize(("name", "mode", "dtype"), list(itertools.product(ELEMENTWISE, MODES, ("float64", "float32"))))
def test_equivalent_under_its_dialect(name, mode, dtype):
    report = check(PREFIX + name, mode=mode, dtype=dtype)
    assert [row.variant for row in report.rows] == [row.variant for row in dialects.targets()[PREFIX + name].rows]
    for row in report.rows:
        assert row.passed is ((name, row.variant) not in LIMITED), "\n".join(row.lines())
        assert row.cases == 6
        assert row.comparisons >= 700
        assert row.undecided == 0
        assert row.unread == ()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_shampoo_is_equivalent_with_its_statistics_carried(dtype):
    """In float32 some eigenvalues lie where rounding decides; they are said to be undecided."""
    for row in check(f"{PREFIX}Shampoo", dtype=dtype).rows:
        assert row.passed, "\n".join(row.lines())
        assert row.unread == ("l", "r")
        assert row.comparisons > 2 * row.undecided


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_adafactors_momentum_is_bfloat16_unless_it_is_told(dtype):
    row = torch_rows.row_of(f"{PREFIX}AdaFactor", "given_rate_momentum")
    assert check(row.target, row.machine, mode="default64", dtype=dtype).passed
    report = check(row.target, row.machine, dtype=dtype)
    failure = report.rows[0].failure
    assert failure is not None
    assert (failure.place, failure.step) == ("m", 1)
    roundings = 3  # to 8 bits: of the step, of 1 - momentum, of the mean
    assert abs(failure.got - failure.want) <= roundings * 2.0**-9 * abs(failure.want)
    assert set(row.not_expressible) == {"float64", "float32"}


FACTORS = "least_size=0, eps1_placement"
PLAIN_LAMB = "bias_correction=in_rate, weight_norm=clamped, ceiling=10, weight_decay=0"
WRONG = [
    # what is claimed, of which row, where it shows first, which step, the hint
    ("SGDW", "sgd(lr=0.01)", "plain", "weights", 1, "own defaults"),
    ("SGDW", "momentum(first_step=accumulate)", "momentum", "b", 1, "first_step=copy"),
    ("SGDW", "momentum(first_step=accumulate, nesterov=on)", "nesterov", "b", 1, "first_step=copy"),
    ("SGDW", "decay_decoupled(sgd(lr=0.01))", "weight_decay", "weights", 1, "own defaults"),
    (
        "SGDW",
        "decay_decoupled(momentum(first_step=accumulate))",
        "momentum_weight_decay",
        "inner.b",
        1,
        "first_step=copy",
    ),
    (
        "SGDW",
        "decay_in_gradient(momentum(form=lr_inside, first_step=copy))",
        "momentum_weight_decay_in_gradient",
        "inner.b",
        1,
        "form=heavy_ball",
    ),
    ("SignSGD", "signum(momentum=0.5)", "plain", "b", 1, "own defaults"),
    ("SignSGD", "sgd", "no_momentum", "weights", 1, "no other options"),
    ("SignSGD", "decay_in_gradient(signum)", "weight_decay", "inner.b", 1, "decay_decoupled"),
    ("SignSGD", "decay_in_gradient(sign_sgd)", "no_momentum_weight_decay", "weights", 1, "decay_decoupled"),
    ("AdaDelta", "adadelta(rho=0.95)", "plain", "v", 1, "own defaults"),
    ("AdaDelta", "decay_decoupled(adadelta)", "weight_decay", "inner.v", 1, "decay_in_gradient"),
    ("AdaMax", "adamax(eps_placement=outside)", "plain", "u", 1, "eps_placement=in_max"),
    ("AdaMax", "decay_in_gradient(adamax(eps_placement=outside))", "weight_decay", "inner.u", 1, "in_max"),
    ("AdaMax", "decay_decoupled(adamax(eps_placement=outside))", "decoupled_weight_decay", "inner.u", 1, "in_max"),
    ("RAdam", "radam(rectified=at_least, otherwise=skip, eps_placement=corrected)", "plain", "weights", 6, "hat"),
    ("RAdam", "radam(rectified=at_least, otherwise=skip, threshold=4)", "plain", "weights", 5, "own defaults"),
    ("RAdam", "radam(rectified=at_least, eps_placement=corrected)", "degenerated", "weights", 6, "hat"),
    (
        "RAdam",
        "decay_in_gradient(radam(rectified=at_least))",
        "degenerated_weight_decay",
        "inner.m",
        1,
        "decay_decoupled",
    ),
    ("Yogi", "yogi(initial_accumulator=0)", "plain", "m", 1, "own defaults"),
    ("Yogi", "decay_in_gradient(yogi)", "weight_decay", "inner.m", 1, "decay_decoupled"),
    ("NovoGrad", "novograd(averaging=off, eps=1e-6)", "plain", "m", 1, "own defaults"),
    ("NovoGrad", "novograd(averaging=on, eps=1e-6)", "averaging", "m", 1, "own defaults"),
    (
        "NovoGrad",
        "decay_in_gradient(novograd(weight_decay=0))",
        "decoupled_weight_decay",
        "inner.v",
        1,
        "decay_decoupled",
    ),
    ("LARS", "lars(least_rank=2, eps=0, norm_of=combined, form=heavy_ball)", "plain", "b", 1, "norm_of=separate"),
    ("LARS", "lars(least_rank=2, eps=0, norm_of=separate)", "plain", "b", 1, "form=heavy_ball"),
    ("LARS", "lars(least_rank=0, eps=0, norm_of=separate, form=heavy_ball)", "plain", "b", 1, "own defaults"),
    (
        "LARS",
        "lars(least_rank=2, eps=0, norm_of=combined, form=heavy_ball, nesterov=on)",
        "nesterov",
        "b",
        1,
        "norm_of=separate",
    ),
    ("Lamb", f"lamb({PLAIN_LAMB}, guard=own, ratio_eps=0)", "plain", "weights", 1, "guard=eps"),
    ("Lamb", "lamb(bias_correction=in_rate, guard=eps, weight_decay=0)", "plain", "weights", 6, "weight_norm=clamped"),
    ("Lamb", f"decay_decoupled(lamb({PLAIN_LAMB}, guard=eps))", "weight_decay", "weights", 1, "no other options"),
    ("Lion", "lion(beta1=0.99, beta2=0.9)", "plain", "m", 1, "own defaults"),
    ("Lion", "decay_in_gradient(lion)", "weight_decay", "inner.m", 1, "decay_decoupled"),
    ("AdaFactor", f"adafactor({FACTORS}=clamp, rate=relative)", "plain", "r", 1, "eps1_placement=add"),
    ("AdaFactor", f"adafactor({FACTORS}=add, rate=minimum, scale=one)", "given_rate", "weights", 4, "rate=plain"),
    ("Shampoo", "shampoo(scalars=preconditioned, cutoff=0)", "plain", "weights", 1, "scalars=plain"),
    ("Shampoo", "shampoo(momentum_form=before, cutoff=0)", "momentum", "b", 1, "scalars=plain"),
]


@pytest.mark.parametrize(("name", "machine", "variant", "place", "step", "hint"), WRONG)
def test_not_equivalent_under_a_wrong_one(name, machine, variant, place, step, hint):
    (row,) = check(PREFIX + name, machine).rows
    assert row.variant == variant
    assert row.failure is not None
    assert (row.failure.place, row.failure.step) == (place, step)
    assert row.failure.case.endswith(".mixed")
    assert row.failure.units > 1e6
    assert hint in row.hint


def test_momentum_of_adafactor_is_of_the_step():
    machine = f"adafactor({FACTORS}=add, rate=plain, momentum_form=scaled_gradient)"
    (row,) = check(f"{PREFIX}AdaFactor", machine, mode="default64").rows
    assert row.failure is not None
    assert row.failure.place == "m"
    assert "momentum_form=step" in row.hint


def test_every_row_fails_under_a_neighbour():
    rows = {(target, row.variant) for target in TARGETS for row in dialects.targets()[PREFIX + target].rows}
    elsewhere = {("Lamb", "weight_decay_in_direction"), ("AdaFactor", "given_rate_momentum")}
    assert rows == {(name, variant) for name, _, variant, *_ in WRONG} | elsewhere


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ("bias_correction=in_rate, weight_norm=clamped, guard=eps", True),
        ("bias_correction=on, weight_norm=clamped, guard=eps", False),
        ("bias_correction=in_rate, weight_norm=clamped, guard=own, ratio_eps=0", False),
    ],
)
def test_lambs_decay_in_the_direction(options, same):
    row = torch_rows.row_of(f"{PREFIX}Lamb", "weight_decay_in_direction")
    found = torch_rows.largest(row, torch_rows.cases_of(row)[0], machine=f"lamb({options}, ceiling=10)")
    assert (max(found.values()) <= BUDGET) is same


# -- traps -------------------------------------------------------------------------------------------------------------


class Low(pytorch_optimizer.Lamb):
    clamp = 1.0


def test_lambs_ceiling_is_a_class_attribute():
    machine = "lamb(bias_correction=in_rate, weight_norm=clamped, guard=eps, weight_decay=0, ceiling={})"
    assert check(f"{__name__}:Low", machine.format(1), like=f"{PREFIX}Lamb").passed
    assert not check(f"{__name__}:Low", machine.format(10), like=f"{PREFIX}Lamb").passed


def test_a_skipped_step_of_radam_leaves_out_the_decay():
    weights = torch.ones(3)
    optimizer = pytorch_optimizer.RAdam([weights], lr=0.5, weight_decay=0.5)
    for step in range(1, 7):
        weights.grad = torch.zeros(3)
        optimizer.step()
        assert torch.equal(weights, torch.full((3,), 1.0 if step < 6 else 0.75))


def test_fused_is_refused_and_not_swallowed():
    """Its classes take any keyword and ignore those that they do not know."""
    pytorch_optimizer.SGDW([torch.zeros(1)], fused=True)
    with pytest.raises(ValueError, match="'fused', which SGDW does not name"):
        check(f"{PREFIX}SGDW", mode="fused")


ONE, VECTOR = slice(1, 2), slice(12, 17)
NAN = [
    # target, variant, mode, idle coordinates, first step with NaN, how many NaN
    ("AdaDelta", "plain", "single", ONE, 1, 1),
    ("AdaDelta", "plain", "foreach", ONE, 1, 1),
    ("AdaMax", "plain", "single", ONE, 1, 1),
    ("RAdam", "plain", "single", ONE, 6, 1),
    ("RAdam", "plain", "foreach", ONE, 6, 1),
    ("Yogi", "plain", "single", ONE, 1, 1),
    ("NovoGrad", "plain", "single", ONE, 0, 0),
    ("NovoGrad", "plain", "single", VECTOR, 1, 5),
    ("NovoGrad", "plain", "foreach", VECTOR, 1, 5),
    ("LARS", "plain", "single", slice(0, 12), 0, 0),
    ("Lamb", "plain", "single", ONE, 1, 12),
    ("Lamb", "plain", "foreach", ONE, 1, 12),
    ("AdaFactor", "plain", "single", ONE, 0, 0),
    ("AdaFactor", "plain", "single", VECTOR, 1, 5),
    ("Lion", "plain", "single", ONE, 0, 0),
    ("SignSGD", "plain", "single", ONE, 0, 0),
    ("SGDW", "momentum", "single", ONE, 0, 0),
]


@pytest.mark.parametrize(("name", "variant", "mode", "idle", "step", "count"), NAN)
def test_which_natives_are_nan_without_eps(name, variant, mode, idle, step, count):
    zero = {"eps": 0.0, "eps1": 0.0, "initial_accumulator": 0.0, "weight_decay": 0.0}
    row = torch_rows.row_of(PREFIX + name, variant)
    case = torch_rows.without_gradient(row, idle, zero)
    assert torch_rows.first_nan(row, case, mode) == (step, count)
    for weights in torch_rows.machine_weights(row, case):
        assert (weights[idle] == case.weights[idle]).all()
    assert ("eps=0" in (notes := " ".join(dialects.targets()[row.target].notes)) or "eps1=0" in notes) or count == 0


# -- Shampoo, a matrix machine, which has no golden files --------------------------------------------------------------

SHAMPOO = [
    ("shampoo(scalars=plain, cutoff=0)", {"lr": "lr", "matrix_eps": "eps"}, {}, True),
    (
        "shampoo(momentum_form=before, scalars=plain, cutoff=0)",
        {"lr": "lr", "matrix_eps": "eps", "momentum": "momentum"},
        {"t": "group.step", "b": "momentum_buffer"},
        True,
    ),
    ("shampoo(cutoff=0)", {"lr": "lr", "matrix_eps": "eps"}, {}, False),
]


@pytest.mark.parametrize(("machine", "arguments", "state", "same"), SHAMPOO)
def test_shampoo(machine, arguments, state, same):
    """Over the cases of momentum, with an eps."""
    row = Row(f"{PREFIX}Shampoo", "plain", machine, arguments, state)
    worst = []
    for case in golden.of_machine(notation.parse("momentum(first_step=copy)")):
        values = [{"lr": given["lr"], "eps": 0.125, "momentum": given["momentum"]} for given in case.hyperparameters]
        posed = torch_rows.replaced(case, values)
        worst += torch_rows.largest(row, posed).values()
    assert (max(worst) <= BUDGET) is same
