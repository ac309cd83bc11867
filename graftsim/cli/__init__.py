"""The command line: ``graftsim list``, ``show``, ``run``, ``check`` and ``bench``.

Each command is a module of its own and imports what it needs when it runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from graftsim.cli.options import Lengths, Outputs
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

GRAFTED_OVER = ("global", "tensor")
RATES = ("sgd(lr=0.01)", "sgd(lr=0.1)", "sgd(lr=1)")
Several = Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")]
MachineFiles = Annotated[
    list[Path] | None, Parameter(name="--machine-file", negative="", help="A machine file to add to the library.")
]

Piped = Annotated[str, Parameter(allow_leading_hyphen=True)]
"""A file, or - for the standard input or output."""


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
        Import paths, such as torch.optim:Adam or mymodule:MyAdam, or programs, by a path with a slash in it, or an
        adapter of this project, such as graftsim_torch.
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


@app.command
def grid(
    problem: str,
    *,
    optimizers: Several = None,
    partitions: Several = None,
    seeds: int = 3,
    measures: Several = None,
    lengths: Lengths | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Run every pair M#D of some tuned optimizers, with no further tuning: do curves cluster by M or by D?

    Examples: graftsim grid digits
              graftsim grid "logistic(batch=64)" --optimizers "sgd(lr=0.1)" adam "adagrad(lr=0.1)" --plot grid.svg

    Parameters
    ----------
    problem:
        A problem, or a setup file (.yaml) of a problem and tuned optimizers.
    optimizers:
        Machines with their tuned learning rates; by default those of the setup.
    partitions:
        Over which they are grafted; global and tensor by default.
    seeds:
        How many runs of each pair.
    measures:
        What is shown beside the final loss; by default what the problem measures on test data.
    """
    from graftsim.cli import gridding

    many = (optimizers or (), partitions or GRAFTED_OVER)
    gridding.grid(problem, *many, seeds, measures or (), lengths or Lengths(), outputs or Outputs())


@app.command
def zoo(
    problem: str,
    *,
    m: str | None = None,
    optimizers: Several = None,
    partitions: Several = None,
    seeds: int = 3,
    measures: Several = None,
    lengths: Lengths | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Run many optimizers as directions under one M, which compares their directions alone.

    Examples: graftsim zoo digits
              graftsim zoo "logistic(batch=64)" --m "adagrad(lr=0.1)" --optimizers sgd adam yogi signum

    Parameters
    ----------
    problem:
        A problem, or a setup file (.yaml).
    m:
        The machine whose step lengths all take.
    optimizers:
        The machines whose directions are compared; also run alone, at the rates written.
    partitions:
        Over which they are grafted; global and tensor by default.
    seeds:
        How many runs of each.
    measures:
        What is shown beside the final loss; by default what the problem measures on test data.
    """
    from graftsim.cli import isolating

    many = (optimizers or (), partitions or GRAFTED_OVER)
    isolating.zoo(problem, m, *many, seeds, measures or (), lengths or Lengths(), outputs or Outputs())


@app.command
def sweep(
    parameter: str,
    problem: str,
    machine: str,
    *,
    values: Annotated[list[str], Parameter(consume_multiple=True, negative="")],
    seeds: int = 1,
    measures: Several = None,
    lengths: Lengths | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Run a machine with each of some values of one hyperparameter.

    Examples: graftsim sweep lr digits momentum --values 0.01 0.1 1 --seeds 3
              graftsim sweep eps "wilson(positives=23, negatives=17)" "adagrad(lr=0.1 + 0.02 * {eps}, eps={eps})"
              --values 0 1e-2 1 100 1e4 --steps 4000 --measures "score(-1)" --plot eps.svg

    Parameters
    ----------
    parameter:
        The hyperparameter, such as eps, or magnitude.eps of a graft's M.
    problem:
        A problem, or a setup file (.yaml).
    machine:
        The machine. Where its text has the parameter in braces, {eps}, each value is written there.
    values:
        At least two, as in an expression.
    seeds:
        How many runs of each value.
    measures:
        What is shown beside the final loss; the first is drawn.
    """
    from graftsim.cli import sweeping

    rest = (lengths or Lengths(), outputs or Outputs())
    sweeping.sweep(parameter, problem, machine, values, seeds, measures or (), *rest)


@app.command
def diagnose(
    optimizer: str,
    *,
    problem: str,
    sgd: Several = None,
    partitions: Several = None,
    seeds: int = 5,
    measures: Several = None,
    lengths: Lengths | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Ask whether an optimizer's gain over SGD is its step size: A, SGD, and A#SGD with A's steps in SGD's direction.

    Examples: graftsim diagnose "adam(lr=0.01)" --problem "logistic(batch=64)"
              graftsim diagnose "adam(lr=0.003)" --problem digits --sgd "momentum(lr=0.03)" "momentum(lr=0.1)"

    Parameters
    ----------
    optimizer:
        A, with its tuned learning rate.
    problem:
        A problem, or a setup file (.yaml).
    sgd:
        SGD, or momentum, at some rates; the best of them is what A is compared with, and the first gives the direction.
        By default sgd at 0.01, 0.1 and 1.
    partitions:
        Over which A#SGD is grafted; global and tensor by default.
    seeds:
        How many runs of each. Fewer than 5 decide nothing, by the sign test at 5 %.
    measures:
        What is shown beside the final loss; by default what the problem measures on test data.
    """
    from graftsim.cli import diagnosing

    many = (sgd or RATES, partitions or GRAFTED_OVER)
    diagnosing.diagnose(optimizer, problem, *many, seeds, measures or (), lengths or Lengths(), outputs or Outputs())


@app.command
def record(
    machine: str,
    *,
    problem: str,
    out: Piped,
    steps: int = 300,
    seed: int = 0,
    dtype: str = "float64",
    record_every: int = 1,
    keep_every: int | None = None,
    machine_file: MachineFiles = None,
) -> None:
    """Run a graft and record what discovery asks for: the norms of both steps and of the gradient, group by group.

    Examples: graftsim record "adam#sgd" --problem digits --steps 300 --out run.npz
              graftsim record "adam#sgd" --problem digits --out - | graftsim fit -

    Parameters
    ----------
    machine:
        A graft, possibly inside machines with one child.
    problem:
        A problem.
    out:
        Where to save the recording (.npz); - is the standard output.
    steps, seed, dtype, record_every:
        Of the run.
    keep_every:
        Weights and state are kept every so many steps, which compare needs; at the start and the end by default.
    """
    from graftsim.cli import discovering
    from graftsim.runs import Run

    run = Run(problem, machine, steps, seed, dtype, record_every, keep_every)
    discovering.record(run, out, machine_file or [])


@app.command
def fit(
    source: Piped,
    *,
    first: int | None = None,
    form: str = "constant",
    since: int | None = None,
    together: Annotated[bool, Parameter(negative="")] = False,
    rounded: Annotated[bool, Parameter(name=["--round", "--rounded"], negative="")] = False,
    tie: Annotated[list[str] | None, Parameter(negative="")] = None,
    beta: float | None = None,
    fix: Annotated[list[str] | None, Parameter(negative="")] = None,
    scale: float = 1.0,
    at: str | None = None,
    partition: str | None = None,
    out: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    json: Path | None = None,
    plot: Path | None = None,
    width: int = 51,
) -> None:
    """Find learning-rate corrections in the record of a graft: a factor for each group with which D trains alone.

    Examples: graftsim fit run.npz --first 300 --round --tie "*attention*" --beta 500 --out corrections.yaml
              graftsim fit run.npz --together --form power --plot ratios.svg

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
    plot:
        Where to draw the ratios (.svg, .png or .pdf).
    width:
        Of the running median in the picture.
    """
    from graftsim.cli import discovering
    from graftsim.cli.options import Outputs
    from graftsim.experiments.discovery.finding import Choice

    choice = Choice(form, together, rounded, tuple(tie or ()), beta, discovering.fixed(fix or ()))
    outputs = Outputs(json=json, plot=plot)
    discovering.fit(source, first, since, at, partition, choice, scale, width, out, outputs)


@app.command
def apply(
    corrections: Piped,
    machine: str,
    *,
    problem: str,
    steps: int = 300,
    seed: int = 0,
    dtype: str = "float64",
    record_every: int = 1,
    keep_every: int | None = None,
    scale: float = 1.0,
    engine: str = "numpy",
    out: Path | None = None,
    plot: Path | None = None,
    machine_file: MachineFiles = None,
) -> None:
    """Run a machine whose steps are multiplied by discovered corrections, without the magnitude.

    Examples: graftsim apply corrections.yaml sgd --problem digits --steps 600
              graftsim fit run.npz --out - | graftsim apply - "momentum(lr=0.01)" --problem digits

    Parameters
    ----------
    corrections:
        A file of corrections (.yaml); - is the standard input.
    machine:
        What is corrected: the direction of the graft, at the learning rate that it had there.
    problem:
        A problem with the groups of the corrections.
    steps, seed, dtype, record_every, keep_every, engine, out, plot:
        As of run.
    scale:
        Multiplies all factors, and the file's own scale.
    """
    from graftsim.cli import correcting
    from graftsim.runs import Run

    name = "the standard input" if corrections == "-" else corrections
    run = Run(problem, f"{machine}, corrected by {name}", steps, seed, dtype, record_every, keep_every)
    correcting.apply(corrections, machine, run, scale, engine, out, plot, machine_file or [])


@app.command
def compare(first: Piped, second: Piped, *, json: Path | None = None, plot: Path | None = None) -> None:
    """Compare two runs step by step: the cosine of their updates, and the distance of their weights.

    Example: graftsim compare adam.npz grafted.npz --plot agreement.svg

    Parameters
    ----------
    first, second:
        Trajectories (.npz) of the same tensors that kept their weights at the same steps.
    json:
        Where to write the numbers of all steps as JSON.
    plot:
        Where to draw them (.svg, .png or .pdf).
    """
    from graftsim.cli import correcting
    from graftsim.cli.options import Outputs

    correcting.compare(first, second, Outputs(json=json, plot=plot))


@app.command
def transfer(
    *,
    problem: str,
    m: str,
    d: str,
    budget: int = 25,
    seeds: int = 5,
    select: str = "selection accuracy",
    report: str = "test accuracy",
    rate: str | None = None,
    partition: str = "tensor",
    seed: int = 0,
    lengths: Lengths | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Search M, then D alone and M#D with equal budgets: how much of the gap between D and M does grafting close?

    Examples: graftsim transfer --problem digits --m adam --d momentum
              graftsim transfer --problem digits --m "adam(lr=0.003)" --d bert-sgd-8k --budget 9 --ledger search.jsonl

    Parameters
    ----------
    problem:
        A problem, or a setup file (.yaml).
    m:
        M's search space, by name or as a file (.yaml); or a machine with its tuned settings, which is not searched.
    d:
        D's search space, by name or as a file (.yaml).
    budget:
        How many trials each search has. All are kept, the diverged ones too.
    seeds:
        With how many further seeds the best of each is run again. Fewer than 5 decide nothing, by the sign test at 5 %.
    select:
        The measure that the best trial is best by. One whose name ends in neither accuracy, loss nor error needs max or
        min before it.
    report:
        The measure that is reported of the best; another than that of the selection.
    rate:
        What takes the place of D's learning rate in M#D, where it cannot be seen: scale, a factor of the graft;
        magnitude, M's learning rate; or none. By default magnitude if D has nothing else to tune, as in the 2021 paper.
    partition:
        Over which M#D is grafted.
    seed:
        Of the search: its points, and its training runs. Those of the report follow it.
    """
    from graftsim.cli import transferring

    rest = (rate, partition, lengths or Lengths(), outputs or Outputs())
    transferring.transfer(problem, (m, d), budget, seeds, seed, (select, report), *rest)


@app.command
def papers(name: str | None = None, *, json: Path | None = None) -> None:
    """Check what the papers print: tables against each other and against short runs, and list the misprints.

    Examples: graftsim papers
              graftsim papers rounding-table
              graftsim papers 2021_table_13

    Parameters
    ----------
    name:
        A check, to see what it compares; or a printed table, to see it.
    json:
        Where to write checks and misprints as JSON.
    """
    from graftsim.cli import reproducing

    reproducing.papers(name, json)


@app.command
def reproduce(
    *,
    quick: Annotated[bool, Parameter(negative="")] = False,
    only: Several = None,
    out: Path = Path("report.html"),
    json: Path | None = None,
    ledger: Path | None = None,
    jobs: Annotated[int, Parameter(name=["--jobs", "-j"])] = 1,
) -> None:
    """Test the claims of both papers by small experiments, and write a report that opens from disk.

    Examples: graftsim reproduce --quick -j 2
              graftsim reproduce -j 2 --out grafting.html
              graftsim reproduce --only two-by-two algebra

    What is interrupted goes on when the same command is given again. The whole report takes about half an hour on two
    cores, most of it for a small language model; --quick leaves that and the convolutional network out.

    Parameters
    ----------
    quick:
        Leave out what takes minutes, and take three seeds in place of five.
    only:
        Only these claims, by the names that the report prints with each.
    out:
        Where to write the report, as HTML.
    json:
        Where to write claims, checks and misprints as JSON.
    ledger:
        A file that keeps every finished run, for this and later reports.
    jobs:
        How many processes run at a time.
    """
    from graftsim.cli import reproducing

    reproducing.reproduce(only or (), quick, out, json, ledger, jobs)


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
