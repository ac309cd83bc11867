"""The pictures of grids, zoos, sweeps and diagnoses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from graftsim.experiments import figures
from graftsim.experiments.diagnosis import DiagnosisResult
from graftsim.experiments.grid import GridResult
from graftsim.experiments.plans import Plan, Runs, summarised
from graftsim.experiments.sweep import SweepResult
from graftsim.experiments.zoo import ZooResult


def grid_curves(result: GridResult, target: Path | IO[bytes]) -> None:
    """Loss curves of all pairs, coloured by M with D as the line style: they cluster by colour where M decides (figures
    1 and 2 of the 2020 paper). One panel for each partition."""
    grid = result.grid
    with figures.sheet(target, 1, len(grid.partitions), title=grid.plan.problem) as axes:
        for axis, partition in zip(axes[0], grid.partitions, strict=True):
            for i, m in enumerate(grid.optimizers):
                for j, d in enumerate(grid.optimizers):
                    _curve(axis, result.found[partition, m, d], "", i, j)
            _finish(axis, grid.plan, f"M#D, partition {partition}")
        for number, label in enumerate(grid.optimizers):  # a legend fills its columns one by one: M above D
            axes[0, 0].plot([], [], linewidth=4, color=figures.color(number), label=figures.plain(f"M = {label}"))
            axes[0, 0].plot(
                [], [], color="#555555", linestyle=figures.line_style(number), label=figures.plain(f"D = {label}")
            )
        _compare(axes[0])
        figures.legend_below(axes[0, 0], len(grid.optimizers))


def zoo_curves(result: ZooResult, target: Path | IO[bytes]) -> None:
    """The optimizers alone on the left, then as directions under M, one panel for each partition."""
    zoo = result.zoo
    with figures.sheet(target, 1, 1 + len(zoo.partitions), title=zoo.plan.problem) as axes:
        for place, axis in enumerate(axes[0]):
            for number, label in enumerate(zoo.directions):
                key = (zoo.partitions[place - 1], label) if place else (label,)
                _curve(axis, result.found[key], label, number, number)
            runs = result.found[()]
            figures.band(axis, runs[0].steps, [run.loss for run in runs], "M alone", figures.GREY)
            _finish(axis, zoo.plan, f"as D under M, partition {zoo.partitions[place - 1]}" if place else "alone")
        _compare(axes[0])
        figures.legend_below(axes[0, 0], 8)


def sweep_figure(result: SweepResult, target: Path | IO[bytes], quantity: str) -> None:
    """A quantity by value, with the problem's closed forms as lines, and beside it the loss curves."""
    sweep = result.sweep
    where = _numbers(sweep.values)
    with figures.sheet(target, 1, 2, title=sweep.plan.problem) as axes:
        axis = axes[0, 0]
        rows = [summarised(result.found[value], quantity) for value in sweep.values]
        deviations = [0.0 if math.isnan(row.deviation) else row.deviation for row in rows]
        axis.errorbar(
            where or range(len(rows)),
            [row.mean for row in rows],
            deviations,
            fmt="o-",
            color=figures.color(0),
            capsize=3,
        )
        for number, (name, predicted) in enumerate(result.predictions.items(), 1):
            if quantity in predicted:
                style = {"color": figures.color(number), "linestyle": "--"}
                axis.axhline(predicted[quantity], label=f"closed form: {name}", **style)
        _value_axis(axis, sweep.values, where)
        axis.set(xlabel=sweep.parameter, ylabel=quantity, title=f"{quantity} by {sweep.parameter}")
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
        for number, value in enumerate(sweep.values):
            _curve(axes[0, 1], result.found[value], f"{sweep.parameter} = {value}", number, number)
        _finish(axes[0, 1], sweep.plan, "loss")
        axes[0, 1].legend(handlelength=2.6)


def diagnosis_curves(result: DiagnosisResult, target: Path | IO[bytes]) -> None:
    """A, the best SGD and A#SGD, one panel for each partition."""
    diagnosis = result.diagnosis
    with figures.sheet(target, 1, len(diagnosis.partitions), title=diagnosis.plan.problem) as axes:
        for axis, partition in zip(axes[0], diagnosis.partitions, strict=True):
            _curve(axis, result.found[()], diagnosis.optimizer, 0, 0)
            _curve(axis, result.found[result.baseline,], result.baseline, 1, 1)
            _curve(axis, result.grafted(partition), "A#SGD", 2, 2)
            _finish(axis, diagnosis.plan, f"partition {partition}")
        _compare(axes[0])
        figures.legend_below(axes[0, 0], 3)


def _curve(axis: Any, runs: Runs, label: str, color: int, style: int) -> None:
    losses = [run.loss for run in runs]
    figures.band(axis, runs[0].steps, losses, label, figures.color(color), figures.line_style(style))


def _finish(axis: Any, plan: Plan, title: str) -> None:
    figures.log_scale(axis)
    seeds = "one seed" if plan.seeds == 1 else f"mean and range of {plan.seeds} seeds"
    axis.set(xlabel="step", ylabel=f"loss ({seeds})", title=figures.plain(title))


def _compare(panels: Sequence[Any]) -> None:
    """One range of losses for panels that stand side by side."""
    low = min(axis.get_ylim()[0] for axis in panels)
    high = max(axis.get_ylim()[1] for axis in panels)
    for axis in panels:
        axis.set_ylim(low, high)
        if axis is not panels[0]:
            axis.set_ylabel("")


def _numbers(values: Sequence[str]) -> list[float] | None:
    """The values as numbers; None where one is a schedule."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def _value_axis(axis: Any, values: Sequence[str], numbers: list[float] | None) -> None:
    """A logarithmic axis for numbers over more than a decade, linear up to the smallest where one of them is 0."""
    if numbers is None:
        axis.set_xticks(range(len(values)), values)
        return
    positive = [number for number in numbers if number > 0]
    if min(numbers) < 0 or not positive or max(numbers) < 10 * min(positive):
        return
    if min(numbers) == 0:
        axis.set_xscale("symlog", linthresh=min(positive), linscale=0.6)
        axis.set_xlim(-0.4 * min(positive), 2 * max(positive))
    else:
        axis.set_xscale("log")
    axis.set_xticks(numbers, values)
    axis.minorticks_off()
