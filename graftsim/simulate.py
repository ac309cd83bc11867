"""Running a machine on a problem: :func:`simulate`, and :func:`resume` from any recorded step to the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from graftsim import problems, trajectory
from graftsim.compiler import build
from graftsim.engine import Engine, Step
from graftsim.errors import GraftsimError
from graftsim.layouts import Array
from graftsim.notation import Instance
from graftsim.problems.arguments import SEEDS, integer
from graftsim.problems.problem import Kernel, Problem
from graftsim.program import Program, Rank
from graftsim.trajectory import Meta, Trajectory

if TYPE_CHECKING:
    from graftsim.compiled.whole import Rows, WholeRun

Progress = Callable[[int], object]
ENGINES = ("numpy", "compiled")
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
        progress: called with the number of each step that is done.
        start: weights to start from, flat, in place of the problem's.
        engine: ``numpy``, the reference; or ``compiled``, the same bits in one compiled loop, which pays for many
            steps. What cannot be compiled is run by the reference, with one warning that says why.

    Returns:
        The trajectory. After a KeyboardInterrupt it is what had been done, with ``meta.complete`` False.

    Raises:
        GraftsimError: any mistake in the arguments; one line.
    """
    found = problems.parse(problem) if isinstance(problem, str) else problem
    integer("steps", steps, 0, STEPS)
    integer("seed", seed, 0, SEEDS)
    integer("record_every", record_every, 1, STEPS)
    program = _program(machine, found, dtype)
    weights = found.start(seed, program.dtype) if start is None else np.array(start)
    _check_start(weights, program)
    first = Moment(0, weights, Engine(program).initial_state(), {})
    record = Record(meta_of(program, found, seed, record_every), program, steps)
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
        machine: needed only where the machine is not in the spec's library.
        progress, engine: as of :func:`simulate`.

    Raises:
        GraftsimError: another problem or machine than was run, or a step that was not recorded.
    """
    found = problems.parse(problem) if isinstance(problem, str) else problem
    meta = done.meta
    program = _program(machine or meta.machine, found, meta.dtype)
    for what, given, was in (("problem", str(found), meta.problem), ("machine", str(program.instance), meta.machine)):
        if given != was:
            raise GraftsimError(f"to resume, the {what} must be the one that was run, {was}; received {given}")
    row = done.row(int(done.steps[-1]) if at is None else at)
    begin = int(done.steps[row])
    integer("steps", steps, begin, STEPS)
    record = Record(meta_of(program, found, meta.seed, meta.record_every), program, steps)
    for earlier in range(row):
        if done.steps[earlier] % meta.record_every == 0:  # an earlier end between two recorded steps goes
            record.add(_moment(done, earlier), float(done.loss[earlier]))
    return _chosen(engine, found, program)(record, _moment(done, row), steps, progress)


@dataclass(frozen=True)
class Moment:
    """A run after ``step`` steps; ``info`` is that step's, empty at the start."""

    step: int
    weights: Array
    state: dict[str, Array]
    info: dict[str, Array]

    def after(self, step: Step) -> Moment:
        return Moment(self.step + 1, step.weights, step.state, step.info)


def _moment(done: Trajectory, row: int) -> Moment:
    state = {path: values[row].copy() for path, values in done.state.items()}
    info = {path: values[row - 1].copy() for path, values in done.info.items()} if row else {}
    return Moment(int(done.steps[row]), done.weights[row].copy(), state, info)


Runner = Callable[["Record", "Moment", int, Progress | None], Trajectory]


def _chosen(engine: str, problem: Problem, program: Program) -> Runner:
    """What runs: the reference, or the compiled loop where there can be one."""
    if engine not in ENGINES:
        raise GraftsimError(f"engine must be {' or '.join(ENGINES)}; received {engine!r}")
    if engine == "numpy":
        return partial(_run, problem, Engine(program))
    from graftsim.compiled import whole  # Numba is imported when the first program is compiled

    kernel: Kernel | None = getattr(problem, "kernel", None)
    why = whole.can_compile(program, kernel)
    if kernel is None or why:
        warnings.warn(f"run by the reference engine, since {why}", stacklevel=3)
        return partial(_run, problem, Engine(program))
    return partial(run_compiled, problem, whole.WholeRun(program, kernel), {})


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
    every, done = record.meta.record_every, moment.step
    if done % every == 0 and not record.holds(done):
        record.add(moment, problem.loss(moment.weights))
    weights, info = moment.weights.copy(), moment.info
    state = {path: values.copy() for path, values in moment.state.items()}
    try:
        while done < steps:
            count = min(run.block(state), steps - done)
            rows = record.room(done, count)
            info = run.advance(weights, state, done, count, every, rows, settings)
            record.wrote(done, count)
            done += count
            if progress:
                for step in range(done - count + 1, done + 1):
                    progress(step)
    except KeyboardInterrupt:
        pass
    if not record.holds(done):
        record.add(Moment(done, weights, state, info), problem.loss(weights))
    return record.trajectory(complete=done == steps)


def _run(
    problem: Problem, engine: Engine, record: Record, moment: Moment, steps: int, progress: Progress | None
) -> Trajectory:
    every, seed = record.meta.record_every, record.meta.seed
    with np.errstate(all="ignore"):  # a run may overflow; the trajectory shows it
        try:
            while moment.step < steps:
                if moment.step % every == 0:
                    record.add(moment, problem.loss(moment.weights))
                number = moment.step + 1
                gradients = problem.gradients(moment.weights, number, seed)
                moment = moment.after(engine.step(moment.weights, gradients, moment.state, number))
                if progress:
                    progress(number)
        except KeyboardInterrupt:
            pass
        if not record.holds(moment.step):
            record.add(moment, problem.loss(moment.weights))
    return record.trajectory(complete=moment.step == steps)


class Record:
    """Rows of a trajectory, in arrays that are allocated once; memory is taken as rows are written."""

    def __init__(self, meta: Meta, program: Program, steps: int) -> None:
        self.meta, self._rows = meta, 0
        room, layout = -(-steps // meta.record_every) + 1, program.layout
        kinds = {path: program.kinds[name] for path, name in program.info.items()}
        widths = {path: layout.size if k.rank is Rank.COORDINATE else k.partition.count for path, k in kinds.items()}
        slots = {
            path: (slot.shape(layout)[0], program.dtype if slot.kind.rank is Rank.COORDINATE else np.dtype(float))
            for path, slot in program.slots.items()
        }
        row = 16 + program.dtype.itemsize * layout.size + 8 * sum(widths.values())
        row += sum(width * dtype.itemsize for width, dtype in slots.values())
        if room * row > trajectory.BYTES:
            raise GraftsimError(
                f"a trajectory must have at most {trajectory.BYTES >> 30} GiB; {room} rows of {row} bytes have more: "
                f"record at most every {-(-steps * row // trajectory.BYTES) + 1} steps (record_every)"
            )
        self._steps, self._loss = np.empty(room, np.int64), np.empty(room)
        self._weights = np.empty((room, layout.size), program.dtype)
        self._state = {path: np.empty((room, width), dtype) for path, (width, dtype) in slots.items()}
        self._info = {path: np.empty((room - 1, width)) for path, width in widths.items()}

    def holds(self, step: int) -> bool:
        """Whether the last row is that of a step."""
        return self._rows > 0 and int(self._steps[self._rows - 1]) == step

    def add(self, moment: Moment, loss: float) -> None:
        """Write a row; an interrupt on the way leaves the rows before it whole."""
        row = self._rows
        self._steps[row], self._loss[row], self._weights[row] = moment.step, loss, moment.weights
        for path, values in moment.state.items():
            self._state[path][row] = values
        for path, values in moment.info.items():
            self._info[path][row - 1] = values
        self._rows = row + 1

    def room(self, done: int, count: int) -> Rows:
        """The rows that ``count`` steps after step ``done`` will write."""
        from graftsim.compiled.whole import Rows

        every = self.meta.record_every
        begin, end = self._rows, self._rows + (done + count) // every - done // every
        return Rows(
            self._weights[begin:end],
            self._loss[begin:end],
            {path: values[begin:end] for path, values in self._state.items()},
            {path: values[begin - 1 : end - 1] for path, values in self._info.items()},
        )

    def wrote(self, done: int, count: int) -> None:
        """The rows that :meth:`room` gave are filled."""
        every = self.meta.record_every
        steps = np.arange(done // every + 1, (done + count) // every + 1) * every
        self._steps[self._rows : self._rows + len(steps)] = steps
        self._rows += len(steps)

    def trajectory(self, complete: bool) -> Trajectory:
        n = self._rows
        return Trajectory(
            Meta(**{**vars(self.meta), "complete": complete}),
            self._steps[:n].copy(),
            self._weights[:n].copy(),
            self._loss[:n].copy(),
            {path: values[:n].copy() for path, values in self._state.items()},
            {path: values[: n - 1].copy() for path, values in self._info.items()},
        )


def _program(machine: str | Instance | Program, problem: Problem, dtype: str) -> Program:
    if not isinstance(machine, Program):
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


def meta_of(program: Program, problem: Problem, seed: int, record_every: int) -> Meta:
    kinds = {path: program.kinds[name] for path, name in program.info.items()}
    names = {
        path: tuple(map(program.layout.where, range(program.layout.size)))
        if kind.rank is Rank.COORDINATE
        else kind.partition.names
        for path, kind in kinds.items()
    }
    layout, dtype = program.layout, program.dtype.name
    return Meta(str(program.instance), str(problem), layout, dtype, seed, record_every, False, names)
