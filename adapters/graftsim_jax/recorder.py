"""Norms and ratios out of a training loop, and their record in the trajectory format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graftsim.corrections import silent as silent
from graftsim.layouts import Layout
from graftsim.trajectory import Meta, Trajectory
from graftsim_jax.graft import GraftState
from graftsim_jax.machine import MachineState
from graftsim_jax.partitions import Partition, Tree, group_names, names_of

NAMES = ("n_m", "n_d", "ratio")
"""The spec's names of the parts of a graft's info."""


class Recorder:
    """Reads the info out of optimizer states, inside compiled loops, and makes a trajectory of it.

    ::

        recorder = Recorder(params, machine="adam(lr=1e-3)#sgd")

        def step(carry, batch):
            ...
            return (params, state), (loss, recorder.row(state))

        (last, state), (losses, rows) = jax.lax.scan(step, (params, state), batches)
        recorder.trajectory(params, last, losses, rows).save("run.npz")

    Args:
        params: the parameters, for their names and shapes.
        partition: that of the graft.
        machine: what was run, for the record: an expression in the notation of the spec where there is one.
        problem: what it was run on, for the record.
        seed: of what the run drew, for the record.
    """

    def __init__(
        self, params: Tree, partition: Partition = "tensor", *, machine: str = "", problem: str = "", seed: int = 0
    ) -> None:
        shapes = [tuple(jnp.shape(leaf)) for leaf in jax.tree.leaves(params)]
        self.layout = Layout.of(dict(zip(names_of(params), shapes, strict=True)))
        self.groups = group_names(partition, params)
        self.machine, self.problem, self.seed = machine, problem, seed

    def row(self, state: Any) -> dict[str, jax.Array]:
        """All info in an optimizer's state, of grafts and machines at any depth: path to one vector of group values.

        Paths are those of the spec: ``ratio``, ``magnitude.ratio`` of a graft within the magnitude. States that stand
        in a mapping (``optax.partition``) have its key in their path.

        Raises:
            ValueError: there is no graft or machine in the state, or two at one path.
        """
        found: dict[str, jax.Array] = {}
        for path, info in _infos(state, ""):
            for name, value in info.items():
                if path + name in found:
                    raise ValueError(
                        f"info must have one place for each path; {path + name!r} stands in the state twice"
                    )
                found[path + name] = self._vector(value)
        if not found:
            raise ValueError(
                f"the state must hold the state of a graft or of a machine; received {type(state).__name__}"
            )
        return found

    def _vector(self, value: Any) -> jax.Array:
        leaves = jax.tree.leaves(value)
        if isinstance(value, Mapping) and set(value) == set(self.groups) and len(leaves) == len(self.groups):
            return jnp.stack([value[name] for name in self.groups])  # jit sorts the keys of a dict
        return jnp.concatenate([jnp.reshape(leaf, -1) for leaf in leaves])

    def trajectory(self, start: Tree, last: Tree, losses: Any, rows: Mapping[str, Any]) -> Trajectory:
        """The record of R steps.

        Args:
            start: the parameters before the first step.
            last: the parameters after the last.
            losses: shape (R,), each at the parameters before its step, or (R + 1,) with that of the last parameters;
                where that is not given, it is recorded as NaN.
            rows: what :meth:`row` gave at each step, stacked: shape (R, groups).

        Raises:
            ValueError: numbers of steps that differ.
        """
        info = {path: np.asarray(values, np.float64) for path, values in rows.items()}
        steps = min((len(values) for values in info.values()), default=0)
        loss = np.asarray(losses, np.float64).reshape(-1)
        if len(loss) == steps:
            loss = np.append(loss, np.nan)
        if len(loss) != steps + 1 or any(values.ndim != 2 or len(values) != steps for values in info.values()):
            shapes = {path: values.shape for path, values in info.items()}
            raise ValueError(
                f"rows must have shape (steps, groups) and losses (steps,); received {shapes}, {loss.shape}"
            )
        weights = np.stack([self._flat(start), self._flat(last)][: 1 + (steps > 0)])
        meta = Meta(
            self.machine, self.problem, self.layout, weights.dtype.name, self.seed, 1, max(steps, 1), True,
            {path: self._names(values.shape[1]) for path, values in info.items()},
        )  # fmt: skip
        kept = np.array([0, steps][: len(weights)], np.int64)
        return Trajectory(meta, np.arange(steps + 1), kept, weights, loss, {}, info)

    def _names(self, count: int) -> tuple[str, ...]:
        """Names of the groups; numbers where a nested graft has another partition."""
        return self.groups if count == len(self.groups) else tuple(map(str, range(count)))

    def _flat(self, params: Tree) -> np.ndarray[Any, np.dtype[Any]]:
        """The coordinates as float64 if they are, else as float32, which holds 16-bit formats exactly."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
        dtype = np.float64 if any(leaf.dtype == np.float64 for leaf in leaves) else np.float32
        return np.concatenate([np.zeros(0, dtype), *(leaf.reshape(-1).astype(dtype) for leaf in leaves)])


def _infos(state: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Path and info of every graft and machine in a state."""
    if isinstance(state, GraftState):
        yield path, dict(zip(NAMES, state.info, strict=True))
        yield from _infos(state.magnitude, f"{path}magnitude.")
        yield from _infos(state.direction, f"{path}direction.")
    elif isinstance(state, MachineState):
        yield path, state.info
    elif isinstance(state, Mapping):
        for key, part in state.items():
            yield from _infos(part, f"{path}{key}.")
    elif isinstance(state, tuple | list):
        for part in state:
            yield from _infos(part, path)
