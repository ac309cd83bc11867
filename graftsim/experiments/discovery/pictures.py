"""The pictures of discovery: ratios by step, and the agreement of two runs."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from graftsim.corrections import Corrections
from graftsim.experiments import figures
from graftsim.experiments.discovery.agreement import Agreement
from graftsim.experiments.discovery.series import WIDTH, Series, Values, smoothed

NAMED = 8
"""So many groups have a colour and a name each; more are shades of one colour."""


def ratio_curves(series: Series, chosen: Corrections, target: Path | IO[bytes], width: int = WIDTH) -> None:
    """Figures 5 and 6 of the 2021 paper: each group's ratios under a running median, and their corrections dashed.

    Many groups are drawn in one colour, the darker the longer M's steps are there (:func:`opacities`), with the ratio
    of all together above them, as in Figure 7 of the 2020 paper.
    """
    curves, steps = smoothed(series.ratios, width), series.steps
    named = len(series.groups) <= NAMED
    with figures.sheet(target, width=7.0, height=4.2) as axes:
        axis = axes[0, 0]
        for i, (name, opacity) in enumerate(zip(series.groups, opacities(series), strict=True)):
            label, color = (name, figures.color(i)) if named else (None, figures.COLORS[0])
            axis.plot(steps, _positive(curves[:, i]), color=color, alpha=1 if named else opacity, label=label)
            if named and name in chosen.factors:
                factor = [chosen.factors[name].at(int(step)) for step in steps]
                axis.plot(steps, _positive(np.array(factor)), color=color, linestyle="--", linewidth=1)
        if len(series.groups) > 1:
            together = smoothed(series.together().ratios, width)[:, 0]
            axis.plot(steps, _positive(together), color="#000000", linewidth=2.2, label="all groups together")
        axis.set_yscale("log")
        axis.set(xlabel="step", ylabel=f"|M's step| / |D's|, running median of {width} records")
        outside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)} if named else {"loc": "best"}
        axis.legend(fontsize=7, **outside)


def opacities(series: Series) -> Values:
    """0.1 + 0.9 sqrt(q / max q) for each group, where q is the mean square of M's step; shape (groups,)."""
    squares = np.where(np.isfinite(series.n_m), series.n_m, 0.0) ** 2
    weight = squares.mean(axis=0)
    largest = float(weight.max(initial=0.0))
    return np.asarray(0.1 + 0.9 * np.sqrt(weight / largest) if largest > 0 else np.full(len(weight), 0.1), np.float64)


def agreement_curves(found: Agreement, names: tuple[str, str], target: Path | IO[bytes]) -> None:
    """Cosines on the left, distances on the right."""
    with figures.sheet(target, 1, 2, title=f"{names[0]} and {names[1]}") as axes:
        left, right = axes[0]
        left.plot(found.steps, found.updates, color=figures.color(0), linewidth=1, label="updates")
        left.plot(found.steps, found.ways, color=figures.color(1), label="ways from the start")
        left.set(xlabel="step", ylabel="cosine", ylim=(-1.05, 1.05))
        right.plot(found.steps, found.relative, color=figures.color(2), label="distance / mean way from the start")
        right.plot(
            found.steps, found.lengths, color=figures.color(3), linestyle="--", label="ratio of both ways' lengths"
        )
        right.set(xlabel="step", ylim=(0, None))
        for axis in (left, right):
            axis.legend()


def _positive(values: Values) -> Any:
    return np.where(values > 0, values, np.nan)
