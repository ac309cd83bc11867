"""Parameters and gradients of several shapes, and the reference beside them."""

import jax
import jax.numpy as jnp
import numpy as np

import graftsim
from graftsim.bounds import Bounds

SHAPES = {"dense.bias": (3,), "dense.kernel": (4, 3), "empty": (0, 2), "out": (2, 3, 2), "scalar": ()}
"""In the order in which JAX flattens the tree."""
BUDGET = 4
"""How many first-order bounds a step may lie off (spec/arithmetic.md, Budgets)."""


def tree(flat) -> dict:
    """A nested tree with a None leaf, of the coordinates of one flat array."""
    parts, start = {}, 0
    for name, shape in SHAPES.items():
        size = int(np.prod(shape))
        parts[name] = jnp.asarray(flat[start : start + size].reshape(shape))
        start += size
    dense = {"kernel": parts.pop("dense.kernel"), "bias": parts.pop("dense.bias")}
    return {"dense": dense, **parts, "nothing": None}


def flat(tree) -> np.ndarray:
    return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(tree)])


def size() -> int:
    return sum(int(np.prod(shape)) for shape in SHAPES.values())


def gradients(dtype, steps: int = 4) -> np.ndarray:
    """Over several magnitudes, with a coordinate and, at the first step, a whole tensor that is zero."""
    rng = np.random.default_rng(3)
    found = rng.standard_normal((steps, size())) * 10.0 ** rng.integers(-3, 3, (steps, size()))
    found[0, 3:15] = 0  # dense.kernel
    found[1, 0] = 0
    return found.astype(dtype)


class Reference:
    """The reference engine, with the bounds of its steps."""

    def __init__(self, machine: str, dtype, shapes=SHAPES, start: float = 0.5) -> None:
        self.program = graftsim.build(machine, shapes, dtype)
        self.engine, self.bounds = graftsim.Engine(self.program), Bounds(self.program)
        self.weights = np.full(self.program.layout.size, start, dtype)
        self.state, self.steps = self.engine.initial_state(), 0

    def step(self, gradient):
        """The bounded outcome of the next step; then take it."""
        self.steps += 1
        exact = {path: self.bounds.exact(value) for path, value in self.state.items()}
        parts = self.program.layout.unflatten(gradient)
        _, found = self.bounds.step(self.bounds.exact(self.weights), parts, exact, self.steps)
        out = self.engine.step(self.weights, gradient, self.state, self.steps)
        self.weights, self.state = out.weights, out.state
        return found


def distance(want, got) -> float:
    """The largest distance from the reference, in units of its first-order bound; NaN agrees with NaN only."""
    value, error = np.asarray(want.value, float), np.asarray(want.error, float)
    got = np.asarray(got, float)
    assert (np.isnan(value) == np.isnan(got)).all()
    gap = np.where(np.isnan(value) | (value == got), 0, np.abs(np.where(np.isnan(value), 0, value) - got))
    return float(np.max(np.where(gap == 0, 0, gap / np.where(error > 0, error, 1e-320)), initial=0))
