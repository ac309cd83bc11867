"""The picture of a transfer: all trials of M, D and M#D by learning rate, the best ringed, the diverged crossed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any

from graftsim.experiments import figures
from graftsim.experiments.search.parameters import Range
from graftsim.experiments.search.transfer import Arm, Transfer

LABELS = {"scale": "factor of M#D", "magnitude_lr": "learning rate of M in M#D"}


def draw(result: Transfer, target: Path | IO[bytes]) -> None:
    """One panel for each arm; they have the metric's axis in common."""
    select = result.plan.select
    with figures.sheet(target, 1, 3, width=3.6, title=result.plan.base.problem) as axes:
        for number, (axis, arm) in enumerate(zip(axes[0], result.arms, strict=True)):
            _panel(axis, arm, number, select.highest)
            axis.set(title=f"{arm.name}: {len(arm.told)} trials, {arm.diverged} diverged")
        drawn = [row.metric for arm in result.arms for row in arm.told if math.isfinite(row.metric)]
        if not select.highest and drawn and min(drawn) > 0 and max(drawn) > 50 * min(drawn):
            for axis in axes[0]:
                axis.set_yscale("log")
        low = min(axis.get_ylim()[0] for axis in axes[0])
        high = max(axis.get_ylim()[1] for axis in axes[0])
        for axis in axes[0]:
            axis.set_ylim(low, high)
        axes[0, 0].set_ylabel(select.name)


def _panel(axis: Any, arm: Arm, number: int, highest: bool) -> None:
    """Finite metrics as dots; diverged trials as crosses at the bad end of the axis, whatever they count as."""
    rate = arm.space.rate
    where = [row.proposal.values.get(rate, row.proposal.number) if rate else row.proposal.number for row in arm.told]
    rows = list(zip(where, arm.told, strict=True))
    good = [(x, row.metric) for x, row in rows if not row.diverged and math.isfinite(row.metric)]
    style = {"color": figures.color(number), "linestyle": "none"}
    axis.plot(*(zip(*good, strict=True) if good else ((), ())), marker="osD"[number], markersize=4, **style)
    lost = [x for x, row in rows if row.diverged]
    edge = 0.02 if highest else 0.98
    axis.plot(lost, [edge] * len(lost), marker="x", transform=axis.get_xaxis_transform(), **style)
    best = next((x, row.metric) for x, row in rows if row is arm.best)
    if not arm.best.diverged:
        axis.plot(*best, marker="o", markersize=11, fillstyle="none", color="#000000", linestyle="none", label="best")
    if number == 0:
        axis.legend()
    row = arm.space.parameters[rate] if rate else None
    if isinstance(row, Range) and row.log and not row.one_minus:
        axis.set_xscale("log")
        axis.set_xlim(row.low / 1.3, row.high * 1.3)
    axis.set_xlabel(LABELS.get(rate, f"{rate} of {arm.name}") if rate else "trial")
