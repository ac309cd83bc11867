"""What each kind of case is made into: contestants that take turns, a check of what they compute, and remarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from graftsim.bench.timing import Absent, Contestant
from graftsim.errors import GraftsimError
from graftsim.layouts import Array

Check = Callable[[], Mapping[str, float]]


@dataclass
class Field:
    """The contestants of a case.

    ``check`` runs each of them on the same work and returns the largest difference of each from what is expected.
    """

    contestants: list[Contestant]
    check: Check
    absent: list[Absent] = field(default_factory=list)
    unit: str = "step"
    remarks: list[str] = field(default_factory=list)
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    """What holds while they take turns."""


def difference(name: str, got: Array, want: Array, bound: float) -> float:
    """The largest distance between two arrays, relative to the largest value.

    Raises:
        GraftsimError: it is above the bound, or not a number: a benchmark of a wrong computation is worthless.
    """
    if got.shape != want.shape:
        raise GraftsimError(f"bench: {name!r} must give shape {want.shape}; it gives {got.shape}")
    scale = float(np.max(np.abs(want))) or 1.0
    found = float(np.max(np.abs(got.astype(np.float64) - want))) / scale
    if not found <= bound:
        raise GraftsimError(
            f"bench: {name!r} must agree with the equations within {bound:g}; it differs by {found:.3g}"
        )
    return found
