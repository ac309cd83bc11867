"""The record of a graft for discovery: norms of both steps, and of the gradient, in each group."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import notation, partitions, problems, stepping
from graftsim.compiler import build
from graftsim.errors import GraftsimError
from graftsim.experiments.discovery.flags import NORM, UNIT
from graftsim.experiments.discovery.series import Series
from graftsim.layouts import Array
from graftsim.machines import Library
from graftsim.notation import Instance
from graftsim.partitions import Partition
from graftsim.problems.problem import Gradients, Numbers, Problem
from graftsim.simulate import Progress, simulate
from graftsim.trajectory import Trajectory

SINGLE, DOUBLE = 2.0**-24, 2.0**-53


class Watched:
    """A problem that notes the length of each group's gradient when it is asked for it."""

    def __init__(self, problem: Problem, partition: Partition, every: int, steps: int) -> None:
        self.problem, self.partition, self.every, self.steps = problem, partition, every, steps
        self.layout = problem.layout
        self.norms: dict[int, NDArray[np.float64]] = {}
        self.units: dict[int, float] = {}

    def __str__(self) -> str:
        return str(self.problem)

    def start(self, seed: int, dtype: Any) -> Array:
        return self.problem.start(seed, dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Gradients:
        found = self.problem.gradients(weights, step, seed)
        if step % self.every == 0 or step == self.steps:
            flat = found if isinstance(found, np.ndarray) else self._filled(found, weights.dtype)
            self.norms[step] = lengths(flat, self.partition)
            with np.errstate(over="ignore"):
                single = np.array_equal(flat.astype(np.float32), flat, equal_nan=True)
            self.units[step] = SINGLE if single else DOUBLE
        return found

    def loss(self, weights: Array) -> float:
        return self.problem.loss(weights)

    def measures(self, weights: Array) -> Numbers:
        return self.problem.measures(weights)

    def predictions(self) -> dict[str, Numbers]:
        return self.problem.predictions()

    def _filled(self, gradients: list[Array | None], dtype: Any) -> Array:
        """A missing gradient has no length."""
        shapes = self.layout.shapes
        return self.layout.flatten(
            [np.zeros(shape, dtype) if g is None else g for g, shape in zip(gradients, shapes, strict=True)], dtype
        )


def lengths(x: Array, partition: Partition) -> NDArray[np.float64]:
    """The norm of each group's part of ``x``: plain float64 sums of squares of numbers scaled to at most 1.

    They are compared with thresholds and enter no step, so they need not be exact sums, which take longer.
    """
    wide = x.astype(np.float64)
    largest = float(np.abs(wide).max(initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return np.full(partition.count, largest if largest == 0 else np.nan)
    squares = np.square(wide / largest)
    return np.asarray(largest * np.sqrt(np.bincount(partition.group_of, squares, partition.count)), np.float64)


def record(
    problem: str | Problem,
    machine: str | Instance,
    steps: int,
    seed: int = 0,
    dtype: str = "float64",
    record_every: int = 1,
    keep_every: int | None = None,
    progress: Progress | None = None,
    machines: Library | None = None,
) -> Trajectory:
    """Run a graft and record what discovery asks for.

    The trajectory is that of :func:`graftsim.simulate.simulate`, with two more infos: ``gradient.norm``, the length of
    the gradient in each group of the graft, and ``gradient.unit``, 2^-24 where all of its numbers are float32 numbers
    and 2^-53 elsewhere: a problem may compute in float32 although the run is in float64.

    Args:
        problem, steps, seed, dtype, record_every, progress: as of ``simulate``.
        machine: a graft, possibly inside machines with one child.
        keep_every: weights are kept every so many steps; at the start and the end only unless given.
        machines: the library that the expression is read with; the spec's by default.

    Raises:
        GraftsimError: a machine that is no graft, or any mistake in the arguments.
    """
    found = problems.parse(problem) if isinstance(problem, str) else problem
    instance = notation.parse(machine, machines) if isinstance(machine, str) else machine
    partition = partitions.build(grafted(instance).partition or "tensor", found.layout)
    watched = Watched(found, partition, record_every, steps)
    if keep_every is None:
        keep_every = max(-(-steps // max(record_every, 1)), 1) * record_every
    program = build(instance, found.layout, dtype)
    done = simulate(
        *(watched, program, steps, seed, dtype, record_every),
        progress=progress,
        engine=stepping.quickest(program, watched, steps),
        keep_every=keep_every,
    )
    rows = done.steps[1:].tolist()
    nothing = np.full(partition.count, np.nan)
    info = {
        **done.info,
        NORM: np.array([watched.norms.get(step, nothing) for step in rows]).reshape(-1, partition.count),
        UNIT: np.array([[watched.units.get(step, np.nan)] for step in rows]).reshape(-1, 1),
    }
    groups = {**done.meta.groups, NORM: partition.names, UNIT: ("all",)}
    return dataclasses.replace(done, meta=dataclasses.replace(done.meta, groups=groups), info=info)


def grafted(instance: Instance) -> Instance:
    """The outermost graft of a machine: itself, or the one inside machines with one child.

    Raises:
        GraftsimError: there is none.
    """
    inner = instance
    while inner.machine.name != "graft" and len(inner.children) == 1:
        (inner,) = inner.children.values()
    if inner.machine.name != "graft":
        raise GraftsimError(f"corrections are discovered by a graft, such as adam#sgd; received {str(instance)[:120]}")
    return inner


def path_of(run: Trajectory, path: str | None) -> str:
    """The path of a recorded graft: as given, else the shortest that has both norms; empty where none has."""
    if path is not None:
        return path
    found = [slot.removesuffix("n_m").removesuffix(".") for slot in run.info if slot.split(".")[-1] == "n_m"]
    grafts = [place for place in found if (f"{place}.n_d" if place else "n_d") in run.info]
    return min(grafts, key=len, default="")


def partition_of(run: Trajectory, found: Series, path: str, given: str | None) -> str:
    """The expression of a recorded graft's partition: as given, else the machine's, else one that has its groups.

    Raises:
        GraftsimError: it has other groups than were recorded, or none could be told.
    """
    tried = [given] if given else [*_written(run, path), "tensor", "global", "row", "coordinate"]
    for text in tried:
        try:
            names = partitions.build(text, run.meta.layout).names
        except GraftsimError:
            if given:
                raise
            continue
        if names == found.groups:
            return text
    raise GraftsimError(
        f"the partition must be the one of the recorded groups, {', '.join(found.groups[:4])}"
        f"{', ...' * (len(found.groups) > 4)}; {f'received {given}' if given else 'name it with --partition'}"
    )


def _written(run: Trajectory, path: str) -> list[str]:
    """The partition in the record's machine, where that can be read: adapters write what they like there."""
    try:
        instance = notation.parse(run.meta.machine)
        for child in path.split(".") if path else ():
            instance = instance.children[child]
    except (GraftsimError, KeyError):
        return []
    return [instance.partition] if instance.partition else []
