"""``graftsim run``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftsim import documents, runs
from graftsim.cli import progress
from graftsim.cli.options import Recording
from graftsim.errors import GraftsimError
from graftsim.machines import Library
from graftsim.ranks import launcher
from graftsim.runs import Result, Run, RunFile

if TYPE_CHECKING:
    from graftsim.ranks.mpi import World


def run_all(
    source: str,
    problem: str | None,
    steps: int,
    recording: Recording,
    keep_every: int | None,
    engine: str,
    out: Path | None,
    plot: Path | None,
    machine_files: Sequence[Path],
) -> None:
    """Do the runs, print them, and write what was asked for; over all ranks where a launcher started many."""

    def prepare() -> tuple[RunFile, Library | None]:
        if problem:
            chosen = RunFile("", "", (Run(problem, source, steps, **vars(recording), keep_every=keep_every),))
        else:
            chosen = _load(source)
        return chosen, Library(machine_files) if machine_files else None

    with launcher.session() as world:
        if world is None:
            chosen, machines = prepare()
            check_places(out, plot)
            show(chosen, _each(chosen, lambda run, done: runs.execute(run, done, machines, engine)), out, plot)
        else:
            _over_ranks(world, prepare, engine, out, plot)


def _over_ranks(
    world: World,
    prepare: Callable[[], tuple[RunFile, Library | None]],
    engine: str,
    out: Path | None,
    plot: Path | None,
) -> None:
    """The same on every rank; rank 0 shows and writes."""
    from graftsim.ranks import agreement, running

    def checked() -> tuple[RunFile, Library | None]:
        if world.rank == 0:
            check_places(out, plot)
        return prepare()

    chosen, machines = agreement.together(world, checked)
    agreement.agree(world, {"run file": repr(chosen)})
    leads = world.rank == 0
    results = _each(chosen, lambda run, done: running.execute(world, run, done, machines, engine), leads)
    if leads:
        show(chosen, results, out, plot)


def check_places(out: Path | None, plot: Path | None) -> None:
    """What cannot be written is said before work is done."""
    if plot:
        from graftsim.cli import plots

        plots.check(plot)
    for path in (out, plot):
        if path:
            documents.check_writable(path)


def _each(
    chosen: RunFile, execute: Callable[[Run, Callable[[int], object]], Result | None], leads: bool = True
) -> list[Result]:
    """One run after another, up to one that is interrupted. Where others keep the record there is no result."""
    results: list[Result] = []
    before = 0
    total = sum(each.steps for each in chosen.runs)
    with progress.shown("steps", total, quiet=not leads) as tell:
        for each in chosen.runs:
            found = execute(each, _after(before, tell))
            before += each.steps
            if found is not None:
                results.append(found)
                if not found.trajectory.meta.complete:
                    break
    return results


def show(chosen: RunFile, results: Sequence[Result], out: Path | None, plot: Path | None) -> None:
    """Print what came of the runs, and write it where it was asked for."""
    console = Console()
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


def _after(before: int, tell: Callable[[int], object]) -> Callable[[int], object]:
    """The progress of a run that follows others."""
    return lambda done: tell(before + done)


def report(chosen: RunFile, results: Sequence[Result], console: Console) -> None:
    """For each problem its runs, and a table of what was measured at the end beside what was predicted."""
    if chosen.title:
        console.print(f"[bold]{escape(chosen.title)}[/]", highlight=False)
    if chosen.about:
        console.print(escape(chosen.about), highlight=False)
    for problem in dict.fromkeys(result.trajectory.meta.problem for result in results):
        of_it = [result for result in results if result.trajectory.meta.problem == problem]
        console.print(f"\n[bold]{escape(problem)}[/]", highlight=False)
        for result in of_it:
            name = f"{result.run.name}: " if result.run.name else ""
            console.print(f"  {escape(name + result.run.machine)}", highlight=False)
        console.print(table(of_it))


def table(results: Sequence[Result]) -> Table:
    """One column a run; one row for each measure, and under it what was predicted."""
    found = Table(box=None, pad_edge=False, padding=(0, 2))
    found.add_column("")
    for number, result in enumerate(results, 1):
        found.add_column(escape(result.run.name or (f"run {number}" if len(results) > 1 else "")), justify="right")

    def add(name: str, values: Sequence[str], style: str = "") -> None:
        if any(values):
            found.add_row(escape(name), *values, style=style)

    add("steps", [str(result.trajectory.steps[-1]) for result in results])
    add("loss", [f"{result.trajectory.loss[-1]:.4g}" for result in results])
    for name in dict.fromkeys(name for result in results for name in result.measures if name != "loss"):
        add(name, [_number(result.measures.get(name)) for result in results])
        add("  predicted", [_number((result.prediction or {}).get(name)) for result in results], "dim")
    add("closed form", [result.run.prediction or "" for result in results], "dim")
    add("largest difference", ["" if result.error is None else f"{result.error:.1e}" for result in results])
    return found


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


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
