"""``graftsim grid``, ``zoo``, ``sweep``, ``diagnose`` and ``transfer``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from graftsim.cli.options import Lengths, Measures, Outputs, Partitions, Seeds, Setup, Several

GRAFTED_OVER = ("global", "tensor")
RATES = ("sgd(lr=0.01)", "sgd(lr=0.1)", "sgd(lr=1)")


def grid(
    problem: Setup,
    *,
    optimizers: Several = None,
    partitions: Partitions = None,
    seeds: Seeds = 3,
    measures: Measures = None,
    lengths: Lengths | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Run every pair M#D of some tuned optimizers, with no further tuning: do curves cluster by M or by D?

    Examples: graftsim grid digits
              graftsim grid "logistic(batch=64)" --plot grid.svg \\
                --optimizers "sgd(lr=0.1)" adam "adagrad(lr=0.1)"

    Parameters
    ----------
    optimizers:
        Machines with their tuned learning rates; by default those of the setup.
    """
    from graftsim.cli import gridding

    many = (optimizers or (), partitions or GRAFTED_OVER)
    gridding.grid(problem, *many, seeds, measures or (), lengths or Lengths(), outputs or Outputs())


def zoo(
    problem: Setup,
    *,
    m: str | None = None,
    optimizers: Several = None,
    partitions: Partitions = None,
    seeds: Seeds = 3,
    measures: Measures = None,
    lengths: Lengths | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Run many optimizers as directions under one M, which compares their directions alone.

    Examples: graftsim zoo digits
              graftsim zoo "logistic(batch=64)" --m "adagrad(lr=0.1)" \\
                --optimizers sgd adam yogi signum

    Parameters
    ----------
    m:
        The machine whose step lengths all take.
    optimizers:
        The machines whose directions are compared; also run alone, at the rates written.
    """
    from graftsim.cli import isolating

    many = (optimizers or (), partitions or GRAFTED_OVER)
    isolating.zoo(problem, m, *many, seeds, measures or (), lengths or Lengths(), outputs or Outputs())


def sweep(
    parameter: str,
    problem: Setup,
    machine: str,
    *,
    values: Annotated[list[str], Parameter(consume_multiple=True, negative="")],
    seeds: Seeds = 1,
    measures: Measures = None,
    lengths: Lengths | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Run a machine with each of some values of one hyperparameter.

    Examples: graftsim sweep lr digits momentum --values 0.01 0.1 1 --seeds 3
              graftsim sweep eps "wilson(positives=23, negatives=17)" \\
                "adagrad(lr=0.1 + 0.02 * {eps}, eps={eps})" \\
                --values 0 1e-2 1 100 1e4 --steps 4000 \\
                --measures "score(-1)" --plot eps.svg

    The plot is of the first of the measures.

    Parameters
    ----------
    parameter:
        The hyperparameter, such as eps, or magnitude.eps of a graft's M.
    machine:
        The machine. Where its text has the parameter in braces, {eps}, each value is written there.
    values:
        At least two, as in an expression.
    """
    from graftsim.cli import sweeping

    rest = (lengths or Lengths(), outputs or Outputs())
    sweeping.sweep(parameter, problem, machine, values, seeds, measures or (), *rest)


def diagnose(
    optimizer: str,
    *,
    problem: Setup,
    sgd: Several = None,
    partitions: Partitions = None,
    seeds: int = 5,
    measures: Measures = None,
    lengths: Lengths | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Ask whether an optimizer's gain over SGD is its step size: A, SGD, and A#SGD with A's steps in SGD's direction.

    Examples: graftsim diagnose "adam(lr=0.01)" --problem "logistic(batch=64)"
              graftsim diagnose "adam(lr=0.003)" --problem digits \\
                --sgd "momentum(lr=0.03)" "momentum(lr=0.1)"

    The best of the baselines is what A is compared with, and the first gives
    the direction.

    Parameters
    ----------
    optimizer:
        A, with its tuned learning rate.
    sgd:
        The baselines: SGD, or momentum, at some rates; by default sgd at 0.01, 0.1 and 1.
    seeds:
        How many runs of each. Fewer than 5 decide nothing, by the sign test at 5 %.
    """
    from graftsim.cli import diagnosing

    many = (sgd or RATES, partitions or GRAFTED_OVER)
    diagnosing.diagnose(optimizer, problem, *many, seeds, measures or (), lengths or Lengths(), outputs or Outputs())


def transfer(
    *,
    problem: Setup,
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
              graftsim transfer --problem digits --m "adam(lr=0.003)" \\
                --d bert-sgd-8k --budget 9 --ledger search.jsonl

    A measure whose name ends in neither accuracy, loss nor error needs max or
    min before it. In M#D, where D's learning rate cannot be seen, its place is
    taken by scale, a factor of the graft; by magnitude, M's learning rate; or by
    none: by magnitude if D has nothing else to tune, as in the 2021 paper.

    Parameters
    ----------
    m:
        M's search space, by name or as a file (.yaml); or a machine with its tuned settings, which is not searched.
    d:
        D's search space, by name or as a file (.yaml).
    budget:
        How many trials each search has. All are kept, the diverged ones too.
    seeds:
        With how many further seeds the best of each is run again. Fewer than 5 decide nothing, by the sign test at 5 %.
    select:
        The measure that the best trial is best by.
    report:
        The measure that is reported of the best; another than that of the selection.
    rate:
        What takes the place of D's learning rate in M#D: scale, magnitude or none.
    partition:
        Over which M#D is grafted.
    seed:
        Of the search: its points, and its training runs. Those of the report follow it.
    """
    from graftsim.cli import transferring

    rest = (rate, partition, lengths or Lengths(), outputs or Outputs())
    transferring.transfer(problem, (m, d), budget, seeds, seed, (select, report), *rest)
