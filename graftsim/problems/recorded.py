"""A recorded stream of gradients, read from a file: what a real training run saw, without the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import archives, sums
from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim.problems.problem import Gradients, Numbers, expression

BYTES = 1 << 30
PRESENT, START = "@present", "@start"


@dataclass(frozen=True)
class Recorded:
    """The gradients of a ``.npz`` archive of at most 1 GiB, whatever the weights are.

    For each tensor NAME it holds an array ``NAME`` of shape (steps, ...), float32 or float64. There may be
    ``NAME@present``, booleans of shape (steps,), False where the tensor had no gradient, and ``NAME@start``, the
    weights before the first step (zero by default). In a run of the other dtype values are rounded once.
    """

    path: str

    def __str__(self) -> str:
        return expression("recorded", self)

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the file holds, checked."""
        return _checked(archives.read(Path(self.path), BYTES), self.path)

    @cached_property
    def layout(self) -> Layout:
        return Layout.of({name: array.shape[1:] for name, array in self.arrays.items() if "@" not in name})

    @cached_property
    def steps(self) -> int:
        """How many gradients there are."""
        return len(self.arrays[self.layout.names[0]])

    def start(self, seed: int, dtype: Any) -> Array:
        parts = [
            np.asarray(self.arrays.get(name + START, np.zeros(shape)), dtype) for name, shape in self.layout.tensors
        ]
        return self.layout.flatten(parts, np.dtype(dtype))

    def gradients(self, weights: Array, step: int, seed: int) -> Gradients:
        if step > self.steps:
            raise GraftsimError(f"{self.path} holds the gradients of {self.steps} steps; step {step} was asked for")
        return [self._gradient(name, step - 1, weights.dtype) for name in self.layout.names]

    def _gradient(self, name: str, row: int, dtype: np.dtype[Any]) -> Array | None:
        present = self.arrays.get(name + PRESENT)
        if present is not None and not present[row]:
            return None
        return np.asarray(self.arrays[name][row]).astype(dtype)

    def loss(self, weights: Array) -> float:
        """Not known from gradients: NaN."""
        return math.nan

    def measures(self, weights: Array) -> Numbers:
        return {"norm of weights": sums.norm(weights)}

    def predictions(self) -> dict[str, Numbers]:
        return {}


def _checked(arrays: dict[str, NDArray[Any]], path: str) -> dict[str, NDArray[Any]]:
    streams = {name: array for name, array in arrays.items() if "@" not in name}
    if not streams:
        raise GraftsimError(
            f"{path}: there must be an array of gradients, of shape (steps, ...); found {sorted(arrays)}"
        )
    first = next(iter(streams))
    for name, array in streams.items():
        if array.dtype not in (np.float32, np.float64) or array.ndim == 0:
            raise GraftsimError(
                f"{path}: {name!r} must be float32 or float64 of shape (steps, ...); it is {array.dtype} {array.shape}"
            )
        if len(array) != len(streams[first]):
            raise GraftsimError(
                f"{path}: all tensors must have as many steps; {first!r} has {len(streams[first])}, "
                f"{name!r} has {len(array)}"
            )
    for key, array in arrays.items():
        name, at, what = key.partition("@")
        shape = {"present": (len(streams[first]),), "start": streams[name].shape[1:] if name in streams else ()}
        if not at:
            continue
        if name not in streams or what not in shape:
            raise GraftsimError(f"{path}: {key!r} must be NAME{PRESENT} or NAME{START} of a tensor {sorted(streams)}")
        if array.shape != shape[what] or (array.dtype.kind != ("b" if what == "present" else "f")):
            kind = "booleans" if what == "present" else "floats"
            raise GraftsimError(
                f"{path}: {key!r} must be {kind} of shape {shape[what]}; it is {array.dtype} {array.shape}"
            )
    return arrays


def recorded(path: Any = None) -> Recorded:
    """The file is read, and checked, when the problem is first used."""
    if not isinstance(path, str) or not path:
        raise GraftsimError(f"recorded, path: must be the path of an .npz file; received {path!r}")
    return Recorded(path)
