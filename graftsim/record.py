"""The record of a run while it is made: rows of a trajectory, in arrays that are allocated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftsim import trajectory
from graftsim.engine import Step
from graftsim.errors import GraftsimError
from graftsim.layouts import Array
from graftsim.problems.problem import Problem
from graftsim.program import Program, Rank
from graftsim.trajectory import Meta, Trajectory


@dataclass(frozen=True)
class Moment:
    """A run after ``step`` steps; ``info`` is that step's, empty at the start."""

    step: int
    weights: Array
    state: dict[str, Array]
    info: dict[str, Array]

    def after(self, step: Step) -> Moment:
        return Moment(self.step + 1, step.weights, step.state, step.info)


@dataclass(frozen=True)
class Rows:
    """Where a block's rows of the record go: views of as many rows as it will write."""

    weights: Array
    loss: NDArray[np.float64]
    state: Mapping[str, Array]
    info: Mapping[str, NDArray[np.float64]]


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
        n, full = self._rows, self._rows == len(self._steps)

        def rows(values: Array, count: int) -> Array:
            return values if full else values[:count].copy()  # an interrupted run gives back the room it did not need

        return Trajectory(
            Meta(**{**vars(self.meta), "complete": complete}),
            rows(self._steps, n),
            rows(self._weights, n),
            rows(self._loss, n),
            {path: rows(values, n) for path, values in self._state.items()},
            {path: rows(values, n - 1) for path, values in self._info.items()},
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
