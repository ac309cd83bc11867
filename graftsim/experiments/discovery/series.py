"""Series of ratios: how much longer the magnitude's step is than the direction's, group by group and step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.trajectory import Trajectory

Values = NDArray[np.float64]
WIDTH = 51
"""Of the median filter, as in Figure 6 of the 2021 paper."""


@dataclass(frozen=True, eq=False)
class Series:
    """Lengths of both steps of a graft at R recorded steps in G groups."""

    steps: NDArray[np.int64]
    """Shape (R,), increasing, from 1 on."""
    groups: tuple[str, ...]
    n_m: Values
    """Shape (R, G)."""
    n_d: Values
    """Shape (R, G)."""

    @cached_property
    def ratios(self) -> Values:
        """n_M / n_D, shape (R, G); NaN where the direction's step is zero or the ratio is not finite.

        The ratio that a graft records is 0 at a zero direction, since it is what the step was multiplied by. Here it
        would be a measurement, and there is none.
        """
        with np.errstate(all="ignore"):
            found = self.n_m / self.n_d
        return np.where((self.n_d > 0) & np.isfinite(self.n_d) & np.isfinite(found), found, np.nan)

    @cached_property
    def used(self) -> NDArray[np.int64]:
        """For each group the number of steps that have a ratio."""
        return np.asarray(np.isfinite(self.ratios).sum(axis=0), np.int64)

    @cached_property
    def medians(self) -> Values:
        """For each group the median of its ratios; NaN for a group that has none."""
        columns = [column[np.isfinite(column)] for column in self.ratios.T]
        return np.array([np.median(column) if column.size else np.nan for column in columns])

    def until(self, last: int) -> Series:
        """The steps up to number ``last``."""
        rows = self.steps <= last
        return Series(self.steps[rows], self.groups, self.n_m[rows], self.n_d[rows])

    def together(self) -> Series:
        """The lengths of the whole steps: one group ``all``, whose squares are those of the groups added."""
        whole = [np.hypot.reduce(lengths, axis=1, keepdims=True) for lengths in (self.n_m, self.n_d)]
        return Series(self.steps, ("all",), *whole)


def of(trajectory: Trajectory, path: str = "") -> Series:
    """The series of a recorded graft.

    Args:
        trajectory: the record.
        path: which graft of nested ones: empty for the outermost, ``direction`` or ``magnitude.direction`` inside.

    Raises:
        GraftsimError: no such graft was recorded, or not a single step.
    """
    slots = [f"{path}.{name}" if path else name for name in ("n_m", "n_d")]
    if not set(slots) <= trajectory.info.keys():
        raise GraftsimError(
            f"corrections are discovered from the record of a graft{f' at {path}' if path else ''}; received info "
            f"{sorted(trajectory.info)} of {trajectory.meta.machine[:80] or 'an unnamed run'}"
        )
    n_m, n_d = (trajectory.info[slot] for slot in slots)
    if not len(n_m):
        raise GraftsimError("a record must have steps for corrections to be discovered; this one has none")
    return Series(trajectory.steps[1:], tuple(trajectory.meta.groups[slots[0]]), n_m, n_d)


def discover(trajectory: Trajectory, steps: int | None = None) -> dict[str, float]:
    """For each group the median over recorded steps of |m| / |d|, where the direction was not zero.

    Args:
        trajectory: the record of a run of a graft, whose info has ``n_m`` and ``n_d``.
        steps: only recorded steps up to this number; all by default.

    Raises:
        GraftsimError: no record of a graft, or a group that has no step with a direction and finite norms: it has no
            correction.
    """
    found = of(trajectory)
    found = found if steps is None else found.until(steps)
    for name, used in zip(found.groups, found.used, strict=True):
        if not used:
            raise GraftsimError(
                f"group {name!r} must have a step whose direction is not zero and whose norms are finite; "
                "it has none in this record"
            )
    return dict(zip(found.groups, found.medians.tolist(), strict=True))


def silent(trajectory: Trajectory) -> Mapping[str, int]:
    """The groups whose direction was zero in some recorded steps, and in how many: they did not move there.

    A group that is silent throughout has no gradient at all: it is frozen, unused, or behind a layer of zeros.
    """
    counts = (trajectory.info["n_d"] == 0).sum(axis=0)
    return {name: int(n) for name, n in zip(trajectory.meta.groups["n_d"], counts, strict=True) if n}


def smoothed(values: Values, width: int = WIDTH) -> Values:
    """The running median of each column, shape (R, G) as given; NaN takes no part.

    Edges are reflected about the first and the last row, which are not doubled: the row before the first is the
    second. Padding with zeros, as some filters do, would pull both ends down.

    Raises:
        GraftsimError: a width that is not odd and above 0.
    """
    if width < 1 or width % 2 == 0:
        raise GraftsimError(f"the width of a median filter must be odd and at least 1; received {width}")
    if len(values) < 2:
        return values.copy()
    padded = np.pad(values, ((width // 2, width // 2), (0, 0)), mode="reflect")
    windows = sliding_window_view(padded, width, axis=0)  # (R, G, width)
    found = np.full(values.shape, np.nan)
    seen = np.isfinite(windows).any(axis=-1)
    found[seen] = np.nanmedian(windows[seen], axis=-1)
    return found


def spread(medians: Values) -> float:
    """The orders of magnitude between the largest and the smallest median above 0; NaN where there is none."""
    positive = medians[medians > 0]
    return float(np.log10(positive.max() / positive.min())) if positive.size else float("nan")
