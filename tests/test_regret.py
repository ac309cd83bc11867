"""The 2020 paper's D.2: the regret of AdaGrad with the pseudo-inverse, diagonal and full, with its constants.

For linear losses g_t.w, with H_t the root of sum_{s<=t} g_s g_s^T (or of its diagonal), e_t = w_t - w*, D the largest
size of e_t (in each coordinate for the diagonal), and g_t^T H_t^+ g_t = -g_t.delta_t / lr:

    sum_t g_t^T H_t^+ g_t <= 2 tr H_T                              (the lemma)
    regret = sum_t g_t.e_t <= (D^2 / (2 lr) + lr) tr H_T           (the theorem)

The paper prints H_t without g_t in step t, where g_t need not lie in the range of H_t; then neither holds.
"""

from dataclasses import dataclass

import numpy as np
import pytest

import graftsim
from graftsim.machines import Library

STREAMS = {
    "gaussian": lambda rng, shape: rng.standard_normal(shape),
    "sparse": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.05),
    "rank 2": lambda rng, shape: rng.standard_normal((shape[0], 2)) @ rng.standard_normal((2, shape[1])),
    "heavy tails": lambda rng, shape: rng.standard_cauchy(shape),
    "one hot": lambda rng, shape: np.eye(shape[1])[rng.integers(0, shape[1], shape[0])] * rng.choice([-1.0, 1.0]),
    "constant": lambda rng, shape: np.ones(shape),
    "geometric": lambda rng, shape: 1.5 ** np.arange(shape[0])[:, None] * rng.choice([-1.0, 1.0], shape),
}
DIAGONAL, FULL = "adagrad(eps=0, lr={lr})", "full_adagrad(lr={lr})"
PRINTED = {
    "diagonal": ["delta = -(lr * quotient(g, sqrt(a)))", "a = a + g * g"],
    "full": ["delta = -(lr * (matrix_power(a, -1/2, 1e-14) @ flat(g)))", "a = a + flat(g) @ transpose(flat(g))"],
}
KINDS = {"diagonal": "{kind: coordinate}", "full": "{kind: matrix, shape: [size, size]}"}


@dataclass(frozen=True)
class Outcome:
    regret: float
    curvature: float
    """sum of g_t^T H_t^+ g_t."""
    roots: np.ndarray
    """What tr H_T is the sum of."""
    distances: np.ndarray
    """The largest |w_t - w*| of each coordinate; for the full matrix its Euclidean length."""


def played(machine: str, gradients: np.ndarray, best: np.ndarray, lr: float, library: Library | None = None) -> Outcome:
    """The machine against a stream of linear losses, from w = 0."""
    size = gradients.shape[1]
    program = graftsim.build(machine.format(lr=lr), {"w": (size,)}, machines=library)
    engine = graftsim.Engine(program)
    weights, state, regret, curvature = np.zeros(size), engine.initial_state(), 0.0, 0.0
    errors = []
    for step, gradient in enumerate(gradients, 1):
        errors.append(weights - best)
        out = engine.step(weights, gradient, state, step)
        regret += float(gradient @ errors[-1])
        curvature -= float(gradient @ out.delta) / lr
        weights, state = out.weights, out.state
    sums = state["a"]
    if sums.size == size:
        return Outcome(regret, curvature, np.sqrt(sums), np.max(np.abs(errors), axis=0))
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(sums.reshape(size, size)), 0))
    return Outcome(regret, curvature, roots, np.max(np.linalg.norm(errors, axis=1), keepdims=True))


@pytest.mark.parametrize("machine", [DIAGONAL, FULL], ids=["diagonal", "full"])
@pytest.mark.parametrize("stream", STREAMS)
def test_lemma_and_theorem(stream: str, machine: str) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        gradients = STREAMS[stream](rng, (40, 6))
        best = rng.standard_normal(6)
        for lr in (0.05, 0.3, 1.0, 3.0):
            found = played(machine, gradients, best, lr)
            assert 0 < found.curvature <= 2 * found.roots.sum()
            assert found.regret <= float(((found.distances**2 / (2 * lr) + lr) * found.roots).sum())


def test_the_theorem_is_tight_within_a_factor_of_two() -> None:
    """So that a bound that is much too large would be noticed: one gradient reaches 1 / sqrt(2) of it."""
    found = played(DIAGONAL, np.ones((1, 1)), np.array([-np.sqrt(2)]), 1.0)
    bound = (found.distances[0] ** 2 / 2 + 1) * found.roots[0]
    assert found.regret / bound == pytest.approx(np.sqrt(0.5), rel=1e-15)


@pytest.mark.parametrize("form", PRINTED)
def test_the_printed_order_breaks_the_lemma(form: str, tmp_path) -> None:
    """g = (1e-3, 1, -1): with G of the step before, the sum is 1001, where 2 tr H = 2.83."""
    first, second = PRINTED[form]
    file = tmp_path / "printed.yaml"
    file.write_text(
        "machine: printed\ntitle: as printed\nsource: D.2\nhyperparameters: {lr: {default: 1}}\n"
        f"state: {{a: {KINDS[form]}}}\nstep:\n  - {first}\n  - {second}\n"
    )
    gradients, right = np.array([[1e-3], [1.0], [-1.0]]), DIAGONAL if form == "diagonal" else FULL
    wrong = played("printed(lr={lr})", gradients, np.zeros(1), 1.0, Library([file]))
    assert wrong.curvature > 1000
    assert 2 * wrong.roots.sum() < 2.84
    assert played(right, gradients, np.zeros(1), 1.0).curvature == pytest.approx(1e-3 + 1 + np.sqrt(0.5), abs=1e-6)
