"""How much of the variance between curves M explains, and how much D.

The two-way analysis without interaction: for values x[m, d, t], with means written by a dot,

    share(M) = D sum_{m,t} (x[m, ., t] - x[., ., t])^2 / sum_{m,d,t} (x[m, d, t] - x[., ., t])^2,

and share(D) likewise. What is left, 1 - share(M) - share(D), is interaction and noise. The mean curve x[., ., t] is
taken out, so that it does not matter how much all curves fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graftsim.errors import GraftsimError

Floats = NDArray[np.float64]

CEILING = 10.0
"""A loss counts for at most so many times that of the start; one that is not finite counts for that much."""
FLOOR = 2.0**-52
"""A loss counts for at least so many times that of the start: what lies below may be rounding alone, or have no log."""


@dataclass(frozen=True)
class Shares:
    """Shares of the variance; NaN where nothing varies."""

    magnitude: float
    direction: float

    @property
    def rest(self) -> float:
        """Interaction and noise."""
        return 1 - self.magnitude - self.direction


def shares(values: ArrayLike) -> Shares:
    """The shares of M and D in finite values of shape (M, D) or (M, D, T).

    >>> shares([[1, 1], [3, 3]])
    Shares(magnitude=1.0, direction=0.0)
    """
    x = np.asarray(values, np.float64)
    if x.ndim < 2 or not np.isfinite(x).all():
        raise GraftsimError(f"shares need finite values of shape (M, D) or (M, D, T); received shape {x.shape}")
    x = x - x.mean(axis=(0, 1))
    total = float((x * x).sum())
    if total == 0:
        return Shares(float("nan"), float("nan"))
    by_m, by_d = x.mean(axis=1), x.mean(axis=0)
    return Shares(
        float((by_m * by_m).sum()) * x.shape[1] / total,
        float((by_d * by_d).sum()) * x.shape[0] / total,
    )


def log_curves(losses: Sequence[Sequence[float]]) -> tuple[Floats, int]:
    """Natural logarithms of loss curves (one row each, the first value that of the start), held between ``FLOOR`` and
    ``CEILING`` times the start; and how many values were held.

    A diverged run stays among the curves by that: from where its loss is not finite on, it is as bad as any can be.

    Raises:
        GraftsimError: the loss of a start is not positive.
    """
    found = np.asarray(losses, np.float64)
    start = found[:, :1]
    if not (np.isfinite(start) & (start > 0)).all():
        raise GraftsimError(f"the logarithm of a loss needs a positive loss at the start; received {start.min():g}")
    relative = np.where(np.isfinite(found), found, np.inf) / start
    held = np.clip(relative, FLOOR, CEILING)
    return np.log(held * start), int((held != relative).sum())
