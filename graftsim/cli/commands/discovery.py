"""``graftsim record``, ``fit``, ``apply`` and ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from graftsim.cli.options import (
    Engine,
    Flag,
    KeepEvery,
    MachineFiles,
    Outputs,
    Piped,
    Plot,
    Problem,
    Recording,
    Repeated,
)


def record(
    machine: str,
    *,
    problem: Problem,
    out: Piped | None = None,
    steps: int = 300,
    recording: Recording | None = None,
    keep_every: int | None = None,
    machine_file: MachineFiles = None,
) -> None:
    """Run a graft and record what discovery asks for: the norms of both steps and of the gradient, group by group.

    Examples: graftsim record "adam#sgd" --problem digits --out run.npz
              graftsim record "adam#sgd" --problem digits | graftsim fit - |
                graftsim apply - sgd --problem digits

    Parameters
    ----------
    machine:
        A graft, possibly inside machines with one child.
    out:
        Where to save the recording (.npz); - is the standard output, and so it is by default into a pipe or a file.
    steps:
        How many.
    keep_every:
        Keep weights and state every so many steps, which compare needs; by default at the start and the end.
    """
    from graftsim.cli import discovering
    from graftsim.runs import Run

    run = Run(problem, machine, steps, **vars(recording or Recording()), keep_every=keep_every)
    discovering.record(run, out, machine_file or [])


def fit(
    source: Piped,
    *,
    first: int | None = None,
    form: str = "constant",
    since: int | None = None,
    together: Flag = False,
    rounded: Annotated[Flag, Parameter(name=["--round", "--rounded"])] = False,
    tie: Repeated = None,
    beta: float | None = None,
    fix: Repeated = None,
    scale: float = 1.0,
    at: str | None = None,
    partition: str | None = None,
    out: Piped | None = None,
    json: Path | None = None,
    plot: Plot = None,
    width: int = 51,
) -> None:
    """Find learning-rate corrections in the record of a graft: a factor for each group with which D trains alone.

    Examples: graftsim fit run.npz --first 300 --round --tie "*attention*" \\
                --beta 500 --out corrections.yaml
              graftsim fit run.npz --together --form power --plot ratios.svg

    Without --out, a terminal shows a table of what was found. A pipe or a file
    gets the corrections, with the table above them as comments.

    Parameters
    ----------
    source:
        A recording (.npz), of graftsim or of an adapter; - is the standard input.
    first:
        Look at the first so many steps; all by default. The 2021 paper takes 2000, and 500 at a larger batch.
    form:
        constant: the median of |M's step| / |D's|; line: c0 + c1 t; power: c t^alpha, in step t.
    since:
        The step that power fits begin with; 100 by default, or a quarter of the steps where that is less.
    together:
        One factor for all groups.
    rounded:
        Round medians down to powers of ten.
    tie:
        Groups with names that match a pattern have one factor, beta.
    beta:
        That factor; by default the median of the medians of tied groups.
    fix:
        PATTERN=NUMBER: the factor of groups that match; 0 freezes them.
    scale:
        Multiplies all factors where the file is applied.
    at:
        Which graft of nested ones, such as direction; by default the outermost.
    partition:
        That of the graft, where the recording does not say it.
    out:
        Where to write the corrections (.yaml); - is the standard output, and the table then goes to the standard error.
    json:
        Where to write all that was found as JSON.
    width:
        Of the running median in the picture.
    """
    from graftsim.cli import discovering
    from graftsim.experiments.discovery.finding import Choice

    choice = Choice(form, together, rounded, tuple(tie or ()), beta, discovering.fixed(fix or ()))
    discovering.fit(source, first, since, at, partition, choice, scale, width, out, Outputs(json=json, plot=plot))


def apply(
    corrections: Piped,
    machine: str,
    *,
    problem: Problem,
    steps: int = 300,
    recording: Recording | None = None,
    keep_every: KeepEvery = None,
    scale: float = 1.0,
    engine: Engine = "numpy",
    out: Path | None = None,
    plot: Plot = None,
    machine_file: MachineFiles = None,
) -> None:
    """Run a machine whose steps are multiplied by discovered corrections, without the magnitude.

    Examples: graftsim apply corrections.yaml sgd --problem digits --steps 600
              graftsim fit run.npz | graftsim apply - "momentum(lr=0.01)" \\
                --problem digits

    Parameters
    ----------
    corrections:
        A file of corrections (.yaml) with the problem's groups; - is the standard input.
    machine:
        What is corrected: the direction of the graft, at the learning rate that it had there.
    steps:
        How many.
    scale:
        Multiplies all factors, and the file's own scale.
    out:
        Where to save the trajectory (.npz).
    """
    from graftsim.cli import correcting
    from graftsim.runs import Run

    name = "the standard input" if corrections == "-" else corrections
    label = f"{machine}, corrected by {name}"
    run = Run(problem, label, steps, **vars(recording or Recording()), keep_every=keep_every)
    correcting.apply(corrections, machine, run, scale, engine, out, plot, machine_file or [])


def compare(first: Piped, second: Piped, *, json: Path | None = None, plot: Plot = None) -> None:
    """Compare two runs step by step: the cosine of their updates, and the distance of their weights.

    Example: graftsim compare adam.npz grafted.npz --plot agreement.svg

    Parameters
    ----------
    first:
        A trajectory (.npz).
    second:
        Another, of the same tensors, that kept its weights at the same steps.
    json:
        Where to write the numbers of all steps as JSON.
    """
    from graftsim.cli import correcting

    correcting.compare(first, second, Outputs(json=json, plot=plot))
