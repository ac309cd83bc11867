"""torch.optim's optimizers as candidates. The only module here that imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim_conformance.dialects import signed

MODES: dict[str, dict[str, bool]] = {
    "": {},
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
"""How torch runs a step: keywords that are passed to the optimizer beside its own."""


class TorchCandidate:
    """An optimizer class of torch, on CPU tensors of the weights' dtype.

    Hyperparameters that change are written into ``param_groups`` before a step, as schedulers do.
    """

    def __init__(self, optimizer: Any, mode: str = "") -> None:
        if mode not in MODES:
            raise GraftsimError(f"mode must be one of {', '.join(filter(None, MODES))}; received {mode!r}")
        self._class, self._mode = optimizer, MODES[mode]

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._layout = layout
        self._tensors = [torch.tensor(np.array(part)) for part in layout.unflatten(weights)]
        self._optimizer = self._class(self._tensors, **arguments, **self._mode)

    def step(self, gradients: Array, arguments: Mapping[str, Any]) -> Array:
        for group in self._optimizer.param_groups:
            group.update({keyword: value for keyword, value in arguments.items() if keyword in group})
        for tensor, gradient in zip(self._tensors, self._layout.unflatten(gradients), strict=True):
            tensor.grad = torch.tensor(np.array(gradient))
        self._optimizer.step()
        return self._flat(self._tensors)

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        states = [self._optimizer.state.get(tensor, {}) for tensor in self._tensors]
        found = {}
        for slot, source in names.items():
            name, sign = signed(source)
            if all(state.get(name) is not None for state in states):
                found[slot] = sign * self._flat([torch.as_tensor(state[name]) for state in states])
        return found

    @staticmethod
    def _flat(tensors: list[Any]) -> Array:
        return np.concatenate([tensor.detach().numpy().reshape(-1).astype(np.float64) for tensor in tensors])
