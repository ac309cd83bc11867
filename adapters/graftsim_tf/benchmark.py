"""What a graft costs beside its two children: ``python -m graftsim_tf.benchmark``, on Keras's tensorflow backend."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from graftsim_tf.graft import Graft


def ratios(coordinates: int = 10_000_000, tensors: int = 50, repeats: int = 200, jit: bool = True) -> dict[str, float]:
    """Times of one compiled step of the graft of Adam and SGD and of its children, as quotients.

    All run in one process in turn, with float32, so what else the machine does meets all.

    Returns:
        ``graft/both``: the median of quotients to both Keras optimizers applied one after the other in one function;
        ``graft/both, least``: the quotient of the least times; ``graft/adam``: as the first, to Adam alone;
        ``milliseconds``: of the graft, the median.
    """
    optimizers = keras.optimizers
    rivals = {
        "graft": [Graft(optimizers.Adam(1e-3), optimizers.SGD(1.0))],
        "both": [optimizers.Adam(1e-3), optimizers.SGD(1.0)],
        "adam": [optimizers.Adam(1e-3)],
    }
    rng = np.random.default_rng(0)
    gradients = [tf.constant(rng.standard_normal(coordinates // tensors), tf.float32) for _ in range(tensors)]
    runs = {name: _step(rival, gradients, jit) for name, rival in rivals.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run().numpy()
            if repeat:  # the first compiles
                times[name].append(time.perf_counter() - start)

    def quotient(other: str) -> float:
        return statistics.median(a / b for a, b in zip(times["graft"], times[other], strict=True))

    found = {f"graft/{other}": quotient(other) for other in ("both", "adam")}
    found["graft/both, least"] = min(times["graft"]) / min(times["both"])
    return {**found, "milliseconds": 1e3 * statistics.median(times["graft"])}


def _step(optimizers: list[Any], gradients: list[Any], jit: bool) -> Callable[[], Any]:
    """A compiled step of optimizers, one after the other, on variables of their own."""
    variables = [keras.Variable(gradient) for gradient in gradients]
    for optimizer in optimizers:
        optimizer.build(variables)

    def step() -> Any:
        for optimizer in optimizers:
            optimizer.apply(gradients, variables)
        return variables[0].value[0]

    return tf.function(step, jit_compile=jit)  # type: ignore[no-any-return]


if __name__ == "__main__":
    for jit in (True, False):
        print("with XLA" if jit else "without XLA")
        for name, value in ratios(jit=jit).items():
            print(f"  {name:<17} {value:8.2f}")
