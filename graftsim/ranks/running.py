"""Runs over ranks: :func:`graftsim.simulate.simulate` and ``resume``, with the coordinates cut and the same bits.

Every rank computes the problem's gradient at the whole weights (of an averaged problem, its share of the mini-batches)
and steps its own shard of weights and state; rank 0 keeps the record. A step is one addition of integers a level, one
more for the mean of gradients where there is one, and one gathering of the weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graftsim import notation, problems, runs, stepping
from graftsim.compiler import build
from graftsim.engine import Engine
from graftsim.layouts import Array
from graftsim.machines import Library
from graftsim.notation import Instance
from graftsim.problems.arguments import SEEDS, integer
from graftsim.problems.averaged import Averaged
from graftsim.problems.problem import Gradients, Numbers, Problem
from graftsim.program import Program
from graftsim.ranks import agreement, averaging, cuts
from graftsim.ranks.communicator import Communicator
from graftsim.ranks.engine import RankEngine
from graftsim.record import Moment, Record, meta_of
from graftsim.runs import Result, Run
from graftsim.simulate import STEPS, Progress, check_same, keeping, machine_of, moment_of
from graftsim.trajectory import Trajectory, versions
from graftsim.versions import version


@dataclass(frozen=True)
class _Task:
    """A run from a moment on, which all ranks must be given alike."""

    problem: Problem
    program: Program
    first: Moment
    steps: int
    seed: int
    record_every: int
    keep_every: int
    engine: str

    def check(self) -> None:
        integer("steps", self.steps, self.first.step, STEPS)
        integer("seed", self.seed, 0, SEEDS)
        integer("record_every", self.record_every, 1, STEPS)
        keeping(self.keep_every, self.record_every)

    def topics(self) -> dict[str, str | bytes]:
        every = f"recorded every {self.record_every} and kept every {self.keep_every}"
        kept = [self.first.weights, *(self.first.state[path] for path in sorted(self.first.state))]
        return {
            "version of graftsim": version(),
            "version of numpy": versions()["numpy"],
            "problem": str(self.problem),
            "machine": str(self.program.instance),
            "dtype": str(self.program.dtype),
            "program": agreement.text(self.program),
            "run": f"{self.steps} steps from {self.first.step}, seed {self.seed}, {every}",
            "start": b"".join(array.tobytes() for array in kept),
        }

    def record(self) -> Record:
        meta = meta_of(self.program, self.problem, self.seed, self.record_every, self.keep_every)
        return Record(meta, self.program, self.steps)


def simulate(
    communicator: Communicator,
    problem: str | Problem,
    machine: str | Instance,
    steps: int,
    seed: int = 0,
    dtype: str = "float64",
    record_every: int = 1,
    keep_every: int | None = None,
    progress: Progress | None = None,
    bounds: Sequence[int] | None = None,
    engine: str = "numpy",
) -> Trajectory | None:
    """Run a machine on a problem over ranks; every rank makes the same call.

    Args:
        communicator: this rank's.
        problem, machine, steps, seed, dtype, record_every, keep_every: as of :func:`graftsim.simulate.simulate`.
        progress: called on rank 0 with the number of steps that are done.
        bounds: where the coordinates are cut, ranks + 1 places; balanced by default.
        engine: ``numpy``, the reference; or ``compiled``, the same bits at the speed of memory. Machines with matrices
            are run by the reference, with one warning.

    Returns:
        On rank 0 the trajectory, with the bits that one rank gives; None on the others.

    Raises:
        AgreedError: a mistake in the arguments, or ranks that were given different ones; alike on all ranks.
    """

    def prepare() -> _Task:
        found = problems.parse(problem) if isinstance(problem, str) else problem
        program = build(machine, found.layout, dtype)
        first = Moment(0, found.start(seed, program.dtype), Engine(program).initial_state(), {})
        chosen = _engine(engine, program, communicator.rank)
        task = _Task(found, program, first, steps, seed, record_every, keep_every or record_every, chosen)
        task.check()
        return task

    return _run(communicator, agreement.together(communicator, prepare), None, bounds, progress)


def resume(
    communicator: Communicator,
    done: Trajectory,
    problem: str | Problem,
    steps: int,
    at: int | None = None,
    machine: Instance | None = None,
    progress: Progress | None = None,
    bounds: Sequence[int] | None = None,
    engine: str = "numpy",
) -> Trajectory | None:
    """Go on with a run, whatever number of ranks made it; as :func:`graftsim.simulate.resume`.

    Args:
        communicator: this rank's.
        done: the trajectory to go on with, on every rank.
        problem, steps, at, machine: as of :func:`graftsim.simulate.resume`.
        progress, bounds, engine: as of :func:`simulate`.

    Raises:
        AgreedError: as of :func:`simulate`, or another problem or machine than was run.
    """

    def prepare() -> _Task:
        meta, found = done.meta, problems.parse(problem) if isinstance(problem, str) else problem
        program = build(machine or machine_of(meta), found.layout, meta.dtype)
        check_same(done, found, program)
        first = moment_of(done, int(done.kept[-1]) if at is None else at)
        chosen = _engine(engine, program, communicator.rank)
        task = _Task(found, program, first, steps, meta.seed, meta.record_every, meta.keep_every, chosen)
        task.check()
        return task

    return _run(communicator, agreement.together(communicator, prepare), done, bounds, progress)


def execute(
    communicator: Communicator,
    run: Run,
    progress: Progress | None = None,
    machines: Library | None = None,
    engine: str = "numpy",
) -> Result | None:
    """Do a run of a run file over ranks; on rank 0 what :func:`graftsim.runs.execute` returns, None on the others.

    Raises:
        AgreedError: any mistake in the run.
    """

    def prepare() -> tuple[Problem, Instance, Numbers | None]:
        found = problems.parse(run.problem)
        prediction = None if run.prediction is None else runs.predicted(found, run.prediction)
        return found, notation.parse(run.machine, machines), prediction

    problem, machine, prediction = agreement.together(communicator, prepare)
    arguments = (run.steps, run.seed, run.dtype, run.record_every, run.keep_every)
    done = simulate(communicator, problem, machine, *arguments, progress=progress, engine=engine)
    return None if done is None else Result(run, done, problem.measures(done.last), prediction)


def _run(
    communicator: Communicator,
    task: _Task,
    done: Trajectory | None,
    bounds: Sequence[int] | None,
    progress: Progress | None,
) -> Trajectory | None:
    """All ranks step and gather; where a row of the record is due, rank 0 writes it."""
    agreement.agree(communicator, task.topics() | {"trajectory": done.digest if done else ""})
    problem, first, steps, seed = task.problem, task.first, task.steps, task.seed

    def prepare() -> tuple[RankEngine, Record | None]:
        cut = None if bounds is None else cuts.at(task.program.layout, bounds)
        record = task.record() if communicator.rank == 0 else None
        if record and done:
            record.begin_with(done, first.step)
        return RankEngine(task.program, communicator, cut, task.engine), record

    engine, record = agreement.together(communicator, prepare)
    moment, weights = engine.shard(first), first.weights
    with np.errstate(all="ignore"):  # a run may overflow; the trajectory shows it
        if record and first.step % task.record_every == 0:
            record.add(first, problem.loss(weights))
        whole = first
        while moment.step < steps:
            gradients = _gradients(communicator, problem, weights, moment.step + 1, seed)
            moment = engine.step(moment, gradients)
            weights = engine.weights(moment)
            last = moment.step == steps
            if last or moment.step % task.record_every == 0:
                whole = engine.gathered(moment, weights, state=last or moment.step % task.keep_every == 0)
                if record:
                    (record.finish if last else record.add)(whole, problem.loss(weights))
            if progress and record:
                progress(moment.step)
        if record:
            record.finish(whole, problem.loss(whole.weights))  # a run of no steps has its start
    return record.trajectory(complete=True) if record else None


def _engine(name: str, program: Program, rank: int) -> str:
    """The engine of all ranks; rank 0 alone warns where it is not the one that was asked for."""
    with warnings.catch_warnings():
        if rank:
            warnings.simplefilter("ignore")
        return stepping.chosen(name, program)


def _gradients(communicator: Communicator, problem: Problem, weights: Array, step: int, seed: int) -> Gradients:
    """The problem's gradients on every rank: computed by each, or where they are a mean each rank's share of it."""
    if not isinstance(problem, Averaged):
        return problem.gradients(weights, step, seed)
    first, last = (problem.batches * rank // communicator.size for rank in (communicator.rank, communicator.rank + 1))
    return averaging.mean(communicator, problem.parts(weights, step, seed, range(first, last)))
