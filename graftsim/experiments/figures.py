"""Pictures of experiments: one style for all, and the drawings that several experiments share.

Colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart; line styles repeat what
colours say. Equal data give equal bytes. Nothing here opens a window.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graftsim import documents
from graftsim.errors import GraftsimError
from graftsim.trajectory import Trajectory

FORMATS = (".svg", ".png", ".pdf")
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00")
GREY = "#777777"
STYLES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)), (0, (3, 1)))
DECADES = 1e-20
"""A loss axis shows at most so small a part of its largest value: what is below is rounding."""
SHOWN, HIGHEST = 100.0, 1000.0
"""It shows at most so many times the start; what is drawn goes at most so high."""
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "path",
    "svg.hashsalt": "graftsim",
    "pdf.fonttype": 42,
    "savefig.dpi": 150,
}


def check(path: Path) -> None:
    """Refuse early what could not be drawn at the end.

    Raises:
        GraftsimError: a name with another ending, a place that cannot be written, or matplotlib is missing.
    """
    if path.suffix not in FORMATS:
        raise GraftsimError(f"a picture's name must end in {', '.join(FORMATS)}; received {path}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise GraftsimError("pictures need matplotlib: pip install 'graftsim[plot]'") from None
    documents.check_writable(path)


@contextmanager
def sheet(
    target: Path | IO[bytes], rows: int = 1, columns: int = 1, width: float = 5.0, height: float = 3.6, title: str = ""
) -> Iterator[Any]:
    """Axes to draw on, an array of shape (rows, columns) of matplotlib's, each ``width`` by ``height`` inches; written
    at the end in the format of the path's name, as SVG to a stream.

    >>> buffer = io.BytesIO()
    >>> with sheet(buffer) as axes:
    ...     lines = axes[0, 0].plot([1, 2, 3])
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        FigureCanvasAgg(figure)
        if title:
            figure.suptitle(plain(textwrap.shorten(title, int(14 * width * columns))), fontsize=10)
        yield figure.subplots(rows, columns, squeeze=False)
        kind = target.suffix[1:] if isinstance(target, Path) else "svg"
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=undated)
    if isinstance(target, Path):
        documents.write_atomically(target, lambda file: file.write(buffer.getvalue()))
    else:
        target.write(buffer.getvalue())


def plain(text: str) -> str:
    """A text of the user's, in which matplotlib reads no mathematics: a pattern may end in a dollar sign."""
    return text.replace("$", r"\$")


def color(number: int) -> str:
    """The colour of the ``number``-th of several things."""
    return COLORS[number % len(COLORS)]


def line_style(number: int) -> Any:
    """The line style of the ``number``-th of several things."""
    return STYLES[number % len(STYLES)]


def band(axis: Any, steps: Sequence[int], losses: ArrayLike, label: str, color: str, style: Any = "-") -> None:
    """Curves of one thing over its seeds: the geometric mean as a line, and the range as a shade.

    Losses have shape (seeds, T). Where one is not finite or not positive there is neither line nor shade; the line ends
    there with a cross. What is far above the start is not told apart, so that no scale overflows.
    """
    found = np.asarray(losses, np.float64)
    highest = HIGHEST * np.abs(found[:, :1])
    found = np.where(np.isfinite(found), np.minimum(found, highest), found)
    drawable = (np.isfinite(found) & (found > 0)).all(axis=0)
    with np.errstate(all="ignore"):
        mean = np.where(drawable, np.exp(np.log(found).mean(axis=0)), np.nan)
        low, high = (np.where(drawable, edge, np.nan) for edge in (found.min(axis=0), found.max(axis=0)))
    axis.plot(steps, mean, color=color, linestyle=style, label=plain(label))
    if len(found) > 1:
        axis.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
    if not np.isfinite(found).all() and drawable.any():
        last = np.flatnonzero(drawable)[-1]
        height = min(mean[last], SHOWN * mean[0])
        axis.plot(steps[last], height, "x", color=color, markersize=7, markeredgewidth=2)


def legend_below(axis: Any, columns: int) -> None:
    """The legend of one of a sheet's axes, for all of them, under them."""
    handles, labels = axis.get_legend_handles_labels()
    axis.figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=3)


def log_scale(axis: Any) -> None:
    """A logarithmic loss axis over what is drawn, cut where only rounding is left, or at what blew up."""
    drawn = [np.asarray(line.get_ydata(), np.float64) for line in axis.lines]
    values = np.concatenate(drawn) if drawn else np.array([])
    values = values[np.isfinite(values) & (values > 0)]
    axis.set_yscale("log")
    if values.size:
        start = float(np.median([line[np.isfinite(line)][0] for line in drawn if np.isfinite(line).any()]))
        top = min(float(values.max()), SHOWN * start) if start > 0 else float(values.max())
        axis.set_ylim(max(float(values.min()), DECADES * top) / 1.5, top * 1.5)


def layer_curves(axis: Any, run: Trajectory, path: str = "") -> None:
    """Figure 7 of the 2020 paper: the ratio of each group of a layer-wise graft by step, with the global ratio above.

    A group's curve is the darker the larger its part of M's steps: its opacity is 0.1 + 0.9 sqrt(q / max q), where q is
    the mean of the squared norms of M's step over the recorded steps. The global ratio is
    sqrt(sum of squares of all groups' n_M / sum of squares of their n_D), that of the same steps in one group.

    Args:
        axis: where to draw.
        run: a recorded run of a graft over any partition.
        path: of the graft in the machine, such as ``magnitude`` for the M of ``(M#A)#D``; empty for the whole.

    Raises:
        GraftsimError: the run has no such graft, or no recorded step after the start.
    """
    n_m, n_d = norms(run, path)
    steps, squares = run.steps[1:], n_m * n_m
    weight = np.nanmean(np.where(np.isfinite(squares), squares, np.nan), axis=0) if len(steps) else squares.sum(axis=0)
    largest = np.nanmax(weight) if np.isfinite(weight).any() else 1.0
    with np.errstate(all="ignore"):
        shown = np.where((n_d > 0) & (n_m > 0), n_m / n_d, np.nan)
        total = np.sqrt(squares.sum(axis=1)) / np.sqrt((n_d * n_d).sum(axis=1))
    for group in np.argsort(weight, kind="stable"):
        opacity = 0.1 + 0.9 * float(np.sqrt(weight[group] / largest)) if largest > 0 else 0.1
        axis.plot(steps, shown[:, group], color=COLORS[0], alpha=opacity, linewidth=1)
    axis.plot([], [], color=COLORS[0], label=f"each of {n_m.shape[1]} groups, darker for longer steps of M")
    axis.plot(steps, np.where(total > 0, total, np.nan), color=COLORS[1], linewidth=2.2, label="all groups as one")
    axis.set_yscale("log")
    axis.set(xlabel="step", ylabel="norm of M's step / norm of D's")
    axis.legend()


def norms(run: Trajectory, path: str = "") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The norms of M's and of D's steps, each of shape (recorded steps after the start, groups)."""
    within = f"{path}." if path else ""
    if f"{within}n_m" not in run.info:
        raise GraftsimError(
            f"the run must be of a graft{f' at {path!r}' if path else ''}; it is of {run.meta.machine[:80]}"
        )
    if len(run.steps) < 2:
        raise GraftsimError("the run must have a recorded step after the start; it has none")
    return run.info[f"{within}n_m"], run.info[f"{within}n_d"]


def geometry(axis: Any, m: ArrayLike, d: ArrayLike, grafted: ArrayLike, names: tuple[str, str] = ("M", "D")) -> None:
    """Figure 1 of the 2021 paper: the steps of M, of D and of M#D in the plane, from one point.

    M#D lies on the ray of D, where it meets the circle of M's length.
    """
    from matplotlib.patches import Circle

    arrows = [np.asarray(step, np.float64) for step in (m, d, grafted)]
    if any(step.shape != (2,) or not np.isfinite(step).all() for step in arrows):
        raise GraftsimError("a step must be 2 finite numbers to be drawn in the plane")
    reach = max(1.15 * max(float(np.hypot(*step)) for step in arrows), 1e-300)
    axis.add_patch(Circle((0, 0), float(np.hypot(*arrows[0])), fill=False, linestyle=":", color="#777777"))
    labels = [plain(name) for name in (*names, "#".join(names))]
    for number, (step, label) in enumerate(zip(arrows, labels, strict=True)):
        # A wide pale arrow under a thin one: D and M#D lie on the same ray.
        axis.quiver(
            *(0, 0, *step),
            **{"angles": "xy", "scale_units": "xy", "scale": 1, "color": color(number), "label": label},
            width=(0.011, 0.024, 0.011)[number],
            alpha=(1, 0.45, 1)[number],
            zorder=(3, 2, 3)[number],
        )
    axis.plot(0, 0, "o", color="#000000", markersize=4, zorder=4)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="first weight", ylabel="second weight")
    axis.legend()
