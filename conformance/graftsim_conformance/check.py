"""``graftsim check torch.optim:Adam``: is a native optimizer the machine that its dialect says, step by step?

The native runs on the golden gradients; :mod:`graftsim_conformance.follow` compares. Every row of the target's
dialect is checked, or the one that fits a machine which the user claims.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Collection

from graftsim import compiler, notation
from graftsim.errors import GraftsimError, nearest
from graftsim.notation import Instance
from graftsim_conformance import candidates, golden
from graftsim_conformance.cases import Case, in_dtype, read_parameters, settled
from graftsim_conformance.dialects import Row, Target, absent, fixed, targets, told
from graftsim_conformance.follow import BUDGET, Recorded, record
from graftsim_conformance.judge import Tally, tallied
from graftsim_conformance.neighbours import Trial, apart, hint, short
from graftsim_conformance.probes import LAYOUT
from graftsim_conformance.report import Report, RowReport
from graftsim_conformance.verdicts import CandidateError, Verdict


def check(
    target: str,
    machine: str | None = None,
    like: str | None = None,
    mode: str = "",
    dtype: str = "float64",
    chosen: Collection[str] | None = None,
) -> Report:
    """Judge a native optimizer.

    Args:
        target: its import path, ``module:attribute``.
        machine: an expression that it is claimed to be, in place of what its dialect says. Options count; a
            hyperparameter that is written is a claim about the native's default, and is not passed to it.
        like: the target of the dialects whose arguments and state names it has, where it is not one of them itself
            (a class of your own with the interface of ``torch.optim:Adam``).
        mode: how the framework is to run a step (``foreach``, ``jit``); its default where empty.
        dtype: of weights, gradients and coordinate state: float64 or float32.
        chosen: names of golden cases, edges too, as :func:`graftsim_conformance.golden.chosen` selects them; the six
            streams of each row's machine where None.

    Raises:
        GraftsimError: the target cannot be imported or has no dialect; the machine does not fit it; it fails to run;
            none of the chosen cases is of it.
    """
    known = targets()
    if like is not None and like not in known:
        raise GraftsimError(f"there is no dialect of {like!r}{nearest(like, known)}")
    native = candidates.load(target)
    if (like or target) not in known:
        raise GraftsimError(
            f"there is no dialect of {target!r}{why_not(target)}; known are {', '.join(sorted(known))}; "
            "one whose arguments and state have the same names can be given with like"
        )
    dialect = known[like or target]
    claims = [(row, row.instance) for row in dialect.rows] if machine is None else [claimed(dialect, machine)]
    name, version = candidates.backend(dialect.framework) or ("", "")
    run = _Run(target, lambda: candidates.wrap(dialect.framework, native, mode), dtype, name)
    rows = tuple(
        _row(run, dialect, row, instance, cases) for row, instance in claims if (cases := pool(row, chosen, dtype))
    )
    if not rows:
        raise GraftsimError(f"none of the chosen cases is of {target}; graftsim check --list shows their names")
    versions = versions_of(dialect) | ({name: version} if name else {})
    return Report(target, machine, BUDGET, versions, rows, name, mode, dtype)


def pool(row: Row, chosen: Collection[str] | None, dtype: str) -> list[Case]:
    """The golden cases on which a row is checked; streams in any dtype, edges only in their own."""
    if chosen is None:
        return golden.of_machine(row.instance)
    found = [golden.stored(name) for name in golden.names_of(row.instance) if name in chosen]
    return [case for case in found if case.dtype == dtype or (dtype == "float32" and golden.is_stream(case.name))]


def why_not(target: str) -> str:
    """The reason that a dialect file gives for having no such target."""
    module, _, name = target.partition(":")
    reason = absent().get(module.partition(".")[0], {}).get(name)
    return f" ({reason})" if reason else ""


def versions_of(dialect: Target) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("graftsim", *dialect.distributions, "numpy")}


def claimed(target: Target, machine: str) -> tuple[Row, Instance]:
    """The row nearest to the machine among those that set every hyperparameter which the machine reads."""
    claim = notation.parse(machine)
    program = compiler.build(claim, LAYOUT)
    needed = set(read_parameters(program)) - set(fixed(claim))
    fits = [row for row in target.rows if _suits(row, set(program.parameters), needed)]
    if not fits:
        has = ", ".join(dict.fromkeys(short(row.instance) for row in target.rows))
        raise GraftsimError(
            f"{machine!r} reads {', '.join(sorted(needed))}, which must be arguments of one row of {target.path}; "
            f"its machines are {has}"
        )
    row = min(fits, key=lambda row: _distance(row, claim, needed))
    known = {**fixed(row.instance), **fixed(claim)}
    return row, settled(claim, known)


def _distance(row: Row, claim: Instance, needed: set[str]) -> tuple[int, int, int, int]:
    """How far a row is from a claim: what it does not give, then machines, options, and what it gives beside."""
    given = _set_by(row)
    return len(needed - given), _others(row.instance, claim), apart(row.instance, claim), len(given - needed)


def _set_by(row: Row) -> set[str]:
    """The hyperparameters that a row's arguments give."""
    return set(read_parameters(compiler.build(row.instance, LAYOUT))) - set(fixed(row.instance))


def _suits(row: Row, parameters: set[str], needed: set[str]) -> bool:
    """Whether a row's machine is a relative (the same paths) and says what each needed hyperparameter is."""
    known = _set_by(row) | set(fixed(row.instance))
    return set(compiler.build(row.instance, LAYOUT).parameters) == parameters and needed <= known


def _others(first: Instance, second: Instance) -> int:
    """How many machines are not the same one."""
    pairs = zip(first.children.values(), second.children.values(), strict=False)
    return (first.machine.name != second.machine.name) + sum(_others(a, b) for a, b in pairs)


@dataclasses.dataclass(frozen=True)
class _Run:
    """How a candidate is made and run."""

    target: str
    fresh: Callable[[], candidates.Candidate]
    dtype: str
    backend: str


def _row(run: _Run, dialect: Target, row: Row, claim: Instance, given: list[Case]) -> RowReport:
    """Run cases of the row's machine; hold the claimed machine against each."""
    held, rounded = fixed(claim), told(row.through_float32, run.backend, run.dtype) or ()
    runs = [(case, _record(run, row, case, held, rounded)) for case in (in_dtype(case, run.dtype) for case in given)]
    trials: list[Trial] = [(case, steps) for case, steps in runs if steps]
    profiles = told(row.profiles, run.backend, run.dtype) or ()
    tally = Tally()
    for case, steps in trials:
        program = compiler.build(settled(claim, steps[0].settings), case.layout, case.dtype)
        tally.join(tallied(program, case, steps, row, profiles))
    slots = compiler.build(claim, LAYOUT).slots
    read = [step.new_state for _, steps in trials for step in steps]
    return RowReport(
        variant=row.variant,
        machine=short(claim),
        cases=len(trials),
        comparisons=tally.comparisons,
        undecided=tally.undecided,
        largest=tally.largest,
        largest_at=tally.largest_at,
        unread=tuple(path for path in slots if any(path not in state for state in read)),
        float32=row.float32,
        failure=tally.failure,
        hint=hint(claim, row, dialect, trials) if tally.failure else "",
        through_float32=tuple(rounded),
        known=told(row.not_expressible, run.backend, run.dtype) or "",
        unsupported=tuple(case.name for case, steps in runs if not steps),
        granted=tally.granted,
    )


def _record(run: _Run, row: Row, case: Case, held: dict[str, float], rounded: Collection[str]) -> list[Recorded]:
    """The record of a run; none where the native does not support the case."""
    where = f"{run.target}, row {row.variant}, case {case.name}"
    try:
        return record(run.fresh(), row, case, held, rounded)
    except CandidateError as error:
        if error.verdict is Verdict.NOT_SUPPORTED:
            return []
        raise GraftsimError(f"{where}: {error}") from None
    except GraftsimError as error:
        raise GraftsimError(f"{where}: {error}") from None
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise GraftsimError(f"{where}: the candidate failed: {text[:300]}") from error
