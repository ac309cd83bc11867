"""The command line: ``graftsim list``, ``show``, ``run``, ``check`` and ``bench``.

Each command is a module of its own and imports what it needs when it runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from graftsim.errors import GraftsimError

app = App(
    name="graftsim",
    help="""The reference for learning-rate grafting: optimizers as data, and a simulator whose every bit is defined.

Machines are written as expressions: adam(lr=1e-3)#sgd is the step length of Adam in the direction of SGD. Quote them.
""",
    help_format="plaintext",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)

MachineFiles = Annotated[
    list[Path] | None, Parameter(name="--machine-file", negative="", help="A machine file to add to the library.")
]


@app.command(name="list")
def list_() -> None:
    """List machines, partitions, problems, runs and the targets that can be checked.

    Example: graftsim list
    """
    from graftsim.cli import catalogue

    catalogue.list_all()


@app.command
def show(machine: str, *, source: bool = False, dialects: bool = False, machine_file: MachineFiles = None) -> None:
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


@app.command
def run(
    source: str,
    *,
    problem: str | None = None,
    steps: int = 100,
    seed: int = 0,
    dtype: str = "float64",
    record_every: int = 1,
    keep_every: int | None = None,
    engine: str = "numpy",
    out: Path | None = None,
    plot: Path | None = None,
    machine_file: MachineFiles = None,
) -> None:
    """Run machines on problems and print what came of it beside what theory predicts.

    Examples: graftsim run adagrad-vs-sgd
              graftsim run my-run.yaml --plot curves.png
              graftsim run "adam#sgd" --problem "quadratic(dimension=10)" --steps 200 --out run.npz

    Parameters
    ----------
    source:
        The name of a run that comes with graftsim, the path of a run file, or (with --problem) a machine.
    problem:
        A problem, when SOURCE is a machine.
    steps, seed, dtype, record_every, keep_every:
        Of a run given by --problem; a run file has its own. Losses and ratios are recorded every so many steps, weights
        and state kept every so many, a multiple.
    engine:
        numpy, the reference, or compiled: the same bits in one compiled loop, for long runs.
    out:
        Where to save the trajectory (.npz); with several runs, a folder.
    plot:
        Where to draw the losses and ratios (.png, .svg or .pdf).
    """
    from graftsim.cli import running

    running.run_all(
        source, problem, steps, seed, dtype, record_every, keep_every, engine, out, plot, machine_file or []
    )


@app.command
def check(
    *targets: str,
    machine: Annotated[list[str] | None, Parameter(name="--as", negative="")] = None,
    like: str | None = None,
    mode: str = "",
    dtype: str | None = None,
    only: str = "*",
    rules: Annotated[list[str] | None, Parameter(negative="")] = None,
    quick: Annotated[bool, Parameter(negative="")] = False,
    all_cases: Annotated[bool, Parameter(name="--all", negative="")] = False,
    list_only: Annotated[bool, Parameter(name="--list", negative="")] = False,
    jobs: Annotated[int, Parameter(name=["--jobs", "-j"])] = 1,
    fresh: Annotated[bool, Parameter(negative="")] = False,
    seconds: float = 10.0,
    json: Path | None = None,
    report: Path | None = None,
    certificate: Path | None = None,
    junit: Path | None = None,
) -> None:
    """Check an optimizer against the spec: equivalent, or the first place where it is not.

    Examples: graftsim check torch.optim:Adam
              graftsim check optax:adam --as "adam(eps_placement=hat)"
              graftsim check mymodule:MyAdam --as adam --report report.html
              graftsim check ./adam_in_c --as adam --all -j 2 --certificate adam.json

    The exit code is 0 if all targets are equivalent, 1 if one is not, and 2 for a mistake in the call.

    Parameters
    ----------
    targets:
        Import paths, such as torch.optim:Adam or mymodule:MyAdam, or programs, by a path with a slash in it.
    machine:
        The machine, with its options, that a target is held to; by default the dialect of the spec.
    like:
        The known target whose arguments and state names it has, such as torch.optim:Adam.
    mode:
        How a framework runs a step: foreach, jit and the like.
    dtype:
        float64 or float32; natives run in float64 by default, others in that of each case.
    only:
        Run only the cases whose names match: "adam*.nan*".
    rules:
        Run only the cases that test this rule, such as GS-graft-zero-direction.
    quick:
        Run a small subset.
    all_cases:
        Run the edges of natives that compile, and the laws, too.
    list_only:
        Print the names of the cases, and run none.
    jobs:
        How many processes run at a time.
    fresh:
        Begin anew where an interrupted run would go on.
    seconds:
        How long one call into a Python object, or one reply of a program, may take.
    json, report, certificate, junit:
        Where to write the report as JSON, as HTML, as a certificate and as JUnit XML.
    """
    from graftsim.cli import checking

    sys.exit(
        checking.main(
            targets,
            {
                "machines": tuple(machine or ()),
                "like": like,
                "mode": mode,
                "dtype": dtype,
                "only": only,
                "rules": tuple(rules or ()),
                "quick": quick,
                "every": all_cases or certificate is not None,
                "seconds": seconds,
            },
            checking.Outputs(json, report, certificate, junit),
            jobs,
            fresh,
            list_only,
        )
    )


@app.command
def translate(optimizer: str, *, to: str) -> None:
    """Translate an optimizer to another framework, every hidden default spelled out, or say how far the nearest is.

    Examples: graftsim translate "torch.optim.Adagrad(lr=0.1)" --to optax
              graftsim translate "optax.adam(1e-3)" --to spec
              graftsim translate "momentum(lr=0.1, form=ema)" --to keras

    The exit code is 0 if the other framework has an equivalent and 1 if it has none.

    Parameters
    ----------
    optimizer:
        A constructor as it stands in a program, or a machine; its values must be numbers.
    to:
        A framework of the dialects, or spec for the machine that the constructor is.
    """
    from graftsim.cli import translating

    sys.exit(translating.translate(optimizer, to))


@app.command
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
        Groups of cases: step, run, norm, scaling, or those of a file given by --cases; all by default.
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


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except (GraftsimError, CycloptsError) as error:
        print(f"graftsim: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("graftsim: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
