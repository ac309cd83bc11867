"""``graftsim list``, ``show``, ``run`` and ``bench``."""

from __future__ import annotations

from pathlib import Path

from graftsim.cli.options import Engine, Flag, KeepEvery, MachineFiles, Plot, Recording


def list_() -> None:
    """List machines, partitions, problems, runs and the targets that can be checked.

    Example: graftsim list
    """
    from graftsim.cli import catalogue

    catalogue.list_all()


def show(machine: str, *, source: Flag = False, dialects: Flag = False, machine_file: MachineFiles = None) -> None:
    """Show a machine: its state, equations, options, source and dialects; or the program of a composed one.

    Examples: graftsim show adam
              graftsim show "adam(lr=1e-3)#(sgd#adagrad(eps=0))"
              graftsim show "adam#sgd" --source
              graftsim show adagrad --dialects

    Parameters
    ----------
    machine:
        The name of a machine or schedule, or an expression.
    source:
        Show the code that the compiled engine runs, and the words of memory that each pass moves.
    dialects:
        Show what each framework calls a machine: arguments, defaults, state, and what it has otherwise.
    """
    from graftsim.cli import catalogue

    if dialects:
        from graftsim.cli import dialect_table

        dialect_table.show(machine)
    elif source:
        catalogue.source(machine, machine_file or [])
    else:
        catalogue.show(machine, machine_file or [])


def run(
    source: str,
    *,
    problem: str | None = None,
    steps: int = 100,
    recording: Recording | None = None,
    keep_every: KeepEvery = None,
    engine: Engine = "numpy",
    out: Path | None = None,
    plot: Plot = None,
    machine_file: MachineFiles = None,
) -> None:
    """Run machines on problems and print what came of it beside what theory predicts.

    Examples: graftsim run adagrad-vs-sgd
              graftsim run my-run.yaml --plot curves.png
              graftsim run "adam#sgd" --problem "quadratic(dimension=10)" \\
                --steps 200 --out run.npz

    Length, seed, dtype and what is recorded are options of a run that is given
    by --problem; a run file has its own.

    Parameters
    ----------
    source:
        The name of a run that comes with graftsim, the path of a run file, or (with --problem) a machine.
    problem:
        A problem, when SOURCE is a machine.
    steps:
        How many.
    out:
        Where to save the trajectory (.npz); with several runs, a folder.
    """
    from graftsim.cli import running

    how = recording or Recording()
    running.run_all(source, problem, steps, how, keep_every, engine, out, plot, machine_file or [])


def bench(
    *names: str,
    size: float | None = None,
    seconds: float = 5.0,
    threads: int | None = None,
    json: Path | None = None,
    cases: Path | None = None,
) -> None:
    """Measure graftsim beside torch, optax and NumPy, taking turns in one process.

    Examples: graftsim bench
              graftsim bench step --size 1e8 --threads 2
              graftsim bench norm scaling --seconds 1 --json results.json

    Parameters
    ----------
    names:
        Groups of cases: step, run, norm, scaling, torch, jax, or those of a file given by --cases; all by default.
    size:
        Coordinates, in place of the cases' own sizes.
    seconds:
        How long each case is measured.
    threads:
        Of graftsim, of torch and of the byte limit; two, or one on a machine with one core, by default.
    json:
        Where to write the results as JSON.
    cases:
        A file of cases of your own.
    """
    from graftsim.cli import benching

    benching.bench(names, size, seconds, threads, json, cases)
