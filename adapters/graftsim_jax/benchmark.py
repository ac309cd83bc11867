"""What a graft costs beside its two children: ``python -m graftsim_jax.benchmark``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import optax

from graftsim_jax.graft import graft


def ratios(coordinates: int = 10_000_000, tensors: int = 50, repeats: int = 20) -> dict[str, float]:
    """Times of one jitted update of ``graft(adam, sgd)`` and of its children alone, as quotients.

    All three run in one process in turn, with float32, so what else the machine does meets all.

    Returns:
        ``graft/both``: the median of quotients to both children's updates in one jit, both kept; ``graft/adam``: to
        Adam alone; ``milliseconds``: of the graft, the median.
    """
    magnitude, direction = optax.adam(1e-3), optax.sgd(1.0)
    shape = (tensors, coordinates // tensors)
    gradients = list(jax.random.normal(jax.random.key(0), shape))

    def both(updates: Any, state: Any) -> Any:
        m, first = magnitude.update(updates, state[0])
        d, second = direction.update(updates, state[1])
        return (m, d), (first, second)

    grafted = graft(magnitude, direction)
    rivals = {
        "graft": (grafted.update, grafted.init(gradients)),
        "both": (both, (magnitude.init(gradients), direction.init(gradients))),
        "adam": (magnitude.update, magnitude.init(gradients)),
    }
    runs = {name: (jax.jit(update), state) for name, (update, state) in rivals.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, (update, state) in runs.items():
            seconds, state = _timed(update, gradients, state)
            runs[name] = (update, state)
            if repeat:  # the first compiles
                times[name].append(seconds)

    def quotient(other: str) -> float:
        return statistics.median(a / b for a, b in zip(times["graft"], times[other], strict=True))

    found = {f"graft/{other}": quotient(other) for other in ("both", "adam")}
    return {**found, "milliseconds": 1e3 * statistics.median(times["graft"])}


def _timed(update: Callable[..., Any], gradients: Any, state: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    updates, state = jax.block_until_ready(update(gradients, state))
    del updates
    return time.perf_counter() - start, state


if __name__ == "__main__":
    for name, value in ratios().items():
        print(f"{name:<12} {value:8.2f}")
