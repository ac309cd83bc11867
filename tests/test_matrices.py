"""Whole matrices: Shampoo and full-matrix AdaGrad beside their formulas, and what a machine with a matrix refuses."""

import mpmath
import numpy as np
import pytest

import graftsim
from graftsim import matrices
from graftsim.bounds import Bounds, arbitrary
from graftsim.errors import GraftsimError
from graftsim.machines import Library

LAYOUT = {"w": (3, 4), "b": (5,), "s": (), "none": (0, 2)}


def run(expression: str, steps: int = 4, dtype: str = "float64"):
    program = graftsim.build(expression, LAYOUT, dtype)
    engine, rng = graftsim.Engine(program), np.random.default_rng(1)
    weights, state = rng.normal(size=program.layout.size).astype(dtype), engine.initial_state()
    for step in range(1, steps + 1):
        gradient = rng.normal(size=program.layout.size).astype(dtype)
        found = engine.step(weights, gradient, state, step)
        yield program, weights, gradient, state, found
        weights, state = found.weights, found.state


def power(matrix, exponent):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**exponent) @ vectors.T


def test_shampoo_is_its_formula() -> None:
    sums = {"l": 0.25 * np.eye(3), "r": 0.25 * np.eye(4), "b": 0.25 * np.eye(5), "s": 0.25 * np.eye(1)}
    for _, _, gradient, _, found in run("shampoo(lr=0.5, eps=0.25)"):
        g, b, s = gradient[:12].reshape(3, 4), gradient[12:17], gradient[17:18]
        sums["l"] += g @ g.T
        sums["r"] += g.T @ g
        sums["b"] += np.outer(b, b)
        sums["s"] += np.outer(s, s)
        steps = [
            power(sums["l"], -0.25) @ g @ power(sums["r"], -0.25),
            power(sums["b"], -0.5) @ b,
            power(sums["s"], -0.5) @ s,
        ]
        wanted = -0.5 * np.concatenate([part.reshape(-1) for part in steps])
        assert np.abs(found.delta - wanted).max() < 1e-14  # a product of three matrices of size 5 and norm 3


def test_blocks_lie_one_after_another_in_c_order() -> None:
    """l of each tensor is rows by rows: 3 by 3, and 1 by 1 below rank 2; none has no rows."""
    *_, (program, _, _, state, _) = run("shampoo(eps=0.25)", steps=2)
    assert program.slots["l"].shape(program.layout) == (9 + 1 + 1 + 0,)
    assert program.slots["r"].shape(program.layout) == (16 + 25 + 1 + 4,)
    first = next(run("shampoo(eps=0.25)", steps=1))[2]
    g = first[:12].reshape(3, 4)
    assert np.allclose(state["l"][:9].reshape(3, 3), 0.25 * np.eye(3) + g @ g.T, rtol=1e-15)
    assert state["l"][9] == pytest.approx(0.25 + first[12:17] @ first[12:17], rel=1e-15)


@pytest.mark.parametrize("machine", ["shampoo", "full_adagrad", "adam#shampoo"])
def test_rank_three_is_refused_by_name(machine: str) -> None:
    with pytest.raises(GraftsimError, match=r"made of tensors of rank 2 and below; k has shape \(2, 3, 4\)"):
        graftsim.build(machine, {"w": (2, 3), "k": (2, 3, 4)})


WRONG = {
    "no product": ("d = g @ g", "'rows' by|rows by cols and rows by cols have no product"),
    "a matrix of no coordinates": ("d = g @ transpose(g)", "is no step of the weights|is matrix of rows by rows"),
    "other shapes": ("d = (g @ transpose(g)) + (transpose(g) @ g)", "matrices must have one shape"),
    "a power of no square": ("d = matrix_power(transpose(g), -1, 0)", "takes a square matrix"),
    "a matrix of a scalar": ("d = transpose(lr)", "it takes matrices"),
    "the identity of a number": ("d = identity(3) @ g", "identity takes rows, cols or size"),
    "flat twice": ("d = flat(flat(g))", "flat takes coordinates"),
}


@pytest.mark.parametrize(("equation", "problem"), WRONG.values(), ids=WRONG)
def test_kinds_of_matrices(equation: str, problem: str, tmp_path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(
        "machine: odd\ntitle: t\nsource: s\nhyperparameters: {lr: {default: 1}}\n"
        f"step: ['{equation}', 'delta = d']\n"
    )
    with pytest.raises(GraftsimError, match=problem):
        graftsim.build("odd", {"w": (3, 4)}, machines=Library([file]))


def test_the_power_drops_what_counts_as_zero() -> None:
    """A matrix of rank 1 and size 3: noise of 1e-17 in its kernel would be raised to 1e8 without the cutoff."""
    vector = np.array([1.0, -2.0, 0.5])
    a = np.outer(vector, vector)
    found = matrices.power(a, -0.5, 1e-12)
    assert np.allclose(found, a / np.linalg.norm(vector) ** 3, rtol=1e-14, atol=1e-16)
    assert np.abs(matrices.power(np.zeros((2, 2)), -0.5, 0.0)).max() == 0
    assert np.isnan(matrices.power(np.array([[1.0, np.inf], [np.inf, 1.0]]), -0.5, 0.0)).all()


@pytest.mark.parametrize("exponent", [-0.25, -0.5, -1.0, 0.5])
def test_the_movement_covers_a_perturbation(exponent: float) -> None:
    """Entries moved by at most e: the power must stay within the first-order bound, and come near it."""
    rng = np.random.default_rng(3)
    near = 0.0
    for _ in range(50):
        root = rng.normal(size=(4, 4))
        a, e = root @ root.T + 0.1 * np.eye(4), 1e-9
        noise = rng.uniform(-e, e, (4, 4))
        moved = np.abs(
            matrices.power(a + (noise + noise.T) / 2, exponent, 0.0) - matrices.power(a, exponent, 0.0)
        ).max()
        bound = matrices.movement(a, np.full((4, 4), e), exponent, 0.0, 2.0**-53)
        assert moved <= bound
        near = max(near, moved / bound)
    assert near > 0.05


def test_an_eigenvalue_at_the_cutoff_decides_nothing() -> None:
    a = np.diag([1.0, 1e-3])
    assert matrices.movement(a, np.zeros((2, 2)), -0.5, 1e-3, 2.0**-53) == np.inf
    assert matrices.movement(a, np.zeros((2, 2)), -0.5, 1e-4, 2.0**-53) < 1e-9


def test_the_oracle_has_the_same_power() -> None:
    mpmath.mp.dps = 30
    numbers = arbitrary(40)
    a = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 5.0]])
    exact = numbers.matrix_power(numbers.make(a), -0.25, 0.0)
    assert np.abs(exact.astype(float) - matrices.power(a, -0.25, 0.0)).max() < 1e-15


def test_each_tensor_is_whole_where_another_is_missing() -> None:
    """A tensor without a gradient keeps its matrices."""
    program = graftsim.build("full_adagrad", LAYOUT)
    engine = graftsim.Engine(program)
    state = engine.initial_state()
    gradients = [np.ones((3, 4)), None, np.ones(()), np.zeros((0, 2))]
    found = engine.step(np.zeros(18), gradients, state, 1)
    assert found.state["a"][:144].all()
    assert not found.state["a"][144:169].any()
    assert not found.delta[12:17].any()


def test_bounds_of_a_float32_run_are_wider() -> None:
    """They count a framework's own roundings in its dtype."""
    errors = []
    for dtype in ("float32", "float64"):
        *_, (program, weights, gradient, state, _) = run("shampoo(eps=0.25)", dtype=dtype)
        bounds = Bounds(program)
        exact = {path: bounds.exact(value) for path, value in state.items()}
        moved, _ = bounds.step(bounds.exact(weights), program.layout.unflatten(gradient), exact, 4)
        errors.append(moved.error.max())
    assert 2**25 < errors[0] / errors[1] < 2**32
