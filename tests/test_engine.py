"""The reference engine: hand-computed bits, edges, missing gradients, and what a bad call says."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graftsim
from graftsim.errors import GraftsimError


def run(machine: str, gradients, weights=None, dtype="float64", **layout):
    """Steps of a machine over one or more tensors; returns the last Step."""
    program = graftsim.build(machine, layout or {"w": (len(gradients[0]),)}, dtype)
    engine = graftsim.Engine(program)
    weights = np.zeros(program.layout.size, dtype) if weights is None else np.asarray(weights, dtype)
    state, out = engine.initial_state(), None
    for step, gradient in enumerate(gradients, 1):
        if not isinstance(gradient, list) or not layout:
            gradient = np.asarray(gradient, dtype)
        out = engine.step(weights, gradient, state, step)
        weights, state = out.weights, out.state
    return out


def test_sgd_by_hand() -> None:
    assert run("sgd(lr=0.5)", [[2.0, -4.0]], [1.0, 1.0]).weights.tolist() == [0.0, 3.0]


def test_adam_first_two_steps_by_hand() -> None:
    """m_hat and v_hat of constant gradients are g and g^2 up to rounding; each operation as written."""
    lr, b1, b2, eps, g = 0.1, 0.9, 0.999, 1e-8, 3.0
    m = v = 0.0
    for t in (1, 2):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (g * g)
        c1, c2 = float(1 - Fraction(b1) ** t), float(1 - Fraction(b2) ** t)
        delta = -(lr * ((m / c1) / (math.sqrt(v / c2) + eps)))
        assert run("adam(lr=0.1)", [[g]] * t).delta.tolist() == [delta]


def test_schedules_see_step_one_first() -> None:
    out = [run("sgd(lr=1/step)", [[1.0]] * t).delta[0] for t in (1, 2, 4)]
    assert out == [-1.0, -0.5, -0.25]


def test_a_scalar_is_rounded_to_the_dtype_once() -> None:
    out = run("sgd(lr=0.1)", [[3.0]], dtype="float32").delta[0]
    assert out == -(np.float32(0.1) * np.float32(3.0))
    assert out.dtype == np.float32


def test_a_group_value_times_a_coordinate_is_formed_in_float64() -> None:
    """A ratio of 1e39 between float32 steps gives an ordinary result."""
    out = run("graft(sgd(lr=1), sgd(lr=1e-39), partition=tensor)", [[3.0, 4.0]], dtype="float32")
    assert out.info["ratio"][0] > 1e38
    assert np.allclose(out.delta, [-3, -4], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e-30, 1e-200, 1e200])
def test_norms_neither_overflow_nor_underflow(dtype: str, size: float) -> None:
    if dtype == "float32" and size != 1e-30:
        return
    out = run("sgd(lr=1)#sgd(lr=1)", [[3 * size, 4 * size]], dtype=dtype)
    assert out.delta.tolist() == (-np.array([3 * size, 4 * size], dtype)).tolist()


class TestZeroAndNonFinite:
    """GS-graft-zero-direction and its neighbours, group by group."""

    MACHINE = "graft(sgd(lr=2), scaled(sgd(lr=1), factor={'a': 0, 'b': 1}), partition=tensor)"

    def test_zero_direction_stops_its_own_group_only(self) -> None:
        out = run(self.MACHINE, [[np.array([1.0]), np.array([1.0])]], a=(1,), b=(1,))
        assert out.weights.tolist() == [0.0, -2.0]
        assert out.info["ratio"].tolist() == [0.0, 2.0]

    def test_zero_magnitude(self) -> None:
        out = run("sgd(lr=0)#sgd(lr=1)", [[1.0, 2.0]])
        assert out.weights.tolist() == [0.0, 0.0]
        assert out.info["ratio"].tolist() == [0.0]

    def test_a_nan_reaches_its_own_group_only(self) -> None:
        out = run("sgd#sgd", [[np.array([math.nan, 1.0]), np.array([1.0])]], a=(2,), b=(1,))
        assert np.isnan(out.delta[:2]).all()
        assert out.delta[2] == -0.01

    def test_infinite_direction(self) -> None:
        out = run("graft(sgd(lr=1), sgd(lr=1e300), partition=tensor)", [[1e200, 1.0]])
        assert out.info["n_d"][0] == math.inf
        assert out.info["ratio"][0] == 0.0
        assert math.isnan(out.delta[0])
        assert out.delta[1] == 0.0

    def test_eps_is_added_to_the_norm(self) -> None:
        out = run("graft(sgd(lr=1), sgd(lr=1), eps=5)", [[3.0, 4.0]])
        assert out.info["ratio"].tolist() == [0.5]

    def test_eps_of_the_papers_9475_and_tiny(self) -> None:
        assert run("graft(sgd(lr=1), sgd(lr=1), eps=9475)", [[3.0, 4.0]]).info["ratio"][0] == 5 / 9480
        assert run("graft(sgd(lr=1), sgd(lr=1), eps=1e-300)", [[0.0, 0.0]]).info["ratio"][0] == 0.0


def test_pseudo_inverse_where_eps_is_zero() -> None:
    out = run("adam(eps=0)", [[0.0, 1.0]])
    assert out.delta[0] == 0.0
    assert out.delta[1] != 0.0
    assert math.isnan(run("adam(eps=0)", [[math.nan]]).delta[0])


@given(st.sampled_from(["adam", "adagrad(eps=0)", "rmsprop", "momentum", "second_moment"]), st.integers(0, 2**32))
def test_inputs_are_never_changed(machine: str, seed: int) -> None:
    program = graftsim.build(f"{machine}#sgd", {"w": (3,)})
    engine = graftsim.Engine(program)
    w, g = np.random.default_rng(seed).standard_normal((2, 3))
    state = engine.initial_state()
    before = [w.tobytes(), g.tobytes(), *(value.tobytes() for value in state.values())]
    out = engine.step(w, g, state, 1)
    assert [w.tobytes(), g.tobytes(), *(value.tobytes() for value in state.values())] == before
    arrays = [out.weights, out.delta, *out.state.values()]
    assert not any(np.shares_memory(a, b) for a in arrays for b in [w, g, *state.values()])


class TestMissingGradients:
    """GS-missing-gradient: a tensor without a gradient takes no part in the step."""

    LAYOUT = {"a": (2,), "b": (2,)}  # noqa: RUF012

    def step(self, machine: str, gradients, state=None, step=1):
        program = graftsim.build(machine, self.LAYOUT)
        engine = graftsim.Engine(program)
        return engine.step(np.ones(4), gradients, state or engine.initial_state(), step)

    def test_nothing_of_it_changes(self) -> None:
        first = self.step("adam", [np.ones(2), np.ones(2)])
        second = self.step("adam", [np.ones(2), None], first.state, 2)
        assert second.weights.tolist()[2:] == [1.0, 1.0]
        assert second.delta.tolist()[2:] == [0.0, 0.0]
        assert second.state["m"].tolist()[2:] == first.state["m"].tolist()[2:]
        assert second.state["t"].tolist() == [2.0, 1.0]

    def test_its_counter_may_advance(self) -> None:
        out = self.step("adam(missing=advance)", [np.ones(2), None])
        assert out.state["t"].tolist() == [1.0, 1.0]
        assert out.state["m"].tolist()[2:] == [0.0, 0.0]

    def test_it_is_in_no_norm(self) -> None:
        """With decay in the child's delta a missing tensor's step would not be zero."""
        machine = "graft(decay_outside(sgd(lr=1), weight_decay=0.5), sgd(lr=1), partition=global)"
        out = self.step(machine, [np.array([3.0, 4.0]), None])
        assert out.info["n_d"].tolist() == [5.0]
        assert out.info["n_m"].tolist() == [math.hypot(3.5, 4.5)]

    def test_all_missing(self) -> None:
        out = self.step("adam#sgd", [None, None])
        assert out.weights.tolist() == [1.0] * 4
        assert out.info["ratio"].tolist() == [0.0, 0.0]
        assert out.state["magnitude.t"].tolist() == [0.0, 0.0]


def test_empty_and_0d_tensors() -> None:
    layout = {"e": (0, 3), "s": (), "none": (0,)}
    gradients = [np.zeros((0, 3)), np.array(2.0), np.zeros(0)]
    for partition in ("global", "tensor", "coordinate", "row", "block(2)"):
        out = run(f"graft(sgd(lr=3), sgd(lr=1), partition={partition})", [gradients], **layout)
        assert out.weights.tolist() == [-6.0]
    assert run("adam#sgd", [[np.zeros((0, 3))]], e=(0, 3)).weights.tolist() == []


def test_levels_and_merged_reductions() -> None:
    program = graftsim.build("(adam#sgd)#(rmsprop#adagrad)", {"w": (3,), "b": (3,)})
    assert program.depth == 2
    assert [len(reductions) for _, reductions in program.by_level] == [4, 2, 0]
    assert graftsim.build("adam#sgd", {str(n): (2,) for n in range(40)}).depth == 1


def test_one_exchange_a_level_for_all_groups() -> None:
    calls = []

    def exchange(rows):
        calls.append([row.shape[0] for row in rows])
        return rows

    program = graftsim.build("(adam#sgd)#sgd", {"w": (3,), "b": (3,)})
    engine = graftsim.Engine(program, exchange)
    engine.step(np.zeros(6), np.ones(6), engine.initial_state(), 1)
    assert calls == [[2, 2, 2], [2]]


def test_both_grafting_points() -> None:
    """Full steps: momentum inside the children. Preconditioned gradients: momentum after the graft."""
    gradients = [[1.0, 2.0], [3.0, -1.0]]
    inside = run("momentum(lr=1)#adagrad(lr=1, eps=0)", gradients)
    after = run("momentum_after(sgd(lr=1)#adagrad(lr=1, eps=0))", gradients)
    assert np.linalg.norm(inside.delta) != np.linalg.norm(after.delta)
    first = run("momentum_after(sgd(lr=1)#adagrad(lr=1, eps=0))", gradients[:1])
    assert np.isclose(np.linalg.norm(first.delta), np.sqrt(5))


def test_decay_sits_where_its_wrapper_stands() -> None:
    g, w = [[1.0, 1.0]], [10.0, 10.0]
    in_gradient = run("decay_in_gradient(sgd(lr=0.1), weight_decay=0.5)", g, w).delta
    decoupled = run("decay_decoupled(sgd(lr=0.1), weight_decay=0.5)", g, w).delta
    outside = run("decay_outside(sgd(lr=0.1)#sgd(lr=7), rate=0.1, weight_decay=0.5)", g, w).delta
    assert in_gradient.tolist() == [-(0.1 * 6.0)] * 2
    assert decoupled.tolist() == [-0.1 - (0.1 * 0.5) * 10.0] * 2
    assert outside.tolist() == decoupled.tolist()


def test_in_place_loses_what_the_weights_cannot_hold() -> None:
    out = run("in_place(sgd(lr=1))", [[1e-8]], [1.0], dtype="float32")
    assert out.delta.tolist() == [0.0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weights": np.zeros(3)}, "the weights must have shape (2,)"),
        ({"weights": np.zeros(2, np.float32)}, "dtype float64; received (2,) and float32"),
        ({"gradients": np.zeros(3)}, "the gradient must have shape (2,)"),
        ({"gradients": [np.zeros((2, 1))]}, "tensor 'w' must have shape (2,); received (2, 1)"),
        ({"gradients": [np.zeros(2), np.zeros(2)]}, "one array for each of 1 tensors; received 2"),
        ({"gradients": [np.zeros(2, np.float32)]}, "tensor 'w' must have dtype float64"),
        ({"gradients": []}, "one array for each of 1 tensors; received 0"),
        ({"state": {}}, "the state must have ['m', 't', 'v']"),
        ({"step": 0}, "steps are numbered from 1; received 0"),
        ({"settings": {"lr": -1.0}}, "lr must lie in >= 0; at step 1 it is -1"),
        ({"settings": {"lrr": 1.0}}, "did you mean 'lr'?"),
    ],
)
def test_a_bad_call_is_one_line(change, problem: str) -> None:
    engine = graftsim.Engine(graftsim.build("adam", {"w": (2,)}))
    call = {"weights": np.zeros(2), "gradients": np.zeros(2), "state": engine.initial_state(), "step": 1, **change}
    with pytest.raises(GraftsimError) as caught:
        engine.step(**call)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_schedule_that_leaves_the_domain_says_when() -> None:
    with pytest.raises(GraftsimError, match="lr must lie in >= 0; at step 3 it is -1"):
        run("sgd(lr=2-step)", [[1.0]] * 3)
