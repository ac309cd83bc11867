"""Variables and gradients of several shapes, plain runs of Keras optimizers, and the reference beside a graft."""

import keras
import numpy as np
import pytest
from keras import ops

import graftsim
from graftsim.bounds import Bounds
from graftsim_tf import Graft

SHAPES = {"bias": (3,), "kernel": (4, 3), "empty": (0, 2), "out": (2, 3, 2), "scalar": ()}
BUDGET = 4
"""How many first-order bounds a step may lie off (spec/arithmetic.md, Budgets)."""

BACKEND = keras.backend.backend()
DTYPES = ("float32",) if BACKEND == "jax" else ("float32", "float64")
"""JAX's 64-bit mode is off, as it is by default."""

sgd, adam = keras.optimizers.SGD, keras.optimizers.Adam


def split(flat) -> list:
    """The coordinates of all tensors as arrays, in order."""
    ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES.values()])
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), SHAPES.values(), strict=True)]


def weights(dtype="float32"):
    size = sum(int(np.prod(shape)) for shape in SHAPES.values())
    return np.random.default_rng(1).standard_normal(size).astype(dtype)


def gradients(dtype="float32", steps=4):
    """Over several magnitudes, with a coordinate and, at the first step, a whole tensor that is zero."""
    rng, size = np.random.default_rng(3), weights().size
    found = rng.standard_normal((steps, size)) * 10.0 ** rng.integers(-3, 3, (steps, size))
    found[0, 3:15] = 0  # kernel
    found[1, 0] = 0
    return found.astype(dtype)


def made(start, dtype="float32", empty=False) -> list:
    """Variables; the empty one is left out unless it is wanted, since Keras's own arithmetic fails on it."""
    named = zip(SHAPES, split(start), strict=True)
    return [keras.Variable(part, dtype=dtype, name=name) for name, part in named if part.size or empty]


def tensors(flat, empty=False) -> list:
    return [ops.convert_to_tensor(part) for part in split(flat) if part.size or empty]


def flat(variables) -> np.ndarray:
    return np.concatenate([np.asarray(ops.convert_to_numpy(v)).reshape(-1) for v in variables])


def run(optimizer, dtype="float32", steps=None, start=None):
    """The weights after some steps."""
    variables = made(weights(dtype) if start is None else start, dtype)
    for gradient in gradients(dtype) if steps is None else steps:
        optimizer.apply(tensors(gradient), variables)
    return flat(variables)


def same(a, b) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)


def assert_raises(error, text, function) -> None:
    with pytest.raises(error) as raised:
        function()
    assert text in str(raised.value), raised.value
    assert "\n" not in str(raised.value)


def recorded(info) -> dict:
    """The info of a graft or machine, by the names of the spec."""
    if info is None or isinstance(info, dict):
        return info or {}
    return {name: getattr(info, name) for name in ("n_m", "n_d", "ratio")}


def follow(machine: str, optimizer: Graft, dtype: str, compiled=lambda function: function) -> None:
    """Run an optimizer beside the reference: every step and norm within the bound."""
    names = dict(zip(SHAPES, SHAPES.values(), strict=True))
    program = graftsim.build(machine, names, dtype)
    engine, bounds = graftsim.Engine(program), Bounds(program)
    state, start = engine.initial_state(), weights(dtype)
    variables = made(start, dtype, empty=True)
    optimizer.build(variables)
    apply = compiled(lambda *grads: optimizer.apply(list(grads), variables))
    for step, gradient in enumerate(gradients(dtype), 1):
        exact = {path: bounds.exact(value) for path, value in state.items()}
        _, want = bounds.step(bounds.exact(start), program.layout.unflatten(gradient), exact, step)
        for variable, part in zip(variables, split(start), strict=True):
            variable.assign(part)
        apply(*tensors(gradient, empty=True))
        out = engine.step(start, gradient, state, step)
        moved = flat(variables).astype(float)
        exactly = start.astype(float) + np.asarray(want.delta.value, float)
        unit = float(np.finfo(dtype).eps) / 2
        room = step * BUDGET * np.asarray(want.delta.error, float) + unit * np.abs(exactly) * (1 + 1e-6)
        assert (np.abs(moved - exactly) <= room).all(), (step, np.max(np.abs(moved - exactly) / room))
        for name, got in recorded(optimizer.info).items():
            of = want.info[name if name in want.info else f"inner.{name}"]
            kept = 2.0**-24 * np.abs(of.value) if BACKEND == "jax" else 0  # info is float32 there
            assert (np.abs(got - of.value) <= step * BUDGET * of.error + kept).all(), (step, name)
        start, state = out.weights, out.state
