"""optax's Adam and SGD, grafted tensor by tensor as one writes it by hand, in ``jit`` and ``lax.scan``, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from graftsim.bench.workload import MOMENTUM
from graftsim.layouts import Array

Norms = tuple[Any, Any, Any]


def graft(adam: Any, momentum: Any, gradient: Any, state: Any) -> tuple[Any, Any, Norms]:
    """One step on one tensor: (step, state, (both norms, ratio))."""
    first, second = state
    magnitude, first = adam.update(gradient, first)
    direction, second = momentum.update(gradient, second)
    n_m, n_d = jnp.linalg.norm(magnitude), jnp.linalg.norm(direction)
    ratio = jnp.where(n_d == 0, 0.0, n_m / n_d)
    return ratio * direction, (first, second), (n_m, n_d, ratio)


def whole(adam_lr: Any, momentum_lr: Any, h: Any, steps: int, record: bool) -> Any:
    """A run on sum(h w^2) / 2 from ones; its gradient is written out. Rows of the record, or the end."""
    adam, momentum = optax.adam(adam_lr), optax.sgd(momentum_lr, momentum=MOMENTUM)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        w, state = carry
        gradient = h * w
        delta, state, (n_m, n_d, ratio) = graft(adam, momentum, gradient, state)
        row = jnp.stack([0.5 * (w * gradient).sum(), n_m, n_d, ratio]) if record else None
        return (w + delta, state), row

    w = jnp.ones_like(h)
    (w, _), rows = jax.lax.scan(step, (w, (adam.init(w), momentum.init(w))), None, length=steps)
    return rows if record else w


def runner(adam_lr: float, momentum_lr: float, h: Array, steps: int, record: bool) -> Callable[[], Array]:
    """A jitted run: rows (steps, 4) of loss, n_m, n_d, ratio, or the last weights."""
    with jax.enable_x64(True):
        given = jnp.asarray(h)

        def run(lr: Any, lr_of_momentum: Any, spectrum: Any) -> Any:
            return whole(lr, lr_of_momentum, spectrum, steps, record)

        jitted = jax.jit(run)
    return _in_double(lambda: jitted(adam_lr, momentum_lr, given))


def many(adam_lrs: Array, momentum_lr: float, h: Array, steps: int) -> Callable[[], Array]:
    """A jitted, vmapped run: rows (members, steps, 4)."""
    with jax.enable_x64(True):
        given, rates = jnp.asarray(h), jnp.asarray(adam_lrs)
        jitted = jax.jit(jax.vmap(lambda lr: whole(lr, momentum_lr, given, steps, True)))
    return _in_double(lambda: jitted(rates))


def _in_double(work: Callable[[], Any]) -> Callable[[], Array]:
    def run() -> Array:
        with jax.enable_x64(True):
            return np.asarray(jax.block_until_ready(work()))

    return run
