"""What to distrust in a discovered correction: groups without a gradient, and ratios that grow exponentially."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftsim.experiments.discovery.series import Series, Values, smoothed
from graftsim.trajectory import Trajectory

NORM, UNIT = "gradient.norm", "gradient.unit"
"""Where a recording keeps the length of each group's gradient, and the unit roundoff of the gradient's numbers."""

GROWTH = 10.0
"""A series that grows by this factor in the second half of the record may be flagged."""


@dataclass(frozen=True)
class Growth:
    """The line of least squares through the logarithms of a smoothed series in the second half of the record."""

    rate: float
    """Of the logarithm, a step."""
    factor: float
    """By how much the line grows over the window."""
    exponential: bool
    """Whether it grows at least tenfold, and is nearer to an exponential than to a power of the step."""


def growth(steps: NDArray[np.int64], ratios: Values, width: int | None = None) -> Growth | None:
    """Whether one group's ratios, shape (R,), grow exponentially at the end; None for too few above 0 to tell.

    A power of the step would have to be t^3.3 to grow tenfold between half of the record and its end, so that growth
    alone tells most series apart; the comparison of both fits' residuals is for steep powers.
    """
    width = min(51, 2 * (len(steps) // 8) + 1) if width is None else width
    values = smoothed(ratios[:, None], width)[:, 0]
    used = (steps >= steps[-1] / 2) & np.isfinite(values) & (values > 0)
    if used.sum() < 8:
        return None
    t, logs = steps[used].astype(np.float64), np.log(values[used])
    rate, left = _line(t, logs)
    _, left_of_power = _line(np.log(t), logs)
    factor = math.exp(min(rate * float(t[-1] - t[0]), 700.0))
    return Growth(rate, factor, factor >= GROWTH and left < left_of_power)


def _line(x: Values, y: Values) -> tuple[float, float]:
    """(slope, sum of squared residuals) of the line of least squares."""
    a, b = x - x.mean(), y - y.mean()
    slope = float(a @ b) / float(a @ a)
    return slope, float(np.square(b - slope * a).sum())


def shares(trajectory: Trajectory, series: Series) -> tuple[Values, float] | None:
    """For each group its gradient's median share of the whole gradient's length, and the unit roundoff of it.

    None where gradients were not recorded, or over another partition than the graft's.
    """
    if NORM not in trajectory.info or tuple(trajectory.meta.groups[NORM]) != series.groups:
        return None
    rows = np.isin(trajectory.steps[1:], series.steps)
    norms, units = trajectory.info[NORM][rows], trajectory.info[UNIT][rows]
    with np.errstate(all="ignore"):
        found = norms / np.hypot.reduce(norms, axis=1, keepdims=True)
    columns = [column[np.isfinite(column)] for column in found.T]
    medians = np.array([np.median(column) if column.size else np.nan for column in columns])
    return medians, float(np.nanmax(units)) if np.isfinite(units).any() else float("nan")


def null(share: float, unit: float) -> bool:
    """Whether a gradient is nothing but rounding errors: in the median step shorter than u times the whole's length.

    The bias of the keys in attention is such a group: it moves all scores of a query alike, which softmax takes out
    again, so that its true gradient is zero. Adam divides the noise by its own size and takes full steps, and the
    ratio to SGD's becomes absurd: 154101.58 in Table 5 of the 2021 paper, where its neighbours have 378.07 and 37.69.

    What is left of terms that cancel is about u times their length. A wider test, such as sqrt(u), also takes groups
    that are merely slow: at the start of a transformer with small weights the queries' and keys' have a share of 1e-5.
    """
    return share < unit
