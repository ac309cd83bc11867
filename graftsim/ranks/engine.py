"""One rank's engine: it steps a shard of a program, and knows where each value lives."""

from __future__ import annotations

import numpy as np

from graftsim.errors import GraftsimError
from graftsim.layouts import Array
from graftsim.problems.problem import Gradients
from graftsim.program import Kind, Program
from graftsim.ranks.communicator import Communicator, exchange
from graftsim.ranks.cuts import Cut
from graftsim.ranks.sharding import Sharding, default_cut
from graftsim.record import Moment
from graftsim.stepping import stepper


class RankEngine:
    """Steps one shard. All ranks must make the same calls.

    Args:
        program: for all coordinates, as :func:`graftsim.build` made it on every rank alike.
        communicator: this rank's.
        cut: where the coordinates are cut; balanced by default, and at the ends of tensors if there are matrices.
        engine: ``numpy``, the reference; or ``compiled``, the same bits in place, which machines with matrices do not
            have. Ranks may have different ones.

    Raises:
        GraftsimError: a cut for another number of ranks, or through tensors of a program with matrices; the compiled
            engine for such a program.
    """

    def __init__(
        self, program: Program, communicator: Communicator, cut: Cut | None = None, engine: str = "numpy"
    ) -> None:
        cut = cut or default_cut(program, communicator.size)
        if cut.ranks != communicator.size:
            raise GraftsimError(f"there must be one shard for each of {communicator.size} ranks; received {cut.ranks}")
        self.whole, self.communicator = Sharding(program, cut), communicator
        self.program = self.whole.of_rank(communicator.rank)
        self._step = stepper(engine, self.program, exchange(communicator))
        self._place = slice(*cut.bounds[communicator.rank : communicator.rank + 2])
        self._slots = {path: slot.kind for path, slot in program.slots.items()}
        self._info = {path: program.kinds[name] for path, name in program.info.items()}

    def shard(self, whole: Moment) -> Moment:
        """This rank's part of a moment of all coordinates, without info."""
        rank = self.communicator.rank
        state = {path: whole.state[path][self.whole.place(kind, rank)].copy() for path, kind in self._slots.items()}
        return Moment(whole.step, whole.weights[self._place].copy(), state, {})

    def step(self, moment: Moment, gradients: Gradients) -> Moment:
        """The moment after the next step, from the gradient of all coordinates; ``moment`` itself is used up."""
        return self.step_of_shard(moment, self.gradient(gradients))

    def step_of_shard(self, moment: Moment, gradients: Gradients) -> Moment:
        """The same from the gradient of this rank's coordinates."""
        return self._step(moment, gradients)

    def gradient(self, whole: Gradients) -> Gradients:
        """This rank's part of a gradient, and for every tensor of the model whether it is missing."""
        if isinstance(whole, np.ndarray):
            return whole[self._place]
        layout = self.whole.program.layout
        if len(whole) != len(layout.tensors):
            raise GraftsimError(
                f"there must be one gradient, or None, for each of {len(layout.tensors)} tensors; received {len(whole)}"
            )
        flat = layout.flatten(
            [np.zeros(s, self.program.dtype) if g is None else g for g, s in zip(whole, layout.shapes, strict=True)],
            self.program.dtype,
        )
        parts = self.program.layout.unflatten(flat[self._place])
        return [None if given is None else part for given, part in zip(whole, parts, strict=True)]

    def weights(self, moment: Moment) -> Array:
        """The weights of all coordinates, on every rank."""
        return self.communicator.gather(moment.weights, np.diff(self.whole.cut.bounds).tolist())

    def gathered(self, moment: Moment, weights: Array, state: bool) -> Moment:
        """The moment of all coordinates, with or without its state, on every rank."""
        info = {path: self._gather(self._info[path], value) for path, value in moment.info.items()}
        kept = {path: self._gather(self._slots[path], moment.state[path]) for path in self._slots} if state else {}
        return Moment(moment.step, weights, kept, info)

    def _gather(self, kind: Kind, value: Array) -> Array:
        bounds = self.whole.bounds(kind)
        if bounds is None:
            return np.array(value)  # the compiled engine goes on in the moment's own arrays
        sizes = np.diff(bounds).tolist()
        return self.communicator.gather(np.array(np.broadcast_to(value, sizes[self.communicator.rank])), sizes)
