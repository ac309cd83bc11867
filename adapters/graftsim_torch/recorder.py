"""The record of a graft in training, in the trajectory format, and what can be read from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graftsim.corrections import silent as silent
from graftsim.layouts import Layout
from graftsim.trajectory import Meta, Trajectory
from graftsim_torch import sharding
from graftsim_torch.graft import Graft
from graftsim_torch.info import Info

NAMES = ("n_m", "n_d", "ratio")


class Recorder:
    """Keeps the norms and ratios of each step, and makes a trajectory of them.

    ::

        recorder = Recorder(opt, problem="digits")
        for batch in batches:
            ...
            opt.step()
            recorder.record(loss)
        recorder.trajectory().save("run.npz")

    Nothing waits for the device before :meth:`trajectory`; a record holds four numbers a group and step.

    Args:
        optimizer: the graft. Grafts inside it are recorded under ``magnitude.`` and ``direction.``.
        machine: what was run, for the record: an expression in the notation of the spec where there is one.
        problem: what it was run on, for the record.
        seed: of what the run drew, for the record.
        every: record each step whose number this divides.

    Raises:
        ValueError: the partition is ``coordinate``, which has a group for each weight.
    """

    def __init__(
        self, optimizer: Graft, *, machine: str = "", problem: str = "", seed: int = 0, every: int = 1
    ) -> None:
        if optimizer.partition == "coordinate":
            raise ValueError(
                "a graft with the partition 'coordinate' cannot be recorded; it has a group for each weight"
            )
        self.optimizer, self.machine, self.problem, self.seed, self.every = optimizer, machine, problem, seed, every
        self._steps, self._infos, self._losses = 0, list[dict[str, Info]](), list[Any]()
        self._start = self._weights()

    def record(self, loss: Any = math.nan) -> None:
        """Keep the step that was just done, with the loss before it."""
        self._steps += 1
        if self._steps % self.every:
            return
        infos = _infos(self.optimizer, "")
        if infos[""] is None:
            raise ValueError("record() must stand after a step in which a parameter had a gradient")
        self._infos.append({path: info for path, info in infos.items() if info is not None})
        self._losses.append(loss.detach().clone() if isinstance(loss, Tensor) else loss)

    def trajectory(self) -> Trajectory:
        """What was recorded: R rows of info, with the loss of each step in the row of the step before it."""
        rows = len(self._infos)
        losses = np.array([float(loss) for loss in self._losses] + [math.nan], np.float64)
        info: dict[str, Any] = {}
        groups: dict[str, tuple[str, ...]] = {}
        for path in self._infos[0] if rows else {}:
            for name in NAMES:
                values = [getattr(infos[path], name) for infos in self._infos]
                info[path + name] = torch.stack(values).numpy(force=True)
                groups[path + name] = self._infos[0][path].groups
        weights = np.stack([self._start, self._weights()][: 1 + (rows > 0)])
        steps = self.every * np.arange(rows + 1)
        meta = Meta(
            self.machine, self.problem, self._layout(), weights.dtype.name, self.seed, self.every,
            max(int(steps[-1]), 1), True, groups,
        )  # fmt: skip
        return Trajectory(meta, steps, steps[[0, -1][: len(weights)]], weights, losses, {}, info)

    def _params(self) -> list[Tensor]:
        return [param for group in self.optimizer.param_groups for param in group["params"]]

    def _layout(self) -> Layout:
        names = self.optimizer._scaling.names
        return Layout.of({name: tuple(param.shape) for name, param in zip(names, self._params(), strict=True)})

    def _weights(self) -> Any:
        """All coordinates, as float64 if any is, else as float32, which holds 16-bit formats exactly."""
        params = self._params()
        dtype = torch.float64 if any(param.dtype is torch.float64 for param in params) else torch.float32
        whole = [param.full_tensor() if sharding.is_sharded(param) else param for param in params]
        return torch.cat([param.detach().reshape(-1).to(dtype) for param in whole]).cpu().numpy().copy()


def _infos(graft: Graft, path: str) -> dict[str, Info | None]:
    found = {path: graft.info}
    for role, child in (("magnitude", graft.magnitude), ("direction", graft.direction)):
        if isinstance(child, Graft):
            found |= _infos(child, f"{path}{role}.")
    return found
