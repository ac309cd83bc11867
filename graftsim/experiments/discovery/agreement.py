"""Do two trajectories match? The cosine of their updates and the distance of their weights, step by step.

The 2020 paper, section 5.1, asks whether grafted runs of one magnitude, whose loss curves agree, also go the same way
"in some metric".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.experiments.discovery.series import Values
from graftsim.layouts import Array
from graftsim.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Agreement:
    """K + 1 steps at which both runs kept their weights a and b, and what they have in common there.

    Numbers are NaN where they are not defined: at step 0, and where a run did not move. All are computed in float64.
    """

    steps: NDArray[np.int64]
    """Shape (K + 1,)."""
    distance: Values
    """|a - b|."""
    relative: Values
    """|a - b| divided by the mean of |a - a_0| and |b - b_0|: 0 for the same way, about sqrt(2) for ways at right
    angles, 2 for opposite ones."""
    updates: Values
    """The cosine of the two updates since the last of these steps."""
    ways: Values
    """The cosine of a - a_0 and b - b_0."""
    lengths: Values
    """|a - a_0| / |b - b_0|."""
    losses: tuple[float, float]
    """Of both runs after the last of these steps."""


def agree(a: Trajectory, b: Trajectory) -> Agreement:
    """Compare two runs on the same weights.

    Raises:
        GraftsimError: they have other tensors, or fewer than two steps at which both kept their weights.
    """
    if a.meta.layout != b.meta.layout:
        raise GraftsimError(
            f"two runs must have the same tensors to be compared; received {_described(a)} and {_described(b)}"
        )
    steps, rows_a, rows_b = np.intersect1d(a.kept, b.kept, assume_unique=True, return_indices=True)
    if len(steps) < 2:
        raise GraftsimError(
            "two runs must have kept their weights at two steps or more that are the same; "
            f"received {_kept(a)} and {_kept(b)}: record with the same keep_every"
        )
    kept = zip((a.weights[row] for row in rows_a), (b.weights[row] for row in rows_b), strict=True)
    found = _rows(kept, *(run.weights[0].astype(np.float64) for run in (a, b)))
    loss_a, loss_b = (float(run.loss[run.row(int(steps[-1]))]) for run in (a, b))
    distance, relative, updates, ways, lengths = found.T
    return Agreement(steps, distance, relative, updates, ways, lengths, (loss_a, loss_b))


def _rows(kept: zip[tuple[Array, Array]], start_a: Array, start_b: Array) -> Values:
    """Row by row, so that two long runs need not be in float64 at once."""
    last_a, last_b, rows = start_a, start_b, []
    with np.errstate(all="ignore"):
        for pair in kept:
            now_a, now_b = (weights.astype(np.float64) for weights in pair)
            way_a, way_b = now_a - start_a, now_b - start_b
            far_a, far_b, apart = (float(np.linalg.norm(x)) for x in (way_a, way_b, now_a - now_b))
            rows.append(
                (
                    apart,
                    _quotient(apart, (far_a + far_b) / 2),
                    _cosine(now_a - last_a, now_b - last_b),
                    _cosine(way_a, way_b),
                    _quotient(far_a, far_b),
                )
            )
            last_a, last_b = now_a, now_b
    return np.array(rows)


def _cosine(x: Array, y: Array) -> float:
    """Of vectors brought to length 1 first, which neither overflows nor vanishes on the way."""
    a, b = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    return float(np.dot(x / a, y / b)) if a > 0 and b > 0 else float("nan")


def _quotient(a: float, b: float) -> float:
    return a / b if b > 0 else float("nan")


def _described(run: Trajectory) -> str:
    names = run.meta.layout.names
    return (
        f"{len(names)} tensors of {run.meta.layout.size} weights ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
    )


def _kept(run: Trajectory) -> str:
    return f"{len(run.kept)} kept up to step {run.kept[-1]}"
