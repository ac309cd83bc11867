"""Machines of the spec on torch tensors: the reference's steps within its bound, and the contract of an optimizer."""

import copy
import pickle

import numpy as np
import pytest
import torch

import graftsim
from graftsim.bounds import Bounds
from graftsim_torch import machine
from tests.every_machine import GRAFTS, LAYOUT, expressions
from tests.torch_adapter import recipes
from tests.torch_adapter.recipes import flat, give, parameters, stream

SHAPES = dict(LAYOUT.tensors) if isinstance(LAYOUT, graftsim.Layout) else dict(LAYOUT)


def tensors(dtype):
    """Weights of 0.5 under the layout that all tests of all machines use."""
    return [torch.nn.Parameter(torch.full(shape, 0.5, dtype=dtype)) for shape in SHAPES.values()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("expression", [*expressions(), *GRAFTS], ids=str)
def test_every_machine_lies_within_the_bound(expression, dtype):
    """One step at a time from the machine's own state."""
    program = graftsim.build(expression, SHAPES, dtype)
    params = tensors(getattr(torch, dtype))
    optimizer, bounds = machine(str(expression), list(zip(SHAPES, params, strict=True))), Bounds(program)
    rows = stream(4, missing=False, shapes=SHAPES)
    for step, row in enumerate(rows, 1):
        weights = bounds.exact(flat(params).numpy().copy())
        state = {path: bounds.exact(value.numpy().copy()) for path, value in optimizer._flat.items()}
        give(params, row)
        optimizer.step()
        want, found = bounds.step(weights, [p.grad.numpy() for p in params], state, step)
        close(flat(params).numpy(), want)
        for path, value in optimizer._flat.items():
            close(value.numpy(), found.state[path])
        for path, value in optimizer.info.items():
            close(value.numpy(), found.info[path])


def close(got, want):
    with np.errstate(invalid="ignore"):
        gap = np.abs(got - np.asarray(want.value, np.float64))
    same = (got == want.value) | (np.isnan(got) & np.isnan(np.asarray(want.value, np.float64)))
    assert (same | (gap <= 4 * want.error)).all()


MIXED = [
    "lamb(lr=0.1)", "graft(adam, lars(lr=0.1), partition=global)",
    "graft(adam(lr=0.1)#sgd, momentum, partition=axis(-1))",
    "graft(adagrad, novograd, partition=pattern(a='a.*', rest=None))", "graft(lion, adafactor, partition=block(5))",
    "shampoo#adam", "graft(adam, sgd, partition=coordinate)",
]  # fmt: skip


@pytest.mark.parametrize("expression", MIXED)
def test_many_tensors_and_missing_gradients(expression):
    shapes = {name: shape for name, shape in recipes.SHAPES.items() if len(shape) <= 2}
    program = graftsim.build(expression, shapes)
    params = parameters(shapes=shapes)
    optimizer, bounds = machine(expression, list(zip(shapes, params, strict=True))), Bounds(program)
    for step, row in enumerate(stream(4, shapes=shapes), 1):
        weights = bounds.exact(flat(params).numpy().copy())
        state = {path: bounds.exact(value.numpy().copy()) for path, value in optimizer._flat.items()}
        give(params, row)
        optimizer.step()
        want, found = bounds.step(weights, [None if x is None else np.asarray(x) for x in row], state, step)
        close(flat(params).numpy(), want)
        for path, value in optimizer._flat.items():
            close(value.numpy(), found.state[path])


def test_missing_gradients_leave_their_tensors_alone():
    params = [torch.nn.Parameter(torch.full((3,), 0.5)), torch.nn.Parameter(torch.ones(2))]
    optimizer = machine("adam(lr=0.1)#sgd", params)
    give(params, [None, np.ones(2)])
    optimizer.step()
    assert (params[0] == 0.5).all()
    assert optimizer.info["ratio"][0] == 0
    assert optimizer.state[params[0]]["magnitude.t"] == 0
    assert optimizer.state[params[1]]["magnitude.t"] == 1


@pytest.mark.parametrize("text", ["lamb(lr=0.1)", "adam#novograd", "shampoo", "graft(adam, sgd, partition=global)"])
@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy", "file"])
def test_resuming_gives_the_same_bits(text, way, tmp_path):
    shapes = {"w": (3, 4), "b": (4,)}
    rows = stream(6, missing=False, shapes=shapes)
    params = parameters(torch.float32, shapes=shapes)
    optimizer = machine(text, params)
    for row in rows[:3]:
        give(params, row)
        optimizer.step()
    if way == "deepcopy":
        resumed = copy.deepcopy(optimizer)
    elif way == "pickle":
        resumed = pickle.loads(pickle.dumps(optimizer))
    else:
        state = optimizer.state_dict()
        if way == "file":
            torch.save(state, tmp_path / "state.pt")
            state = torch.load(tmp_path / "state.pt", weights_only=True)
        others = [torch.nn.Parameter(param.detach().clone()) for param in params]
        resumed = machine(text, others)
        resumed.load_state_dict(copy.deepcopy(state))
    others = resumed.param_groups[0]["params"]
    for row in rows[3:]:
        for one, opt in ((params, optimizer), (others, resumed)):
            give(one, row)
            opt.step()
    assert torch.equal(flat(params), flat(others))


def test_hyperparameters_and_schedulers():
    params = tensors(torch.float64)
    one = machine("adam", params, lr=0.1, eps_placement="hat")
    assert "eps_placement=hat" in str(one.program.instance)
    scheduler = torch.optim.lr_scheduler.StepLR(one, 1, 0.5)
    one.step()
    scheduler.step()
    assert one.param_groups[0]["lr"] == 0.05
    graft = machine("adam#sgd", params, lr=0.1, **{"direction.lr": 7.0})
    give(params, stream(1, missing=False, shapes=SHAPES)[0])
    start = flat(params)
    graft.param_groups[0]["lr"] = 0.0
    graft.step()
    assert torch.equal(flat(params), start)
    assert machine("adam", params, lr="0.1 / sqrt(step)").program.parameters["lr"].node.operator == "div"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: machine("adan_", p), "did you mean 'adan'"),
        (lambda p: machine("adam", p, learning_rate=1), "no hyperparameter 'learning_rate'"),
        (lambda p: machine("adam", p, lr=-1.0), "must lie in >= 0"),
        (lambda p: machine("adam#sgd", p, partition="global"), "written into the expression"),
        (lambda p: machine("adam", [{"params": p}, {"params": [torch.zeros(1)]}]), "one param group"),
        (lambda p: machine("adam", p).add_param_group({"params": [torch.zeros(1)]}), "make a new one"),
        (lambda p: machine("adam", [*p, torch.zeros(1, dtype=torch.float16)]), "one dtype and device"),
        (lambda p: machine("adam", p).load_state_dict(machine("sgd", p).state_dict()), "slots m, step, t, v"),
    ],
)
def test_mistakes(make, says):
    with pytest.raises(ValueError) as found:
        make(tensors(torch.float64))
    assert says in str(found.value)
    assert "\n" not in str(found.value)


def test_sparse_gradients_are_refused_and_closures_evaluated_once():
    param = torch.nn.Parameter(torch.ones(3))
    optimizer, calls = machine("sgd", [param], lr=1.0), []

    def closure():
        calls.append(1)
        param.grad = torch.ones(3)
        return 7

    assert optimizer.step(closure) == 7
    assert len(calls) == 1
    assert torch.equal(param.detach(), torch.zeros(3))
    param.grad = torch.ones(3).to_sparse()
    with pytest.raises(ValueError, match="dense"):
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_are_storage(dtype):
    params = tensors(dtype)
    optimizer = machine("adam(lr=0.1)#sgd", params)
    give(params, [np.zeros(p.shape) for p in params])
    optimizer.step()
    assert torch.equal(flat(params), torch.full_like(flat(params), 0.5))
    assert all(v.dtype in (torch.float32, torch.float64) for s in optimizer.state.values() for v in s.values())
