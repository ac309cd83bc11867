"""``graftsim check`` and ``translate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from graftsim.cli.options import Flag, Jobs, Repeated


def check(
    *targets: str,
    machine: Annotated[Repeated, Parameter(name="--as")] = None,
    like: str | None = None,
    mode: Annotated[str, Parameter(show_default=False)] = "",
    dtype: str | None = None,
    only: str = "*",
    rules: Repeated = None,
    quick: Flag = False,
    all_cases: Annotated[Flag, Parameter(name="--all")] = False,
    list_only: Annotated[Flag, Parameter(name="--list")] = False,
    jobs: Jobs = 1,
    fresh: Flag = False,
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
              graftsim check ./adam_in_c --as adam -j 2 --certificate adam.json

    The exit code is 0 if all targets are equivalent, 1 if one is not, and 2 for
    a mistake in the call.

    Parameters
    ----------
    targets:
        Import paths, as torch.optim:Adam or mymodule:MyAdam; programs, as ./path; or adapters, as graftsim_torch.
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
    fresh:
        Begin anew where an interrupted run would go on.
    seconds:
        How long one call into a Python object, or one reply of a program, may take.
    json:
        Where to write the report as JSON.
    report:
        Where to write the report as HTML.
    certificate:
        Where to write the certificate (.json), if all cases pass; runs what --all does.
    junit:
        Where to write the report as JUnit XML.
    """
    from graftsim.cli import checking

    how = {
        "machines": tuple(machine or ()),
        "like": like,
        "mode": mode,
        "dtype": dtype,
        "only": only,
        "rules": tuple(rules or ()),
        "quick": quick,
        "every": all_cases or certificate is not None,
        "seconds": seconds,
    }
    outputs = checking.Outputs(json, report, certificate, junit)
    sys.exit(checking.main(targets, how, outputs, jobs, fresh, list_only))


def translate(optimizer: str, *, to: str) -> None:
    """Translate an optimizer to another framework, every hidden default spelled out, or say how far the nearest is.

    Examples: graftsim translate "torch.optim.Adagrad(lr=0.1)" --to optax
              graftsim translate "optax.adam(1e-3)" --to spec
              graftsim translate "momentum(lr=0.1, form=ema)" --to keras

    The exit code is 0 if the other framework has an equivalent and 1 if it has
    none.

    Parameters
    ----------
    optimizer:
        A constructor as it stands in a program, or a machine; its values must be numbers.
    to:
        A framework of the dialects, or spec for the machine that the constructor is.
    """
    from graftsim.cli import translating

    sys.exit(translating.translate(optimizer, to))
