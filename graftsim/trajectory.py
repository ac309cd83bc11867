"""The record of a run, and its file (``spec/trajectories.md``)."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import archives
from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout

FORMAT = 1
BYTES = 1 << 32
"""The largest record that is kept in memory or read from a file, 4 GiB."""


@functools.cache
def versions() -> dict[str, str]:
    """What a run was made with."""
    return {
        "graftsim": importlib.metadata.version("graftsim"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


@dataclass(frozen=True)
class Meta:
    """What was run. ``machine`` and ``problem`` are expressions with every setting."""

    machine: str
    problem: str
    layout: Layout
    dtype: str
    seed: int
    record_every: int
    keep_every: int
    complete: bool
    """Whether the run came to its end; False where it was interrupted."""
    groups: Mapping[str, tuple[str, ...]]
    """The names of the groups of each info path."""
    versions: Mapping[str, str] = field(default_factory=versions)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """R + 1 recorded moments of a run, K + 1 of them with weights and state; row 0 is the start.

    Losses and info stand at every ``record_every``-th step and at the last, weights (n coordinates) and state at every
    ``keep_every``-th and at the last. Two trajectories hold the same bits exactly where their digests are equal.
    """

    meta: Meta
    steps: NDArray[np.int64]
    """The step after which each row was recorded, shape (R + 1,); the first is 0."""
    kept: NDArray[np.int64]
    """The step after which each row of weights and state stands, shape (K + 1,); the first is 0."""
    weights: Array
    """Shape (K + 1, n), of the run's dtype."""
    loss: NDArray[np.float64]
    """Shape (R + 1,)."""
    state: Mapping[str, Array]
    """By path: shape (K + 1, k)."""
    info: Mapping[str, NDArray[np.float64]]
    """By path, such as ``ratio`` or ``magnitude.ratio``: shape (R, groups), of the recorded steps from 1 on."""

    @property
    def last(self) -> Array:
        """The weights at the end, shape (n,)."""
        last: Array = self.weights[-1]
        return last

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over what was run and every value, with one NaN for all; versions are left out."""
        found = hashlib.sha256(_json({**_described(self.meta), "versions": None}))
        for name, array in self._arrays().items():
            found.update(_json([name, array.dtype.str.lstrip("<>=|"), list(array.shape)]))
            found.update(_canonical(array))
        return found.hexdigest()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "steps": self.steps,
            "kept": self.kept,
            "weights": self.weights,
            "loss": self.loss,
            **{f"state/{path}": self.state[path] for path in sorted(self.state)},
            **{f"info/{path}": self.info[path] for path in sorted(self.info)},
        }

    def row(self, step: int) -> int:
        """The row that was recorded after a step.

        Raises:
            GraftsimError: that step was not recorded.
        """
        return self._row(self.steps, step, "recorded", self.meta.record_every)

    def kept_row(self, step: int) -> int:
        """The row of weights and state after a step.

        Raises:
            GraftsimError: they were not kept there.
        """
        return self._row(self.kept, step, "kept", self.meta.keep_every)

    @staticmethod
    def _row(steps: NDArray[np.int64], step: int, what: str, every: int) -> int:
        row = int(np.searchsorted(steps, step))
        if row == len(steps) or steps[row] != step:
            raise GraftsimError(f"step {step} must be one that was {what}: every {every} from 0 to {steps[-1]}")
        return row

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` archive, atomically; ``numpy.load`` reads it too."""
        text = _json({"format": FORMAT, "digest": self.digest, **_described(self.meta)})
        archives.write(Path(path), {"meta": np.frombuffer(text, np.uint8), **self._arrays()})


def load(path: str | Path) -> Trajectory:
    """Read what :meth:`Trajectory.save` wrote.

    Raises:
        GraftsimError: the file is missing, cut short, altered (its digest differs), too large, or not a trajectory.
    """
    arrays = archives.read(Path(path), BYTES)
    try:
        described = json.loads(arrays.pop("meta").tobytes())
        if described.pop("format") != FORMAT:
            raise GraftsimError(f"{path}: a trajectory must have format {FORMAT}; a newer graftsim may read it")
        digest = described.pop("digest")
        meta = Meta(
            **{
                **described,
                "layout": Layout.of(dict(described["layout"])),
                "groups": {info: tuple(names) for info, names in described["groups"].items()},
            }
        )
        parts: dict[str, dict[str, NDArray[Any]]] = {"state": {}, "info": {}}
        for name in list(arrays):
            kind, slash, slot = name.partition("/")
            if slash:
                parts[kind][slot] = arrays.pop(name)
        found = Trajectory(meta, **arrays, **parts)  # type: ignore[arg-type]
        altered = found.digest != digest or not _fits(found)
    except GraftsimError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise GraftsimError(f"{path} must be a trajectory that graftsim saved; parts are missing or misnamed") from None
    if altered:
        raise GraftsimError(f"{path} must be as it was saved; its digest differs: it was altered")
    return found


def _fits(found: Trajectory) -> bool:
    """Whether all arrays have as many rows and columns as the others say."""
    rows, kept, meta = len(found.steps), len(found.kept), found.meta
    return (
        bool(np.isin(found.kept, found.steps).all())
        and found.weights.shape == (kept, meta.layout.size)
        and found.weights.dtype.name == meta.dtype
        and found.loss.shape == (rows,)
        and all(values.shape[:1] == (kept,) for values in found.state.values())
        and {path: (rows - 1, len(names)) for path, names in meta.groups.items()}
        == {path: values.shape for path, values in found.info.items()}
    )


def _described(meta: Meta) -> dict[str, Any]:
    described = {part.name: getattr(meta, part.name) for part in dataclasses.fields(meta)}
    return {**described, "layout": meta.layout.tensors, "groups": dict(meta.groups), "versions": dict(meta.versions)}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _canonical(array: NDArray[Any]) -> bytes:
    """Little-endian bytes in C order; every NaN becomes the one positive quiet NaN."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
