"""The exact norm of one array beside NumPy's sums of squares (kind ``norm``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graftsim.bench import machine, workload
from graftsim.bench.cases import Case
from graftsim.bench.field import Field, difference
from graftsim.bench.timing import Contestant
from graftsim.layouts import Array

EXACT = 1e-15
"""Of ours, against a sum in long double: where that is float64 it is summed pairwise, off by a few ulps."""


def prepare(case: Case, threads: int) -> Field:
    """The contestants of a case of kind ``norm``. BLAS is held to one thread where that can be done."""
    from graftsim import fast_sums

    size, dtype = case.values["size"], case.values["dtype"]
    x = workload.gradient(size, dtype)
    starts = np.array([0, size], np.int64)
    works: dict[str, Callable[[], Any]] = {
        "graftsim norm, 1 thread": lambda: fast_sums.norm(x),
        "graftsim norm, all threads": lambda: fast_sums.norms(x, starts, threads)[0],
        "np.dot(x, x)": lambda: np.dot(x, x),
        "np.linalg.norm(x)": lambda: np.linalg.norm(x),
    }
    contestants = [Contestant(name, work, size) for name, work in works.items()]

    def check() -> dict[str, float]:
        for contestant in contestants:
            contestant()
        want = _expected(x)
        in_floats = EXACT + float(size) * float(np.finfo(dtype).eps)
        found = {}
        for name, work in works.items():
            got = np.sqrt(np.float64(work())) if "dot" in name else work()
            bound = EXACT if "graftsim" in name else in_floats
            found[name] = difference(name, np.array([got]), np.array([want]), bound)
        return found

    remarks = [f"np.dot and np.linalg.norm use {machine.blas()}"]
    return Field(contestants, check, unit="element", remarks=remarks, around=machine.one_blas_thread)


def _expected(x: Array) -> float:
    wide = x.astype(np.longdouble)
    return float(np.sqrt((wide * wide).sum()))
