"""Grafts of torch's optimizers are the grafts of their machines, within the error bound of the reference."""

import numpy as np
import pytest

import graftsim
from graftsim.bounds import Bounds
from graftsim_torch import Graft
from tests.torch_adapter.recipes import RECIPES, SHAPES, flat, give, named, parameters, stream

NAMES = list(RECIPES)
PAIRS = [(name, NAMES[(i + 4) % len(NAMES)]) for i, name in enumerate(NAMES)]
PARTITIONS = [
    "global", "tensor", "axis(0)", "axis(-1)", "row", "coordinate", "block(5)",
    "pattern(a='a.*', small=['scalar', 'empty'], rest=None)",
]  # fmt: skip


def farthest(machine, optimizer, params, rows, settings=None):
    """The largest distance of weights from the reference, in its bounds, which are carried along from the start."""
    program = graftsim.build(machine, SHAPES)
    oracle = Bounds(program)
    weights = oracle.exact(flat(params).numpy().copy())
    state = {path: oracle.exact(value) for path, value in graftsim.Engine(program).initial_state().items()}
    worst = 0.0
    for step, row in enumerate(rows, 1):
        before, give_row = flat(params).numpy().copy(), [None if g is None else np.asarray(g) for g in row]
        weights, found = oracle.step(weights, give_row, state, step, settings)
        state = found.state
        give(params, row)
        optimizer.step()
        got = flat(params).numpy()
        assert np.isfinite(got).all()
        gap = np.abs(got - weights.value)
        worst = max(worst, float(np.max(np.where(gap == 0, 0, gap / weights.error))))
        assert not np.array_equal(before, got)
    return worst


@pytest.mark.parametrize(("m", "d"), PAIRS)
def test_pairs(m, d):
    params = parameters()
    assert farthest(f"({m})#({d})", Graft(params, RECIPES[m], RECIPES[d]), params, stream()) <= 4


@pytest.mark.parametrize("partition", PARTITIONS)
def test_partitions(partition):
    m, d = "adam(lr=0.01)", NAMES[1]
    params = parameters()
    graft = Graft(named(params), RECIPES[m], RECIPES[d], partition=partition)
    assert farthest(f"graft({m}, {d}, partition={partition})", graft, params, stream()) <= 4


def test_eps_and_scale():
    params = parameters()
    graft = Graft(params, RECIPES["adam(lr=0.01)"], RECIPES["sgd(lr=0.1)"], eps=0.25, scale=0.5)
    assert farthest("graft(adam(lr=0.01), sgd(lr=0.1), eps=0.25, scale=0.5)", graft, params, stream()) <= 4


def test_a_wrong_eps_would_be_seen():
    params = parameters()
    graft = Graft(params, RECIPES["adam(lr=0.01)"], RECIPES["sgd(lr=0.1)"], eps=1e-12)
    assert farthest("graft(adam(lr=0.01), sgd(lr=0.1))", graft, params, stream()) > 4


def test_grafts_nest():
    from functools import partial

    m, a, d = "adam(lr=0.01)", "sgd(lr=0.1)", NAMES[-1]
    params = parameters()
    inner = partial(Graft, magnitude=RECIPES[m], direction=RECIPES[a], partition="axis(0)")
    graft = Graft(params, inner, RECIPES[d], partition="global")
    assert farthest(f"graft(graft({m}, {a}, partition=axis(0)), {d}, partition=global)", graft, params, stream()) <= 4
    params = parameters()
    inner = partial(Graft, magnitude=RECIPES[a], direction=RECIPES[d])
    assert farthest(f"({m})#(({a})#({d}))", Graft(params, RECIPES[m], inner), params, stream()) <= 4


def test_recorded_norms_and_ratios():
    params, rows = parameters(), stream()
    graft = Graft(named(params), RECIPES["adam(lr=0.01)"], RECIPES["sgd(lr=0.1)"], partition="axis(0)")
    program = graftsim.build("graft(adam(lr=0.01), sgd(lr=0.1), partition=axis(0))", SHAPES)
    engine = graftsim.Engine(program)
    state, weights = engine.initial_state(), flat(params).numpy().copy()
    for step, row in enumerate(rows, 1):
        out = engine.step(weights, [None if g is None else np.asarray(g) for g in row], state, step)
        weights, state = out.weights, out.state
        give(params, row)
        graft.step()
        for name in ("n_m", "n_d", "ratio"):
            np.testing.assert_allclose(getattr(graft.info, name).numpy(), out.info[name], rtol=1e-12)
        assert graft.info.groups == program.kinds[program.info["ratio"]].partition.names
        lacking = [group == "a.bias" and step == 3 for group in graft.info.groups]
        assert graft.info.missing.tolist() == lacking
    assert graft.info.rows()[0]["group"] == "a.weight[0,:]"
