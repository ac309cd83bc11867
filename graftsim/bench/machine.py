"""What the times were measured on, and with what."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIBRARIES = ("graftsim", "numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "optax", "threadpoolctl")


def describe() -> dict[str, Any]:
    """CPU, cores, system, and the versions of what takes part (null where it is not installed)."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def load() -> list[float] | None:
    """The load averages over 1, 5 and 15 minutes, where the system has them."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


def has(library: str) -> bool:
    """Whether a library is installed."""
    return importlib.util.find_spec(library) is not None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS uses one thread meanwhile, where threadpoolctl is there to tell it."""
    if not has("threadpoolctl"):
        yield
        return
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


def blas() -> str:
    """On how many threads :func:`one_blas_thread` makes BLAS work, in words."""
    return "1 thread" if has("threadpoolctl") else "as many threads as BLAS likes (threadpoolctl is not installed)"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    """The model's name: Linux keeps it in a file, others in platform."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
