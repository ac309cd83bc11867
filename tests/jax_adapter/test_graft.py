"""graft() of optax transformations beside the reference: partitions, edges of the rule, errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from graftsim_jax import Recorder, graft
from tests.jax_adapter.trees import BUDGET, Reference, distance, flat, gradients, tree

PARTITIONS = [
    "tensor",
    "global",
    "row",
    "axis(-1)",
    "coordinate",
    "block(5)",
    "pool(0)",
    "pattern(biases='*.bias', kernels=['*.kernel', 'out'], rest=None)",
]
PAIRS = {
    "adam(lr=0.01)#momentum(lr=1, momentum=0.9)": (optax.adam(0.01), optax.sgd(1.0, momentum=0.9)),
    "momentum(lr=0.5, momentum=0.9)#sgd(lr=0.1)": (optax.sgd(0.5, momentum=0.9), optax.sgd(0.1)),
}
ADAM, MOMENTUM = PAIRS
RUNS = [
    *((MOMENTUM, "float32", partition) for partition in PARTITIONS),
    *((ADAM, "float64", partition) for partition in ("tensor", "coordinate", "block(5)")),
]
"""Not Adam in float32: optax forms 1 - beta ** t in float32 there, which is outside the bound of the equations."""


@pytest.mark.parametrize(("pair", "dtype", "partition"), RUNS)
def test_updates_norms_and_ratios_are_the_reference_s(pair: str, dtype: str, partition: str) -> None:
    machine = f"graft({pair.replace('#', ', ')}, partition={partition}, eps=0.25, scale=0.5)"
    with jax.enable_x64(dtype == "float64"):
        reference = Reference(machine, dtype)
        weights = tree(reference.weights)
        optimizer = graft(*PAIRS[pair], partition=partition, eps=0.25, scale=0.5)
        recorder = Recorder(weights, partition)
        state, update = optimizer.init(weights), jax.jit(optimizer.update)
        for step, gradient in enumerate(gradients(dtype), 1):
            want = reference.step(gradient)
            updates, state = update(tree(gradient), state, weights)
            slack = step  # the children's state runs on: a bound for each step that made it
            assert distance(want.delta, flat(updates)) <= slack * BUDGET
            row = recorder.row(state)
            assert set(row) == {"n_m", "n_d", "ratio"}
            for name, values in row.items():
                assert values.shape == want.info[name].value.shape
                exact, error = want.info[name].value, want.info[name].error
                room = slack * BUDGET * error + float(np.finfo(dtype).eps) / 2 * np.abs(exact)  # rounded on its way out
                assert (np.abs(np.asarray(values, float) - exact) <= room).all()


@pytest.mark.parametrize("partition", ["tensor", "global"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_given_its_children_s_steps_the_graft_is_rounded_hardly_more_than_once(dtype: str, partition: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        gradient = tree(gradients(dtype)[1])
        m, d = optax.adam(0.1), optax.rmsprop(0.3)
        optimizer = graft(m, d, partition=partition)
        start, of_children = optimizer.init(gradient), [(child, child.init(gradient)) for child in (m, d)]
        got = jax.tree.leaves(jax.jit(optimizer.update)(gradient, start)[0])
        of_m, of_d = (jax.tree.leaves(jax.jit(child.update)(gradient, state)[0]) for child, state in of_children)
    parts = [range(len(got))] if partition == "global" else [[i] for i in range(len(got))]
    for part in parts:
        n_m, n_d = (
            math.sqrt(math.fsum(float(x) ** 2 for i in part for x in steps[i].reshape(-1))) for steps in (of_m, of_d)
        )
        for i in part:
            exact = np.asarray(of_d[i], float) * (n_m / n_d if n_d else 0)
            # one rounding to the dtype; in float64 the squares, their sums (log2 28 < 5 each), roots, ratio, product
            room = 2.0**-24 * (1 + 2.0**-20) if dtype == "float32" else (2 * (0.5 + 5 / 2 + 1) + 4) * 2.0**-53
            assert (np.abs(np.asarray(got[i], float) - exact) <= room * np.abs(exact)).all()


def test_fan_out_is_the_last_axis() -> None:
    weights, gradient = tree(np.ones(28, np.float32)), tree(gradients("float32")[1])
    out = {}
    for partition in ("fan_out", "axis(-1)", "row"):
        optimizer = graft(optax.adam(0.1), optax.sgd(1.0), partition=partition)
        out[partition] = flat(jax.jit(optimizer.update)(gradient, optimizer.init(weights), weights)[0])
    assert (out["fan_out"] == out["axis(-1)"]).all()
    assert (out["fan_out"] != out["row"]).any()


def test_labels_pool_leaves_as_patterns_do() -> None:
    weights, gradient = tree(np.ones(28, np.float32)), tree(gradients("float32")[1])
    labels = {"dense": "a", "empty": "b", "out": "b", "scalar": "a", "nothing": None}  # a prefix for dense
    pattern = "pattern(a=['dense.*', 'scalar'], b=None)"
    results = []
    for partition in (labels, lambda tree: labels, pattern):
        optimizer = graft(optax.adam(0.1), optax.sgd(1.0), partition=partition)
        updates, state = optimizer.update(gradient, optimizer.init(weights), weights)
        assert set(state.info.ratio) == {"a", "b"}
        results.append(flat(updates))
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()


@pytest.mark.parametrize("eps", [0.0, 1e-8, 9475.0])
def test_a_zero_direction_moves_nothing_whatever_the_magnitude_is(eps: float) -> None:
    for strange in (1.0, np.nan, np.inf):
        broken = optax.stateless(lambda u, p, strange=strange: jax.tree.map(lambda x: x + strange, u))
        optimizer = graft(broken, optax.sgd(1.0), eps=eps)
        zero = {"a": jnp.zeros(3), "b": jnp.ones(2)}
        updates, state = optimizer.update(zero, optimizer.init(zero))
        assert (np.asarray(updates["a"]) == 0).all()
        assert float(state.info.ratio["a"]) == 0
        assert (np.asarray(updates["b"]) != 0).all()


def test_zero_magnitude_nan_and_infinity_stay_in_their_groups() -> None:
    optimizer = graft(optax.identity(), optax.stateless(lambda u, p: jax.tree.map(jnp.ones_like, u)))
    given = {"zero": jnp.zeros(2), "nan": jnp.array([1.0, np.nan]), "plain": jnp.ones(2)}
    updates, _ = optimizer.update(given, optimizer.init(given))
    assert (np.asarray(updates["zero"]) == 0).all()
    assert np.isnan(updates["nan"]).all()
    assert (np.asarray(updates["plain"]) == 1).all()
    infinite = graft(optax.stateless(lambda u, p: jax.tree.map(jnp.ones_like, u)), optax.identity())
    given = {"d": jnp.array([1.0, np.inf])}
    updates, state = infinite.update(given, infinite.init(given))
    assert float(updates["d"][0]) == 0
    assert np.isnan(updates["d"][1])
    assert float(state.info.ratio["d"]) == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("size", [-120, -20, 0, 100, 127])
def test_squares_neither_overflow_nor_vanish(dtype, size: int) -> None:
    if dtype == jnp.float16:
        size = int(np.clip(size, -14, 15))
    ones = {"w": jnp.full(4, 2.0**size, dtype)}
    optimizer = graft(optax.stateless(lambda u, p: jax.tree.map(jnp.ones_like, u)), optax.identity())
    updates, _ = optimizer.update(ones, optimizer.init(ones))
    assert updates["w"].dtype == dtype
    assert (np.asarray(updates["w"], np.float32) == 1).all()


@pytest.mark.parametrize("size", [-1000, -600, -400, 0, 400, 600, 1020])
@pytest.mark.parametrize("shape", [(4,), (1,), ()])
def test_float64_squares_neither_overflow_nor_vanish(size: int, shape: tuple[int, ...]) -> None:
    """Compiled too: XLA squares factors apart where there is one number, and their square is out of range."""
    with jax.enable_x64(True):
        ones = {"w": jnp.full(shape, 2.0**size)}
        optimizer = graft(optax.stateless(lambda u, p: jax.tree.map(jnp.ones_like, u)), optax.identity())
        for update in (optimizer.update, jax.jit(optimizer.update)):
            updates, state = update(ones, optimizer.init(ones))
            assert (np.asarray(updates["w"]) == 1).all()
            assert float(state.info.direction_norm["w"]) == 2.0 ** (size + (shape == (4,)))


@pytest.mark.parametrize("shape", [(3,), (1,), (1, 1), ()])
def test_a_compiled_norm_of_zeros_is_zero(shape: tuple[int, ...]) -> None:
    with jax.enable_x64(True):
        optimizer, zeros = graft(optax.sgd(1.0), optax.sgd(1.0)), {"w": jnp.zeros(shape)}
        updates, state = jax.jit(optimizer.update)(zeros, optimizer.init(zeros))
        assert float(state.info.magnitude_norm["w"]) == float(state.info.ratio["w"]) == 0
        assert not np.asarray(updates["w"]).any()


def test_a_ratio_beyond_float32_is_no_obstacle() -> None:
    """|m| / |d| = 2^150 is no float32, and its product with d is."""
    d = {"w": jnp.array([2.0**-110, 0.0])}
    optimizer = graft(optax.stateless(lambda u, p: {"w": jnp.array([0.0, 2.0**40])}), optax.identity())
    updates, _ = jax.jit(optimizer.update)(d, optimizer.init(d))
    assert np.asarray(updates["w"]).tolist() == [2.0**40, 0.0]


@pytest.mark.parametrize("rate", [1e-12, 1e-3, 1e12])
def test_the_direction_s_rate_cannot_be_seen(rate: float) -> None:
    gradient = tree(gradients("float32")[1])
    found = []
    for lr in (1.0, rate):
        optimizer = graft(optax.adam(0.1), optax.sgd(lr))
        found.append(flat(optimizer.update(gradient, optimizer.init(gradient), gradient)[0]))
    assert np.allclose(found[0], found[1], rtol=6 * 2.0**-24, atol=0)  # two roundings of d, of its norm, of the product


def test_a_graft_of_a_with_itself_is_a() -> None:
    gradient = tree(gradients("float32")[1])
    for a in (optax.adam(0.1), optax.sgd(0.3, momentum=0.9)):
        optimizer = graft(a, a)
        updates, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
        alone, _ = a.update(gradient, a.init(gradient), gradient)
        assert (flat(updates) == flat(alone)).all()


def test_children_are_those_run_alone_and_magnitude_stands_first() -> None:
    gradient = tree(gradients("float32")[1])
    m, d = optax.adam(0.1), optax.rmsprop(0.3)
    optimizer = graft(m, d)
    updates, state = optimizer.update(gradient, optimizer.init(gradient), gradient)
    of_m, state_m = m.update(gradient, m.init(gradient), gradient)
    of_d, state_d = d.update(gradient, d.init(gradient), gradient)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bool((a == b).all()), (state.magnitude, state.direction), (state_m, state_d))
    )
    for got, a, b in zip(*map(jax.tree.leaves, (updates, of_m, of_d)), strict=True):
        assert np.allclose(np.linalg.norm(got), np.linalg.norm(a), rtol=1e-6)
        if got.size:
            cosine = np.vdot(got, b) / (np.linalg.norm(got) * np.linalg.norm(b))
            assert cosine == pytest.approx(1, abs=1e-6)


def test_gradients_through_the_optimizer_are_finite_at_zero_and_right_elsewhere() -> None:
    optimizer = graft(optax.sgd(0.5), optax.sgd(1.0, momentum=0.9))
    state = optimizer.init({"w": jnp.zeros(3)})

    def moved(gradient, scale):
        updates, _ = graft(optax.sgd(0.5), optax.sgd(1.0), scale=scale, eps=0.5).update(
            {"w": gradient}, state_of(gradient)
        )
        return jnp.sum(updates["w"] * jnp.array([1.0, 2.0, 3.0]))

    def state_of(gradient):
        return graft(optax.sgd(0.5), optax.sgd(1.0)).init({"w": gradient})

    def zero(gradient):
        return jnp.sum(optimizer.update({"w": gradient}, state)[0]["w"])

    assert (np.asarray(jax.grad(zero)(jnp.zeros(3))) == 0).all()
    at, by = jnp.array([0.3, -0.4, 0.5]), jnp.array([0.2, 0.1, -0.3])
    n = float(jnp.linalg.norm(at))
    slope = jax.jit(jax.grad(moved))(at, 2.0)
    # -scale f(n) (c.g) with f(n) = 0.5 n / (n + 0.5): its gradient by hand
    f, df = 0.5 * n / (n + 0.5), 0.25 / (n + 0.5) ** 2
    c = np.array([1.0, 2.0, 3.0])
    want = -2.0 * (f * c + df * (c @ np.asarray(at)) * np.asarray(at) / n)
    assert np.allclose(slope, want, rtol=1e-5)
    assert np.isfinite(jax.jit(jax.hessian(moved))(at, 2.0)).all()
    _, forward = jax.jvp(lambda g: moved(g, 2.0), (at,), (by,))
    assert float(forward) == pytest.approx(float(want @ np.asarray(by)), rel=1e-5)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_gradients_are_finite_in_every_partition(partition: str) -> None:
    optimizer = graft(optax.sgd(0.5), optax.sgd(1.0), partition=partition)
    zero = tree(np.zeros(28, np.float32))
    state = optimizer.init(zero)
    slope = jax.jit(jax.grad(lambda g: sum(jnp.sum(x) for x in jax.tree.leaves(optimizer.update(g, state)[0]))))
    for at in (zero, tree(gradients("float32")[0])):
        assert np.isfinite(flat(slope(at))).all()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"partition": "tensr"}, ValueError, "did you mean 'tensor'"),
        ({"partition": "axis"}, ValueError, "axis\\(k\\)"),
        ({"partition": "block(0)"}, ValueError, "n >= 1"),
        ({"partition": "sets(a={'w': [0]}, rest=None)"}, ValueError, "labels"),
        ({"eps": -1.0}, ValueError, "eps must be at least 0"),
        ({"scale": float("nan")}, ValueError, "scale must be"),
        ({"magnitude": optax.adam}, TypeError, "magnitude must be an optax transformation"),
        ({"partition": "row", "axis_name": "x"}, ValueError, "axis_name"),
        ({"partition": "axis(2)"}, ValueError, "'w' of shape \\(2, 2\\) has no axis 2"),
        ({"partition": "pattern(a='b*')"}, ValueError, "'w' is in none"),
        ({"partition": "pattern(a='*', b='w')"}, ValueError, "a and b"),
        ({"partition": {"v": "a"}}, ValueError, "labels must be a pytree"),
    ],
)
def test_mistakes_have_one_line(arguments, error, words: str) -> None:
    given = {"magnitude": optax.adam(1e-3), "direction": optax.sgd(1.0), **arguments}
    with pytest.raises(error, match=words) as caught:
        graft(**given).init({"w": jnp.ones((2, 2))})
    assert "\n" not in str(caught.value)


def test_integer_and_complex_leaves_are_refused_by_name() -> None:
    for leaf in (jnp.ones(2, jnp.int32), jnp.ones(2, jnp.complex64)):
        with pytest.raises(TypeError, match=f"'a.b' is {leaf.dtype}"):
            graft(optax.adam(1e-3), optax.sgd(1.0)).init({"a": {"b": leaf}})


def test_an_empty_tree_and_extra_arguments() -> None:
    seen = []

    def update(updates, state, params=None, **extra):
        seen.append(extra)
        return updates, state

    child = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    optimizer = graft(child, optax.sgd(1.0))
    updates, state = optimizer.update({}, optimizer.init({}), {}, value=3)
    assert updates == {}
    assert int(state.count) == 1
    assert seen == [{"value": 3}]
    everything = graft(child, optax.sgd(1.0), partition="global")
    _, state = everything.update({}, everything.init({}))
    assert float(state.info.ratio["all"]) == 0
