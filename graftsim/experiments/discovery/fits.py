"""Fits of a ratio series: a line c0 + c1 t, and a power c t^alpha, each with what it leaves unexplained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.corrections import STEEPEST, Factor

SINCE = 100
"""The first step of a power fit, where there are enough: a sum of powers is a power in the limit only, and on a
logarithmic axis the first steps would weigh most. The sum of s^-0.46 over s <= t, whose root is the ratio of SGD to
AdaGrad under gradients of size t^-0.23, is read as t^0.275 from t = 100 to 4000, where its limit is t^0.27."""
ENOUGH = 3
"""Points that a fit needs: with two there is nothing left to be unexplained."""


@dataclass(frozen=True)
class Fit:
    """A factor as a function of the step, and how well it fits ``points`` points.

    ``r2`` is 1 - S / T with S the sum of squared residuals and T that about the mean (1 where both are 0); ``residual``
    is the root of the mean squared residual. For a power both are of the logarithm.
    """

    factor: Factor
    r2: float
    residual: float
    points: int


def line(steps: NDArray[np.int64], ratios: NDArray[np.float64]) -> Fit | None:
    """The line of least squares through the finite ratios; None where fewer than three are finite."""
    finite = np.isfinite(ratios)
    found = _least_squares(steps[finite].astype(np.float64), ratios[finite])
    if found is None:
        return None
    c0, c1, r2, residual = found
    return Fit(Factor(c0=c0, c1=c1), r2, residual, int(finite.sum()))


def power(steps: NDArray[np.int64], ratios: NDArray[np.float64], since: int | None = None) -> Fit | None:
    """The power of least squares in logarithms, from step ``since`` on, over the ratios above 0.

    None where fewer than three are, or where the exponent is beyond 10. Without ``since`` it is 100, or a quarter of
    the last step where that is less.
    """
    since = min(SINCE, int(steps[-1]) // 4) if since is None and len(steps) else since or 0
    used = np.isfinite(ratios) & (ratios > 0) & (steps >= since)
    found = _least_squares(np.log(steps[used]), np.log(ratios[used]))
    if found is None or abs(found[1]) > STEEPEST or abs(found[0]) > 700:  # e^709 is the largest float64
        return None
    log_c, alpha, r2, residual = found
    return Fit(Factor(c=math.exp(log_c), alpha=alpha), r2, residual, int(used.sum()))


def _least_squares(x: Any, y: Any) -> tuple[float, float, float, float] | None:
    """(intercept, slope, r2, root mean squared residual); about the means, so that large x cost no digits."""
    if len(x) < ENOUGH:
        return None
    a, b = x - x.mean(), y - y.mean()
    slope = float(a @ b) / float(a @ a)
    left, total = float(np.square(b - slope * a).sum()), float(b @ b)
    r2 = 1.0 if total == 0 else 1 - left / total
    return float(y.mean() - slope * x.mean()), slope, r2, math.sqrt(left / len(x))
