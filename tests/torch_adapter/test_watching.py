"""Children's steps as they are seen from outside, and the rules that hold of them to the bit."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop

from graftsim_conformance import suite
from graftsim_conformance.subjects import Asked
from graftsim_conformance.verdicts import Verdict
from graftsim_torch import Graft, scaling
from tests.torch_adapter.recipes import flat, give, parameters, run, stream

GRAFTS = "graftsim_conformance.torch_adapter:Grafts"


@pytest.mark.parametrize("partition", ["tensor", "global", "row", "block(2)", "coordinate"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_whoever_watches_is_told_each_childs_own_step(partition, dtype):
    """The steps are those of both optimizers alone from weights of zero; a rate of a power of two rounds nothing."""
    params, alone = parameters(dtype), {role: parameters(dtype) for role in ("magnitude", "direction")}
    natives = {
        "magnitude": Adam(alone["magnitude"], lr=2**-7, fused=False),
        "direction": SGD(alone["direction"], lr=2**-4, momentum=0.5),
    }
    children = partial(Adam, lr=2**-7, fused=False), partial(SGD, lr=2**-4, momentum=0.5)
    graft, steps = Graft(params, *children, partition=partition), {}
    graft.watch = lambda role, param, step: steps.update({(role, param): step})
    for row in stream(4):
        give(params, row)
        steps.clear()
        graft.step()
        for role, native in natives.items():
            with torch.no_grad():
                for weight in alone[role]:
                    weight.zero_()
            give(alone[role], row)
            native.step()
            for param, weight in zip(params, alone[role], strict=True):
                assert ((role, param) in steps) == (param.grad is not None)
                if param.grad is not None:
                    assert steps[role, param].dtype is torch.float64
                    assert torch.equal(steps[role, param], weight.double())


def test_who_watches_changes_nothing_and_is_in_no_copy():
    rows, params, watched = stream(3), parameters(), parameters()
    graft = Graft(watched, Adam, SGD)
    graft.watch = lambda role, param, step: step.zero_()
    assert torch.equal(run(graft, watched, rows), run(Graft(params, Adam, SGD), params, rows))
    assert copy.deepcopy(graft).watch is None
    assert "watch" not in graft.state_dict()


@pytest.mark.parametrize("partition", ["tensor", "global", "row", "axis(1)", "block(2)", "coordinate"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_graft_of_a_graft_with_itself_has_its_bits(partition, dtype):
    """GS-graft-self: n / n is 1, so the outer graft must round nothing that the inner one did not."""
    inner = partial(Graft, magnitude=partial(Adam, lr=0.01), direction=partial(SGD, lr=0.3), partition=partition)
    params, twice, rows = parameters(dtype), parameters(dtype), stream(4)
    outer = Graft(twice, inner, inner, partition=partition)
    assert torch.equal(run(inner(params), params, rows), run(outer, twice, rows))


STILL = [
    partial(Adam, eps=0.0),
    partial(Adam, eps=0.0, foreach=True),
    partial(Adam, eps=0.0, amsgrad=True),
    partial(Adam, eps=0.0, lr=torch.tensor(0.01), foreach=False),
    partial(AdamW, eps=0.0),
    partial(Adagrad, eps=0.0),
    partial(RMSprop, eps=0.0),
    partial(RMSprop, eps=0.0, centered=True, momentum=0.9),
]


@pytest.mark.parametrize("child", STILL, ids=str)
def test_a_coordinate_without_a_gradient_stands_still_at_an_eps_of_zero(child):
    """GS-arithmetic-quotient; beside it are the native's own steps, and a gradient of NaN stays one."""
    params = parameters(torch.float32)
    native = [torch.nn.Parameter(param.detach().clone()) for param in params]
    graft, alone = Graft(params, child, child), child(native)
    for row in stream(3, missing=False):
        give(params, row)
        params[0].grad[0] = 0.0
        params[1].grad[0] = torch.nan
        for mine, other in zip(params, native, strict=True):
            other.grad = mine.grad.clone()
        before = params[0].detach().clone()
        graft.step()
        alone.step()
    decay = 1 - graft.magnitude.param_groups[0]["weight_decay"] * float(graft.magnitude.param_groups[0]["lr"])
    assert torch.allclose(params[0][0], before[0] * decay, rtol=1e-6, atol=0)
    assert native[0][0].isnan().all(), "what torch does, and the reason for the rule"
    assert params[1].isnan().all(), "the group of a NaN"
    assert torch.allclose(params[0][1:], native[0][1:], rtol=1e-5, atol=1e-7)
    assert not flat(params[:1]).isnan().any()


def test_the_suite_sees_a_wrong_graft_of_right_children(monkeypatch):
    """The composition is judged from what the children were seen to do."""
    asked = Asked(GRAFTS, ("graft(sgd, adam, partition=tensor)",), dtype="float64", only="*.grafted")
    right = suite.run(asked).claims[0]
    assert right.composition
    assert all(one.passed for one in (*right.results, *right.composition) if one.verdict is not Verdict.NOT_SUPPORTED)
    ratio = scaling.Scaling.ratio
    monkeypatch.setattr(scaling.Scaling, "ratio", staticmethod(lambda m, d, eps, scale: ratio(d, m, eps, scale)))
    wrong = suite.run(asked).claims[0]
    assert [one.verdict for one in wrong.composition] == [Verdict.DIFFERENT] * len(right.composition)
    assert {one.failure.place for one in wrong.composition} == {"ratio"}
