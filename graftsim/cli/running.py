"""``graftsim run``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from graftsim import runs
from graftsim.errors import GraftsimError
from graftsim.machines import Library
from graftsim.runs import Result, Run, RunFile


def run(
    source: str,
    problem: str | None,
    steps: int,
    seed: int,
    dtype: str,
    record_every: int,
    out: Path | None,
    plot: Path | None,
    machine_files: Sequence[Path],
) -> None:
    """Do the runs, print them, and write what was asked for."""
    if problem:
        chosen = RunFile("", "", (Run(problem, source, steps, seed, dtype, record_every),))
    else:
        chosen = _load(source)
    machines = Library(machine_files) if machine_files else None
    if plot:
        from graftsim.cli import plots

        plots.check(plot)
    console = Console()
    results: list[Result] = []
    total = sum(each.steps for each in chosen.runs)
    with _bar(total) as advance:
        for each in chosen.runs:
            results.append(runs.execute(each, advance, machines))
            if not results[-1].trajectory.meta.complete:
                break
    report(chosen, results, console)
    if out:
        for path in save(results, out):
            console.print(f"saved {path}", highlight=False)
    if plot:
        from graftsim.cli import plots

        plots.draw(chosen.title, results, plot)
        console.print(f"drawn {plot}", highlight=False)
    if not results[-1].trajectory.meta.complete:
        raise KeyboardInterrupt


def _load(source: str) -> RunFile:
    try:
        return runs.load(source)
    except GraftsimError as error:
        if "#" in source or "(" in source:
            raise GraftsimError(f"to run a machine, name a problem: graftsim run {source!r} --problem ...") from None
        raise error


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], object]]:
    """A progress bar on a terminal, nothing elsewhere."""
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda _: progress.advance(task)


def report(chosen: RunFile, results: Sequence[Result], console: Console) -> None:
    """A table for each problem: the measures of the last weights beside their predictions."""
    if chosen.title:
        console.print(f"[bold]{escape(chosen.title)}[/]", highlight=False)
    if chosen.about:
        console.print(escape(chosen.about), highlight=False)
    for problem in dict.fromkeys(result.trajectory.meta.problem for result in results):
        console.print()
        console.print(table(problem, [result for result in results if result.trajectory.meta.problem == problem]))


def table(problem: str, results: Sequence[Result]) -> Table:
    """One problem's runs."""
    found = Table(title=escape(problem), title_justify="left", box=None, pad_edge=False)
    found.add_column("machine", overflow="fold")
    found.add_column("steps", justify="right")
    found.add_column("loss", justify="right")
    names = list(dict.fromkeys(name for result in results for name in result.measures))
    predicted = any(result.prediction for result in results)
    for name in names:
        found.add_column(escape(name), justify="right")
        if predicted:
            found.add_column("predicted", justify="right", style="dim")
    if predicted:
        found.add_column("closed form", style="dim")
        found.add_column("largest difference", justify="right")
    for result in results:
        trajectory = result.trajectory
        row = [escape(result.run.machine), str(trajectory.steps[-1]), f"{trajectory.loss[-1]:.4g}"]
        for name in names:
            row.append(_number(result.measures.get(name)))
            if predicted:
                row.append(_number((result.prediction or {}).get(name)))
        if predicted:
            row += [result.run.prediction or "", "" if result.error is None else f"{result.error:.1e}"]
        found.add_row(*row)
    return found


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def save(results: Sequence[Result], out: Path) -> list[Path]:
    """One run into the file ``out``; several into files of a folder of that name."""
    if len(results) == 1:
        path = out if out.suffix == ".npz" else out.with_name(out.name + ".npz")
        results[0].trajectory.save(path)
        return [path]
    if out.suffix == ".npz":
        raise GraftsimError(f"--out must name a folder, since there are {len(results)} runs; received {out}")
    paths = [out / f"{number:02d}.npz" for number in range(1, len(results) + 1)]
    for path, result in zip(paths, results, strict=True):
        result.trajectory.save(path)
    return paths
