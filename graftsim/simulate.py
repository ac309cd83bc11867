"""Running a machine on a problem: :func:`simulate`, and :func:`resume` from any recorded step to the same bits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from graftsim import expressions, interrupts, problems, stepping
from graftsim.compiler import build
from graftsim.engine import Engine
from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim.notation import Instance
from graftsim.problems.arguments import SEEDS, integer
from graftsim.problems.problem import Kernel, Problem
from graftsim.program import Program
from graftsim.record import Moment, Record, meta_of
from graftsim.stepping import Stepper
from graftsim.trajectory import Meta, Trajectory

if TYPE_CHECKING:
    from graftsim.compiled.whole import WholeRun

Progress = Callable[[int], object]
STEPS = 10**9


def simulate(
    problem: str | Problem,
    machine: str | Instance | Program,
    steps: int,
    seed: int = 0,
    dtype: str = "float64",
    record_every: int = 1,
    progress: Progress | None = None,
    start: Array | None = None,
    engine: str = "numpy",
    keep_every: int | None = None,
) -> Trajectory:
    """Run ``steps`` steps of a machine on a problem.

    Args:
        problem: a problem or its expression, such as ``"wilson(positives=26, negatives=14)"``.
        machine: an expression such as ``"adam(lr=1e-3)#sgd"``, an instance, or a program built for the problem's
            layout and the dtype.
        steps: how many.
        seed: of what the run draws, such as the order of mini-batches.
        dtype: float32 or float64.
        record_every: one row of the trajectory for so many steps; the start and the last step always have one.
        keep_every: weights and state are kept for so many steps, a multiple of ``record_every``, which it is unless
            given. A run goes on from where they were kept.
        progress: called with the number of steps that are done: after each, or after a block of the compiled engine.
        start: weights to start from, flat, in place of the problem's.
        engine: ``numpy``, the reference; or ``compiled``, the same bits, which pays for many steps or coordinates:
            in one loop where the problem has a compiled gradient, else step by step. Machines with matrices are run
            by the reference, with one warning.

    Returns:
        The trajectory. After a KeyboardInterrupt it is what had been done, with ``meta.complete`` False.

    Raises:
        GraftsimError: any mistake in the arguments; one line.
    """
    found = problems.parse(problem) if isinstance(problem, str) else problem
    integer("steps", steps, 0, STEPS)
    integer("seed", seed, 0, SEEDS)
    integer("record_every", record_every, 1, STEPS)
    keep_every = keeping(keep_every, record_every)
    program = _program(machine, found, dtype)
    weights = np.array(found.start(seed, program.dtype) if start is None else start)
    _check_start(weights, program)
    first = Moment(0, weights, Engine(program).initial_state(), {})
    record = Record(meta_of(program, found, seed, record_every, keep_every), program, steps)
    return _chosen(engine, found, program)(record, first, steps, progress)


def resume(
    done: Trajectory,
    problem: str | Problem,
    steps: int,
    at: int | None = None,
    machine: Program | Instance | None = None,
    progress: Progress | None = None,
    engine: str = "numpy",
) -> Trajectory:
    """Go on with a run from a recorded step: the result is, bit for bit, that of one unbroken run.

    Args:
        done: the trajectory to go on with; it is not changed.
        problem: the problem that was run.
        steps: the step to end at, counted from the start of the whole run.
        at: the recorded step to go on from; the last by default. Later rows are computed again.
        machine: needed only where the machine is not in the spec's library, or has values for so many groups that its
            text is longer than an expression may be.
        progress, engine: as of :func:`simulate`.

    Raises:
        GraftsimError: another problem or machine than was run, or a step that was not recorded.
    """
    found = problems.parse(problem) if isinstance(problem, str) else problem
    meta = done.meta
    program = _program(machine or machine_of(meta), found, meta.dtype)
    check_same(done, found, program)
    begin = int(done.kept[-1]) if at is None else at
    moment = moment_of(done, begin)
    integer("steps", steps, begin, STEPS)
    record = Record(meta_of(program, found, meta.seed, meta.record_every, meta.keep_every), program, steps)
    record.begin_with(done, begin)
    return _chosen(engine, found, program)(record, moment, steps, progress)


def keeping(keep_every: int | None, record_every: int) -> int:
    """How often weights and state are kept."""
    if keep_every is None:
        return record_every
    integer("keep_every", keep_every, 1, STEPS)
    if keep_every % record_every:
        raise GraftsimError(f"keep_every must be a multiple of record_every, {record_every}; received {keep_every}")
    return keep_every


def machine_of(meta: Meta) -> str:
    """The machine of a record as text.

    Raises:
        GraftsimError: it cannot be read back, since it is longer than an expression may be.
    """
    if len(meta.machine) > expressions.LENGTH:
        raise GraftsimError(
            f"to resume, the machine must be given as an instance: its text has {len(meta.machine)} characters, and an "
            f"expression at most {expressions.LENGTH}"
        )
    return meta.machine


def check_same(done: Trajectory, problem: Problem, program: Program) -> None:
    """What goes on with a run must be what was run."""
    meta = done.meta
    for what, given, was in (("problem", str(problem), meta.problem), ("machine", str(program.instance), meta.machine)):
        if given != was:
            raise GraftsimError(f"to resume, the {what} must be the one that was run, {was}; received {given}")


def moment_of(done: Trajectory, step: int) -> Moment:
    """The run as it stood after a step whose weights and state were kept."""
    kept, row = done.kept_row(step), done.row(step)
    state = {path: values[kept].copy() for path, values in done.state.items()}
    info = {path: values[row - 1].copy() for path, values in done.info.items()} if row else {}
    return Moment(step, done.weights[kept].copy(), state, info)


Runner = Callable[[Record, Moment, int, Progress | None], Trajectory]


def _chosen(engine: str, problem: Problem, program: Program) -> Runner:
    """What runs: one compiled loop where there can be one, else step after step by one of the engines."""
    name = stepping.chosen(engine, program, stacklevel=3)
    if name == "compiled":
        from graftsim.compiled import whole  # Numba is imported when the first program is compiled

        kernel = whole.kernel_of(problem, program)
        if kernel is not None:
            return partial(run_compiled, problem, _whole(program, kernel), {})
    return partial(_run, problem, stepping.stepper(name, program))


def run_compiled(
    problem: Problem,
    run: WholeRun,
    settings: Mapping[str, float],
    record: Record,
    moment: Moment,
    steps: int,
    progress: Progress | None,
) -> Trajectory:
    """Block after block of steps in the compiled loop; an interrupt is heard between them."""
    done = moment.step
    if done % record.meta.record_every == 0:
        record.add(moment, problem.loss(moment.weights))
    weights, info = moment.weights.copy(), moment.info
    state = {path: values.copy() for path, values in moment.state.items()}
    try:
        while done < steps:
            count = min(run.block(state), steps - done)
            rows = record.room(done, count)
            with interrupts.held():
                info = run.advance(weights, state, done, count, record.meta, rows, settings)
                record.wrote(done, count)
                done += count
            if progress:
                progress(done)
    except KeyboardInterrupt:
        pass
    record.finish(Moment(done, weights, state, info), problem.loss(weights))
    return record.trajectory(complete=done == steps)


def _run(
    problem: Problem, step: Stepper, record: Record, moment: Moment, steps: int, progress: Progress | None
) -> Trajectory:
    every, seed = record.meta.record_every, record.meta.seed
    with np.errstate(all="ignore"):  # a run may overflow; the trajectory shows it
        try:
            while moment.step < steps:
                if moment.step % every == 0:
                    record.add(moment, problem.loss(moment.weights))
                number = moment.step + 1
                gradients = problem.gradients(moment.weights, number, seed)
                with interrupts.held():
                    moment = step(moment, gradients)
                if progress:
                    progress(number)
        except KeyboardInterrupt:
            pass
        record.finish(moment, problem.loss(moment.weights))
    return record.trajectory(complete=moment.step == steps)


@lru_cache(maxsize=64)
def built(machine: str, layout: Layout, dtype: str) -> Program:
    """Runs of one expression, with machines of the spec, share a program, and with it what was compiled for it."""
    return build(machine, layout, dtype)


_WHOLE: OrderedDict[tuple[Program, str], WholeRun] = OrderedDict()


def _whole(program: Program, kernel: Kernel) -> WholeRun:
    """The compiled run of a program with a kernel, made once for the programs that were used last."""
    from graftsim.compiled.whole import WholeRun

    key = (program, kernel.name)
    if key not in _WHOLE:
        _WHOLE[key] = WholeRun(program, kernel)
        if len(_WHOLE) > 64:
            _WHOLE.popitem(last=False)
    return _WHOLE[key].another(kernel)


def _program(machine: str | Instance | Program, problem: Problem, dtype: str) -> Program:
    if isinstance(machine, str):
        return built(machine, problem.layout, dtype)
    if isinstance(machine, Instance):
        return build(machine, problem.layout, dtype)
    if machine.layout != problem.layout or machine.dtype != np.dtype(dtype):
        raise GraftsimError(
            f"the program must be built for the problem's layout {dict(problem.layout.tensors)} and {dtype}; "
            f"it is for {dict(machine.layout.tensors)} and {machine.dtype}"
        )
    return machine


def _check_start(weights: Array, program: Program) -> None:
    if weights.shape != (program.layout.size,) or weights.dtype != program.dtype:
        raise GraftsimError(
            f"the start must have shape {(program.layout.size,)} and dtype {program.dtype}; "
            f"received {weights.shape} and {weights.dtype}"
        )
