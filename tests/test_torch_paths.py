"""Every way in which torch runs a step is the same optimizer, or it is said by how much it is not."""

from __future__ import annotations

import itertools

import pytest
import torch

from graftsim.errors import GraftsimError
from graftsim_conformance import candidates, dialects
from graftsim_conformance.check import check
from graftsim_conformance.follow import BUDGET

from . import torch_rows

DENSE = ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Adadelta", "Adamax", "NAdam", "RAdam", "Adafactor", "Rprop"]
FUSED = ["SGD", "Adagrad", "Adam", "AdamW"]
PATHS = [
    *itertools.product(DENSE, ("single", "foreach"), ("float64", "float32")),
    *itertools.product(FUSED, ("fused",), ("float64", "float32")),
    *itertools.product(["SparseAdam"], ("",), ("float64", "float32")),
]


@pytest.mark.parametrize(("name", "mode", "dtype"), PATHS)
def test_every_path_is_within_the_budget(name, mode, dtype):
    report = check(f"torch.optim:{name}", mode=mode, dtype=dtype)
    assert report.passed, "\n".join(report.lines())
    assert len(report.rows) == len(dialects.targets()[f"torch.optim:{name}"].rows)
    assert all(row.comparisons >= 700 and row.undecided == 0 for row in report.rows)


# -- torch's default dtype ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "exact"), [("", False), ("default64", True)])
def test_nadams_product_has_the_default_dtype(mode, exact):
    row = torch_rows.row_of("torch.optim:NAdam", "plain")
    found = torch_rows.largest(row, torch_rows.cases_of(row)[0], mode)
    assert (found["product"] <= BUDGET) is exact
    if not exact:
        assert found["product"] > 1e6


def test_the_default_dtype_is_left_as_it_was():
    assert torch.get_default_dtype() == torch.float32
    assert check("torch.optim:NAdam", "nadam(form=scheduled)", mode="default64").passed
    assert torch.get_default_dtype() == torch.float32


# -- torch.compile -----------------------------------------------------------------------------------------------------

COMPILED = [
    # name, dtype, whether the traced step is the machine's
    ("SGD", "float64", True),
    ("RMSprop", "float64", True),
    ("Adadelta", "float64", True),
    ("Adagrad", "float64", False),
    ("Adam", "float64", False),
    ("Adamax", "float64", False),
    ("NAdam", "float64", False),
    ("RAdam", "float64", False),
    ("Adagrad", "float32", True),
    ("Adam", "float32", False),
]


TRACED = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
"""torch.compile uses what torch itself has deprecated."""


@TRACED
@pytest.mark.parametrize(("name", "dtype", "same"), COMPILED)
def test_a_compiled_step_makes_its_scalars_of_the_float32_counter(name, dtype, same):
    """Tracing alone, without a code generator: powers and quotients of the step become operations on its tensor."""
    row = torch_rows.row_of(f"torch.optim:{name}", "plain")
    case = torch_rows.cases_of(row, dtype)[0]
    found = torch_rows.largest(row, case, "compiled", row.float32)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert (max(found.values()) <= BUDGET) is same
    assert {place for place, units in found.items() if units > BUDGET} <= {"weights"}


@TRACED
@pytest.mark.parametrize("name", ["Adam", "Adamax"])
def test_a_compiled_step_with_a_float64_counter_is_the_machine(name):
    """The counter's dtype is the whole difference."""
    row = torch_rows.row_of(f"torch.optim:{name}", "plain")
    torch.set_default_dtype(torch.float64)
    try:
        found = torch_rows.largest(row, torch_rows.cases_of(row)[0], "compiled")
    finally:
        torch.set_default_dtype(torch.float32)
    assert max(found.values()) <= BUDGET


# -- sparse gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("SGD", "sgd"),
        ("SGD", "momentum(form=heavy_ball, first_step=copy)"),
        ("Adagrad", "adagrad(eps_placement=outside)"),
    ],
)
def test_sparse_gradients_with_every_row_are_dense_ones(name, machine):
    assert check(f"torch.optim:{name}", machine, mode="sparse").passed


def test_sparse_adam_leaves_an_absent_row_alone_but_counts_its_step():
    weights = torch.ones(3, 2)
    optimizer = torch.optim.SparseAdam([weights], lr=0.5)
    after = []
    for rows in ([0, 1], [0]):
        places, values = torch.tensor([rows]), torch.ones(len(rows), 2)
        weights.grad = torch.sparse_coo_tensor(places, values, (3, 2), check_invariants=True)
        optimizer.step()
        after.append([tensor.clone() for tensor in (weights, optimizer.state[weights]["exp_avg"])])
    assert optimizer.state[weights]["step"] == 2
    for first, second in zip(*after, strict=True):
        assert not torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
    assert torch.equal(weights[2], torch.ones(2))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "mode", "says"),
    [
        ("torch.optim:RMSprop", "fused", "mode fused needs the keyword 'fused', which RMSprop does not name"),
        ("torch.optim:SparseAdam", "foreach", "'foreach', which SparseAdam does not name"),
        ("torch.optim:SGD", "capturable", "'capturable', which SGD does not name"),
        ("torch.optim:Adam", "capturable", "params and state_steps must be on supported devices"),
        ("torch.optim:SGD", "jit", "mode must be one of single, foreach, fused"),
        ("torch.optim:Adam", "sparse", "does not support sparse gradients"),
    ],
)
def test_a_path_that_does_not_exist_is_one_line(target, mode, says):
    with pytest.raises(GraftsimError) as found:
        check(target, mode=mode)
    assert says in str(found.value)
    assert "\n" not in str(found.value)


def test_a_candidate_that_cannot_be_made_leaves_torch_as_it_was():
    broken = candidates.wrap("torch", candidates.load("torch.optim:Adam"), "default64")
    row = torch_rows.row_of("torch.optim:Adam", "plain")
    case = torch_rows.cases_of(row)[0]
    with pytest.raises(ValueError, match="learning rate"):
        broken.start(case.layout, case.weights, {"lr": -1.0})
    assert torch.get_default_dtype() == torch.float32


# -- eps = 0 where there was no gradient -------------------------------------------------------------------------------

ONE, ROW, VECTOR = slice(1, 2), slice(0, 12), slice(12, 17)
EPS = {"eps": 0.0}
NAN = [
    # target, variant, mode, idle coordinates, first step with NaN, how many NaN
    ("Adagrad", "plain", "single", ONE, 1, 1),
    ("Adagrad", "plain", "foreach", ONE, 1, 1),
    ("Adagrad", "plain", "fused", ONE, 1, 1),
    ("RMSprop", "plain", "single", ONE, 1, 1),
    ("RMSprop", "plain", "foreach", ONE, 1, 1),
    ("Adam", "plain", "single", ONE, 1, 1),
    ("Adam", "plain", "foreach", ONE, 1, 1),
    ("Adam", "plain", "fused", ONE, 1, 1),
    ("Adam", "amsgrad", "single", ONE, 1, 1),
    ("AdamW", "weight_decay", "single", ONE, 1, 1),
    ("AdamW", "weight_decay", "fused", ONE, 1, 1),
    ("Adadelta", "plain", "single", ONE, 1, 1),
    ("Adamax", "plain", "single", ONE, 1, 1),
    ("NAdam", "plain", "single", ONE, 1, 1),
    ("RAdam", "plain", "single", ONE, 6, 1),
    ("RAdam", "plain", "foreach", ONE, 1, 1),
    ("Adafactor", "plain", "single", ONE, 0, 0),
    ("Adafactor", "plain", "single", VECTOR, 1, 5),
    ("SGD", "momentum", "single", ONE, 0, 0),
    ("Rprop", "plain", "single", ONE, 0, 0),
]


@pytest.mark.parametrize(("name", "variant", "mode", "idle", "step", "count"), NAN)
def test_which_natives_are_nan_without_eps(name, variant, mode, idle, step, count):
    zero = {"eps": 0.0, "eps1": 0.0, "initial_accumulator": 0.0, "weight_decay": 0.0}
    row = torch_rows.row_of(f"torch.optim:{name}", variant)
    case = torch_rows.without_gradient(row, idle, zero)
    assert torch_rows.first_nan(row, case, mode) == (step, count)
    for weights in torch_rows.machine_weights(row, case):
        assert (weights[idle] == case.weights[idle]).all()
    notes = " ".join(dialects.targets()[row.target].notes)
    assert ("NaN" in notes) or count == 0
