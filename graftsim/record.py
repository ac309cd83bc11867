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
        self.meta, self._rows, self._keeps = meta, 0, 0
        room, keeps = -(-steps // meta.record_every) + 1, -(-steps // meta.keep_every) + 1
        layout, kinds = program.layout, {path: program.kinds[name] for path, name in program.info.items()}
        widths = {path: kind.count(layout) for path, kind in kinds.items()}
        slots = {path: (slot.shape(layout)[0], slot.dtype(program)) for path, slot in program.slots.items()}
        kept = 8 + program.dtype.itemsize * layout.size + sum(width * dtype.itemsize for width, dtype in slots.values())
        row = 16 + 8 * sum(widths.values())
        if room * row + keeps * kept > trajectory.BYTES:
            raise GraftsimError(
                f"a trajectory must have at most {trajectory.BYTES >> 30} GiB; {room} rows of {row} bytes and {keeps} "
                f"kept weights and states of {kept} have more: "
                f"record at most every {-(-steps * (row + kept) // trajectory.BYTES) + 1} steps (record_every)"
            )
        self._steps, self._loss, self._kept = np.empty(room, np.int64), np.empty(room), np.empty(keeps, np.int64)
        self._weights = np.empty((keeps, layout.size), program.dtype)
        self._state = {path: np.empty((keeps, width), dtype) for path, (width, dtype) in slots.items()}
        self._info = {path: np.empty((room - 1, width)) for path, width in widths.items()}

    def holds(self, step: int) -> bool:
        """Whether the last row of losses is that of a step."""
        return self._rows > 0 and int(self._steps[self._rows - 1]) == step

    def keeps(self, step: int) -> bool:
        """Whether the last row of weights is that of a step."""
        return self._keeps > 0 and int(self._kept[self._keeps - 1]) == step

    def add(self, moment: Moment, loss: float) -> None:
        """Write the rows of a step that ``record_every`` divides, unless they stand there."""
        if not self.holds(moment.step):
            self._add_losses(moment, loss)
        if moment.step % self.meta.keep_every == 0 and not self.keeps(moment.step):
            self._keep(moment)

    def finish(self, moment: Moment, loss: float) -> None:
        """Write the rows of the last step, whatever its number."""
        if not self.holds(moment.step):
            self._add_losses(moment, loss)
        if not self.keeps(moment.step):
            self._keep(moment)

    def _add_losses(self, moment: Moment, loss: float) -> None:
        """An interrupt on the way leaves the rows before it whole."""
        row = self._rows
        self._steps[row], self._loss[row] = moment.step, loss
        for path, values in moment.info.items():
            self._info[path][row - 1] = values
        self._rows = row + 1

    def _keep(self, moment: Moment) -> None:
        row = self._keeps
        self._kept[row], self._weights[row] = moment.step, moment.weights
        for path, values in moment.state.items():
            self._state[path][row] = values
        self._keeps = row + 1

    def begin_with(self, done: Trajectory, step: int) -> None:
        """The rows of another record of the run before a step. An end between two recorded steps goes."""
        rows = (done.steps < step) & (done.steps % self.meta.record_every == 0)
        keeps = (done.kept < step) & (done.kept % self.meta.keep_every == 0)
        self._rows, self._keeps = int(rows.sum()), int(keeps.sum())
        self._steps[: self._rows], self._loss[: self._rows] = done.steps[rows], done.loss[rows]
        self._kept[: self._keeps], self._weights[: self._keeps] = done.kept[keeps], done.weights[keeps]
        for path, values in done.state.items():
            self._state[path][: self._keeps] = values[keeps]
        for path, values in done.info.items():
            self._info[path][: max(self._rows - 1, 0)] = values[rows[1:]]

    def room(self, done: int, count: int) -> Rows:
        """The rows that ``count`` steps after step ``done`` will write."""
        losses = slice(self._rows, self._rows + len(multiples(self.meta.record_every, done, count)))
        keeps = slice(self._keeps, self._keeps + len(multiples(self.meta.keep_every, done, count)))
        infos = slice(losses.start - 1, losses.stop - 1)
        return Rows(
            self._weights[keeps],
            self._loss[losses],
            {path: values[keeps] for path, values in self._state.items()},
            {path: values[infos] for path, values in self._info.items()},
        )

    def wrote(self, done: int, count: int) -> None:
        """The rows that :meth:`room` gave are filled."""
        losses, keeps = (multiples(every, done, count) for every in (self.meta.record_every, self.meta.keep_every))
        self._steps[self._rows : self._rows + len(losses)] = losses
        self._kept[self._keeps : self._keeps + len(keeps)] = keeps
        self._rows, self._keeps = self._rows + len(losses), self._keeps + len(keeps)

    def trajectory(self, complete: bool) -> Trajectory:
        n, k = self._rows, self._keeps

        def rows(values: Array, count: int) -> Array:
            """An interrupted run gives back the room that it did not need."""
            return values if count == len(values) else values[:count].copy()

        return Trajectory(
            Meta(**{**vars(self.meta), "complete": complete}),
            steps=rows(self._steps, n),
            kept=rows(self._kept, k),
            weights=rows(self._weights, k),
            loss=rows(self._loss, n),
            state={path: rows(values, k) for path, values in self._state.items()},
            info={path: rows(values, n - 1) for path, values in self._info.items()},
        )


def multiples(every: int, done: int, count: int) -> NDArray[np.int64]:
    """The steps after ``done``, ``count`` of them, that ``every`` divides."""
    return np.arange(done // every + 1, (done + count) // every + 1) * every


def meta_of(program: Program, problem: Problem, seed: int, record_every: int, keep_every: int) -> Meta:
    kinds = {path: program.kinds[name] for path, name in program.info.items()}
    names = {
        path: tuple(map(program.layout.where, range(program.layout.size)))
        if kind.rank is Rank.COORDINATE
        else kind.partition.names
        for path, kind in kinds.items()
    }
    layout, dtype = program.layout, program.dtype.name
    return Meta(str(program.instance), str(problem), layout, dtype, seed, record_every, keep_every, False, names)
