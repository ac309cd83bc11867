"""What a graft costs beside its two children: ``python -m graftsim_jax.benchmark``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import optax

from graftsim_jax.graft import graft


class Stepper:
    """A jitted update that keeps its state from call to call."""

    def __init__(self, update: Callable[..., Any], gradients: Any, state: Any) -> None:
        self.update, self.gradients, self.state = jax.jit(update), gradients, state

    def __call__(self) -> Any:
        """The updates of the next step, computed."""
        updates, self.state = jax.block_until_ready(self.update(self.gradients, self.state))
        return updates


def steppers(coordinates: int, tensors: int, adam_lr: float = 1e-3) -> dict[str, Stepper]:
    """The contestants, on the same float32 gradients in tensors of one size.

    Returns:
        ``graft``: ``graft(adam, sgd)``; ``both``: its children in one jit, both updates kept; ``adam``: Adam alone.
    """
    magnitude, direction = optax.adam(adam_lr), optax.sgd(1.0)
    gradients = list(jax.random.normal(jax.random.key(0), (tensors, coordinates // tensors)))

    def both(updates: Any, state: Any) -> Any:
        m, first = magnitude.update(updates, state[0])
        d, second = direction.update(updates, state[1])
        return (m, d), (first, second)

    grafted = graft(magnitude, direction)
    return {
        "graft": Stepper(grafted.update, gradients, grafted.init(gradients)),
        "both": Stepper(both, gradients, (magnitude.init(gradients), direction.init(gradients))),
        "adam": Stepper(magnitude.update, gradients, magnitude.init(gradients)),
    }


def ratios(coordinates: int = 10_000_000, tensors: int = 50, repeats: int = 20) -> dict[str, float]:
    """Times of one jitted update of ``graft(adam, sgd)`` and of its children alone, as quotients.

    All three run in one process in turn, so what else the machine does meets all.

    Returns:
        ``graft/both``: the median of quotients to both children's updates in one jit, both kept; ``graft/adam``: to
        Adam alone; ``milliseconds``: of the graft, the median.
    """
    rivals = steppers(coordinates, tensors)
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for repeat in range(repeats + 1):
        for name, step in rivals.items():
            start = time.perf_counter()
            step()
            if repeat:  # the first compiles
                times[name].append(time.perf_counter() - start)

    def quotient(other: str) -> float:
        return statistics.median(a / b for a, b in zip(times["graft"], times[other], strict=True))

    found = {f"graft/{other}": quotient(other) for other in ("both", "adam")}
    return {**found, "milliseconds": 1e3 * statistics.median(times["graft"])}


if __name__ == "__main__":
    for name, value in ratios().items():
        print(f"{name:<12} {value:8.2f}")
