"""Many runs at once: hyperparameters and seeds of one program or several, spread over threads.

Members whose machines differ in numbers alone share one program and so one compilation; each has its own tables of
scalars and its own buffers, and with them the bits that it has when it runs alone.
"""

from __future__ import annotations

import dataclasses
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from graftsim import notation, problems
from graftsim.compiler import build
from graftsim.engine import Engine
from graftsim.errors import GraftsimError
from graftsim.expressions import Number
from graftsim.notation import Instance
from graftsim.problems.problem import Problem
from graftsim.program import Program
from graftsim.record import Moment, Record, meta_of
from graftsim.simulate import keeping, run_compiled, simulate
from graftsim.trajectory import Trajectory

if TYPE_CHECKING:
    from graftsim.compiled.whole import WholeRun

Progress = Callable[[int], object]


def ensemble(
    problem: str | Problem,
    machines: Sequence[str | Instance],
    steps: int,
    seeds: Sequence[int] | int = 0,
    dtype: str = "float64",
    record_every: int = 1,
    threads: int = 1,
    progress: Progress | None = None,
    keep_every: int | None = None,
) -> list[Trajectory]:
    """Run each machine on a problem; the trajectories in the order of ``machines``.

    Args:
        problem, steps, dtype, record_every, keep_every: as of :func:`graftsim.simulate.simulate`.
        machines: one for each member.
        seeds: one for each member, or one for all.
        threads: how many members run at a time; no bit depends on it.
        progress: called with the number of members that are done.

    Raises:
        GraftsimError: any mistake in the arguments.
    """
    found = problems.parse(problem) if isinstance(problem, str) else problem
    members = [notation.parse(machine) if isinstance(machine, str) else machine for machine in machines]
    chosen = [seeds] * len(members) if isinstance(seeds, int) else list(seeds)
    if len(chosen) != len(members):
        raise GraftsimError(f"there must be one seed for each of {len(members)} members; received {len(chosen)}")
    if threads < 1:
        raise GraftsimError(f"threads must be at least 1; received {threads}")
    batches: dict[str, list[int]] = {}
    for number, member in enumerate(members):
        batches.setdefault(str(_without_numbers(member)), []).append(number)
    results: list[Trajectory | None] = [None] * len(members)

    def done(number: int, trajectory: Trajectory) -> None:
        results[number] = trajectory
        if progress:
            progress(sum(result is not None for result in results))

    for batch in batches.values():
        _Batch(found, members[batch[0]], dtype, record_every, keeping(keep_every, record_every), steps).run(
            [(number, members[number], chosen[number]) for number in batch], threads, done
        )
    return [result for result in results if result is not None]


class _Batch:
    """Members of one program."""

    def __init__(
        self, problem: Problem, first: Instance, dtype: str, record_every: int, keep_every: int, steps: int
    ) -> None:
        self.problem, self.dtype, self.steps = problem, dtype, steps
        self.record_every, self.keep_every = record_every, keep_every
        self.program: Program = build(first, problem.layout, dtype)

    def run(
        self, members: Sequence[tuple[int, Instance, int]], threads: int, done: Callable[[int, Trajectory], None]
    ) -> None:
        from graftsim.compiled import whole

        kernel = whole.kernel_of(self.problem, self.program)
        if kernel is None:
            for number, member, seed in members:
                arguments = (self.steps, seed, self.dtype, self.record_every)
                done(number, simulate(self.problem, member, *arguments, keep_every=self.keep_every))
            return
        one = whole.WholeRun(self.program, kernel)
        free: queue.SimpleQueue[WholeRun] = queue.SimpleQueue()
        for runner in [one, *(one.another(kernel) for _ in range(threads - 1))]:
            free.put(runner)

        def member_run(row: tuple[int, Instance, int]) -> tuple[int, Trajectory]:
            number, member, seed = row
            runner = free.get()
            try:
                return number, self.member(runner, member, seed)
            finally:
                free.put(runner)

        with ThreadPoolExecutor(threads) as pool:
            for number, trajectory in pool.map(member_run, members):
                done(number, trajectory)

    def member(self, runner: WholeRun, member: Instance, seed: int) -> Trajectory:
        program = dataclasses.replace(self.program, instance=member)
        settings = dict(_numbers(member, ""))
        weights = self.problem.start(seed, np.dtype(self.dtype))
        state = Engine(program).initial_state(settings)
        record = Record(meta_of(program, self.problem, seed, self.record_every, self.keep_every), program, self.steps)
        return run_compiled(self.problem, runner, settings, record, Moment(0, weights, state, {}), self.steps, None)


def _numbers(instance: Instance, prefix: str) -> Mapping[str, float]:
    """The plain numbers among an instance's hyperparameters, by path."""
    found = {}
    for name in instance.machine.hyperparameters:
        setting = instance.setting(name)
        if isinstance(setting, Number):
            found[prefix + name] = setting.value
    for child, inner in instance.children.items():
        found |= _numbers(inner, f"{prefix}{child}.")
    return found


def _without_numbers(instance: Instance) -> Instance:
    """The instance with every plain number put to its default, else 0: what members of one program share."""
    settings = {
        name: Number(instance.machine.hyperparameters[name].default or 0.0) if isinstance(value, Number) else value
        for name, value in ((name, instance.setting(name)) for name in instance.machine.hyperparameters)
        if value is not None
    }
    children = {child: _without_numbers(inner) for child, inner in instance.children.items()}
    return dataclasses.replace(instance, settings=settings, children=children)
