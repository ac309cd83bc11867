"""The record of a graft in training, in the trajectory format, and what can be read from it."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from graftsim.layouts import Layout
from graftsim.trajectory import Meta, Trajectory
from graftsim_tf import backends
from graftsim_tf.graft import Graft, Info
from graftsim_tf.partitions import names_of

NAMES = ("n_m", "n_d", "ratio")


class Recorder:
    """Keeps the norms and ratios of each step of a training loop, and makes a trajectory of them.

    ::

        recorder = Recorder(optimizer, problem="digits")
        for x, y in batches:
            loss = train_step(x, y)
            recorder.record(loss)
        recorder.trajectory().save("run.npz")

    Args:
        optimizer: the graft, or a ``LossScaleOptimizer`` over it; it must have been built. Grafts inside it are
            recorded under ``magnitude.`` and ``direction.``.
        machine: what was run, for the record: an expression in the notation of the spec where there is one.
        problem: what it was run on, for the record.
        seed: of what the run drew, for the record.
        every: record each step whose number this divides.

    Raises:
        TypeError: the optimizer is no graft.
        ValueError: it is not built, or its partition is ``coordinate``, which has a group for each weight.
    """

    def __init__(self, optimizer: Any, *, machine: str = "", problem: str = "", seed: int = 0, every: int = 1) -> None:
        self.optimizer = grafted(optimizer)
        if not self.optimizer.built:
            raise ValueError("a graft must be built before it is recorded; call optimizer.build(variables) first")
        if self.optimizer.info is None:
            raise ValueError("a graft with the partition 'coordinate' cannot be recorded: it has a group a weight")
        self.machine, self.problem, self.seed, self.every = machine, problem, seed, every
        self._steps, self._infos, self._losses = [0], list[dict[str, Info]](), list[float]()
        self._first = self._done()
        self._start = self._weights()

    def record(self, loss: Any = math.nan) -> bool:
        """Keep the step that was just done, with the loss before it; whether there was one to keep."""
        step = self._done() - self._first
        if step == self._steps[-1] or step % self.every:
            return False
        self._steps.append(step)
        self._infos.append(infos(self.optimizer))
        self._losses.append(float(loss))
        return True

    @property
    def rows(self) -> list[dict[str, Info]]:
        """What was recorded, step by step: by path, norms and ratios."""
        return self._infos

    def trajectory(self) -> Trajectory:
        """What was recorded: R rows of info, with the loss of each step in the row of the step before it."""
        rows, losses = len(self._infos), np.array([*self._losses, math.nan], np.float64)
        info: dict[str, Any] = {}
        groups: dict[str, tuple[str, ...]] = {}
        for path in self._infos[0] if rows else {}:
            for name in NAMES:
                info[path + name] = np.stack([getattr(found[path], name) for found in self._infos])
                groups[path + name] = self._infos[0][path].groups
        weights = np.stack([self._start, self._weights()][: 1 + (rows > 0)])
        steps = np.array(self._steps, np.int64)
        meta = Meta(
            self.machine, self.problem, self._layout(), weights.dtype.name, self.seed, self.every,
            max(int(steps[-1]), 1), True, groups,
        )  # fmt: skip
        return Trajectory(meta, steps, steps[[0, -1][: len(weights)]], weights, losses, {}, info)

    def _done(self) -> int:
        return int(backends.numpy(self.optimizer.iterations))

    def _layout(self) -> Layout:
        variables = self.optimizer._trainable_variables
        return Layout.of({n: tuple(v.shape) for n, v in zip(names_of(variables), variables, strict=True)})

    def _weights(self) -> Any:
        parts = [backends.numpy(v) for v in self.optimizer._trainable_variables]
        dtype = np.float64 if any(part.dtype == np.float64 for part in parts) else np.float32
        return np.concatenate([part.reshape(-1).astype(dtype) for part in parts])


class GraftRecorder(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that records the graft of a model in ``fit``.

    ``callback.trajectory()`` is the record after training. At the end of each epoch the logs get ``ratio/NAME`` for
    each group, the median over the epoch's recorded steps; callbacks that stand behind it (``CSVLogger``,
    ``TensorBoard``) and the history see them. The loss of a row is what Keras reports at the end of the batch: its mean
    since the epoch began. With ``steps_per_execution=n`` only each n-th step can be seen.

    Args:
        **settings: those of :class:`Recorder` but the optimizer.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self._settings = settings
        self._recorder: Recorder | None = None
        self._epoch = 0

    def on_train_begin(self, logs: Any = None) -> None:
        model = self.model
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        if self._recorder is None:
            self._recorder = Recorder(model.optimizer, **self._settings)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = len(self._found().rows)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        _synced(self.model)
        self._found().record((logs or {}).get("loss", math.nan))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        rows = [row[""] for row in self._found().rows[self._epoch :]]
        if rows and logs is not None:
            medians = np.median([row.ratio for row in rows], axis=0)
            logs.update({f"ratio/{name}": float(value) for name, value in zip(rows[0].groups, medians, strict=True)})

    def trajectory(self) -> Trajectory:
        """The record of what was trained so far."""
        return self._found().trajectory()

    def _found(self) -> Recorder:
        if self._recorder is None:
            raise ValueError("there is no record before fit(..., callbacks=[recorder])")
        return self._recorder


def _synced(model: Any) -> None:
    """On JAX, ``fit`` keeps state in its own hands and hands it back when asked."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def grafted(optimizer: Any) -> Graft:
    """The graft that an optimizer is or wraps."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(inner, Graft):
        raise TypeError(f"a recorder records a Graft; received {type(optimizer).__name__}")
    return inner


def infos(graft: Graft, path: str = "") -> dict[str, Info]:
    """The info of a graft and of the grafts inside it, by path."""
    found = {} if graft.info is None else {path: graft.info}
    for role in ("magnitude", "direction"):
        child = getattr(graft, role)
        if isinstance(child, Graft):
            found |= infos(child, f"{path}{role}.")
    return found
