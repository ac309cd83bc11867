"""``graftsim_jax``'s graft of optax's Adam and SGD, jitted, beside both of them without a graft (kind ``jax``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from graftsim.bench import machine
from graftsim.bench.cases import Case
from graftsim.bench.field import Field, difference
from graftsim.bench.timing import Absent, Contestant
from graftsim.layouts import Array

BOUND = 2.0**-23
"""A graft rounds its children's steps once; Adam's own may be fused otherwise in another compilation."""

NAMES = {"graft": "graft(adam, sgd)", "both": "optax Adam and SGD, one jit", "adam": "optax Adam"}
NO_OPTAX = "not installed: pip install graftsim[jax]"


def prepare(case: Case, threads: int) -> Field:
    """The contestants; XLA takes the threads it likes. A copy of the gradients shows what one read and write cost."""
    del threads
    source = np.ones(case.values["size"], np.float32)
    target = np.empty_like(source)
    copy = Contestant("copy of the gradients", lambda: np.copyto(target, source), 1)
    if not machine.has("optax"):
        return Field([copy], dict, [Absent(name, NO_OPTAX) for name in NAMES.values()])
    from graftsim_jax import benchmark

    rivals = benchmark.steppers(case.values["size"], case.values["tensors"], case.values["adam_lr"])

    def check() -> dict[str, float]:
        got, (magnitude, direction) = rivals["graft"](), rivals["both"]()
        rivals["adam"]()
        want = [_grafted(m, d) for m, d in zip(magnitude, direction, strict=True)]
        pairs = zip(map(np.asarray, got), want, strict=True)
        return {NAMES["graft"]: max(difference(NAMES["graft"], a, b, BOUND) for a, b in pairs)}

    contestants = [*(Contestant(NAMES[name], step, 1) for name, step in rivals.items()), copy]
    return Field(contestants, check, remarks=["every contestant's step is jitted and keeps its state"])


def _grafted(m: Any, d: Any) -> Array:
    wide_m, wide_d = (np.asarray(x, np.float64) for x in (m, d))
    found: Array = np.linalg.norm(wide_m) / np.linalg.norm(wide_d) * wide_d
    return found
