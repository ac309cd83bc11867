"""Pictures of runs: losses, and the ratio of each group of a graft. The only module that needs matplotlib."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftsim import documents
from graftsim.errors import GraftsimError
from graftsim.runs import Result

FORMATS = (".png", ".svg", ".pdf")
GROUPS = 8
"""So many groups' ratios are drawn one by one; of more, the median and the range are."""


def check(path: Path) -> None:
    """Refuse early what could not be drawn at the end."""
    if path.suffix not in FORMATS:
        raise GraftsimError(f"--plot must end in {', '.join(FORMATS)}; received {path}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise GraftsimError("--plot needs matplotlib: pip install 'graftsim[plot]'") from None


def draw(title: str, results: Sequence[Result], path: Path) -> None:
    """One row for each problem: losses on the left, ratios on the right where a machine is a graft."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys(result.trajectory.meta.problem for result in results))
    grafted = any("ratio" in result.trajectory.info for result in results)
    figure = Figure(figsize=(11 if grafted else 6.5, 0.6 + 3.6 * len(problems)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(problems), 2 if grafted else 1, squeeze=False)
    for row, problem in zip(axes, problems, strict=True):
        chosen = [result for result in results if result.trajectory.meta.problem == problem]
        _losses(row[0], problem, chosen)
        if grafted:
            _ratios(row[1], chosen)
    if title:
        figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=150)
    documents.write_atomically(path, lambda file: file.write(buffer.getvalue()))


def _losses(axis: Any, problem: str, results: Sequence[Result]) -> None:
    for number, result in enumerate(results):
        # The first lines are the widest, so that one that later ones cover is still seen.
        width = 1.4 + 1.6 * (len(results) - 1 - number)
        loss = result.trajectory.loss
        axis.plot(result.trajectory.steps, loss, label=_label(result), color=f"C{number}", linewidth=min(width, 7))
    every = np.concatenate([result.trajectory.loss for result in results])
    positive = every[np.isfinite(every) & (every > 0)]
    if positive.size and (every[np.isfinite(every)] >= 0).all() and positive.max() > 50 * positive.min():
        axis.set_yscale("log")
        axis.set_ylim(bottom=max(positive.min(), 1e-20 * positive.max()))
    axis.set(xlabel="step", ylabel="loss")
    axis.set_title(textwrap.shorten(problem, 80), fontsize=9)
    axis.legend(fontsize=7, frameon=False)


def _label(result: Result) -> str:
    return result.run.name or textwrap.shorten(result.run.machine, 70)


def _ratios(axis: Any, results: Sequence[Result]) -> None:
    for number, result in enumerate(results):
        ratio = result.trajectory.info.get("ratio")
        if ratio is None:
            continue
        steps, names = result.trajectory.steps[1:], result.trajectory.meta.groups["ratio"]
        shown = np.where(ratio > 0, ratio, np.nan)  # a group that did not move has no length to show
        if ratio.shape[1] <= GROUPS:
            for group, name in enumerate(names):
                style = ("-", "--", ":", "-.")[group % 4]
                label = _label(result) if group == 0 else None
                axis.plot(steps, shown[:, group], style, color=f"C{number}", linewidth=1.2, label=label)
                if len(names) > 1:
                    axis.annotate(name, (steps[-1], shown[-1, group]), fontsize=6)
        else:
            low, middle, high = np.nanpercentile(shown, [5, 50, 95], axis=1)
            axis.plot(steps, middle, color=f"C{number}", label=f"{_label(result)}, median and 5 to 95 %")
            axis.fill_between(steps, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
    if axis.lines:
        axis.set_yscale("log")
        axis.legend(fontsize=7, frameon=False)
    axis.set(xlabel="step", ylabel="ratio of the graft")
