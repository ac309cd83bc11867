"""The oracle: exact values with a bound of the rounding error. The engine must lie within it, for every machine."""

import mpmath
import numpy as np
import pytest

import graftsim
from graftsim import bounds
from tests.every_machine import GRAFTS, LAYOUT, expressions


def stream(dtype: str, steps: int = 5):
    """Gradients over several magnitudes, with zeros, and one tensor's worth of tiny ones at the third step."""
    rng = np.random.default_rng(5)
    gradients = rng.standard_normal((steps, 7)) * 10.0 ** rng.integers(-3, 3, (steps, 7))
    gradients[1, 2] = 0
    gradients[2] *= 1e-12
    return gradients.astype(dtype)


def distance(oracle: bounds.Bounded, got) -> float:
    """The largest distance from the exact value, in units of the bound."""
    gap = np.abs((oracle.value - got).astype(np.float64))
    if not gap.size:
        return 0.0
    return float(np.max(np.where(gap == 0, 0, gap / np.where(oracle.error > 0, oracle.error, 1e-320))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("expression", [*expressions(), *GRAFTS], ids=str)
def test_the_engine_lies_within_the_oracle_s_bound(expression: str, dtype: str) -> None:
    program = graftsim.build(expression, LAYOUT, dtype)
    engine, oracle = graftsim.Engine(program), bounds.Bounds(program, bounds.arbitrary(60))
    weights, state = np.full(7, 0.5, dtype), engine.initial_state()
    for step, gradient in enumerate(stream(dtype), 1):
        exact = {path: oracle.exact(value) for path, value in state.items()}
        moved, found = oracle.step(oracle.exact(weights), [gradient], exact, step)
        out = engine.step(weights, gradient, state, step)
        assert distance(moved, out.weights) <= 1
        assert distance(found.delta, out.delta) <= 1
        assert all(distance(found.state[path], value) <= 1 for path, value in out.state.items())
        assert all(distance(found.info[path], value) <= 1 for path, value in out.info.items())
        weights, state = out.weights, out.state


@pytest.mark.parametrize("expression", [*expressions(), *GRAFTS], ids=str)
def test_bounds_in_float64_are_those_of_the_oracle(expression: str) -> None:
    """The fast bounds that conformance uses agree with those over exact values to first order."""
    program = graftsim.build(expression, LAYOUT)
    fast, slow = bounds.Bounds(program), bounds.Bounds(program, bounds.arbitrary(60))
    engine = graftsim.Engine(program)
    weights, state = np.full(7, 0.5), engine.initial_state()
    for step, gradient in enumerate(stream("float64"), 1):
        a, _ = fast.step(fast.exact(weights), [gradient], {k: fast.exact(v) for k, v in state.items()}, step)
        b, _ = slow.step(slow.exact(weights), [gradient], {k: slow.exact(v) for k, v in state.items()}, step)
        assert np.allclose(a.error, b.error, rtol=1e-2, atol=0)  # in_place loses 9 digits; its bound is known to 2
        out = engine.step(weights, gradient, state, step)
        weights, state = out.weights, out.state


def test_a_wrong_formula_lies_outside() -> None:
    """eps inside the root for outside it: the bound must not cover the difference."""
    right = graftsim.build("adam(lr=0.1, eps=0.01)", LAYOUT)
    wrong = graftsim.Engine(graftsim.build("adam(lr=0.1, eps=0.01, eps_placement=hat)", LAYOUT))
    oracle = bounds.Bounds(right, bounds.arbitrary(60))
    state = wrong.initial_state()
    exact = {path: oracle.exact(value) for path, value in state.items()}
    gradient = stream("float64")[0]
    moved, _ = oracle.step(oracle.exact(np.zeros(7)), [gradient], exact, 1)
    assert distance(moved, wrong.step(np.zeros(7), gradient, state, 1).weights) > 1e6


def test_an_open_condition_covers_both_branches(tmp_path) -> None:
    """x - y is rounding noise about 0: whichever branch a correct run takes lies within the bound."""
    (tmp_path / "edge.yaml").write_text(
        "machine: edge\ntitle: t\nsource: s\n"
        "step: ['x = 0.1 * g + 0.2 * g', 'y = 0.3 * g', 'delta = where(x > y, 1, -1)']\n"
    )
    from graftsim.machines import Library

    program = graftsim.build("edge", {"w": (1,)}, machines=Library([tmp_path / "edge.yaml"]))
    oracle = bounds.Bounds(program, bounds.arbitrary(60))
    _, found = oracle.step(oracle.exact(np.zeros(1)), [np.ones(1)], {}, 1)
    assert found.delta.error[0] >= 2


def test_a_norm_near_overflow_and_underflow() -> None:
    for size in (1e200, 1e-200, 1e-320):
        program = graftsim.build("sgd(lr=1)#sgd(lr=0.5)", {"w": (2,)})
        oracle = bounds.Bounds(program, bounds.arbitrary(60))
        engine = graftsim.Engine(program)
        gradient = np.array([3 * size, 4 * size])
        _, found = oracle.step(oracle.exact(np.zeros(2)), [gradient], {}, 1)
        out = engine.step(np.zeros(2), gradient, {}, 1)
        assert distance(found.info["n_m"], out.info["n_m"]) <= 1
        assert float(found.info["n_m"].value[0]) == pytest.approx(float(mpmath.mpf(5) * size), rel=1e-3)
