"""graftsim's own adapter for PyTorch as a target: ``graftsim check graftsim_torch`` judges both classes here.

``Machines`` runs every machine of the golden cases, and those with matrices, by :func:`graftsim_torch.machine`.
``Grafts`` runs every golden graft of optimizers that torch has by :class:`graftsim_torch.Graft`, grafts of grafts too,
under the dialects of torch. Both show the steps of a graft's children.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

import graftsim_torch
from graftsim import notation
from graftsim.layouts import Array, Layout
from graftsim_conformance import candidates, probes, recipes
from graftsim_conformance.cases import Gradients, parts
from graftsim_conformance.dialects import signed
from graftsim_conformance.recipes import GRAFT, ROLES, Part

FRAMEWORK = "torch.optim:"


class _Run:
    """Parameters, their gradients, and their weights as one flat array."""

    def __init__(self, layout: Layout, weights: Array) -> None:
        self.layout = layout
        self.params = [torch.nn.Parameter(torch.tensor(np.array(part))) for part in layout.unflatten(weights)]
        self.named = list(zip(layout.names, self.params, strict=True))

    def give(self, gradients: Gradients) -> None:
        for param, part in zip(self.params, parts(self.layout, gradients), strict=True):
            param.grad = None if part is None else torch.tensor(np.array(part))

    def set(self, weights: Array) -> None:
        with torch.no_grad():
            for param, part in zip(self.params, self.layout.unflatten(weights), strict=True):
                param.copy_(torch.tensor(np.array(part)))

    def weights(self) -> Array:
        return np.concatenate([param.detach().numpy().reshape(-1) for param in self.params])


class Machines:
    """A machine of the spec as a torch optimizer."""

    machines = (*recipes.machines(), *probes.MATRICES.values())
    distributions = ("torch",)
    abilities = ("missing",)

    def __init__(self, machine: str) -> None:
        self._machine = machine

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._run = _Run(layout, weights)
        self._optimizer = graftsim_torch.machine(self._machine, self._run.named, **arguments)
        program = self._optimizer.program
        if program.instance.machine.name == GRAFT:
            steps = {f"{role}.delta": f"{role}.delta" for role in ROLES}
            self._optimizer.program = dataclasses.replace(program, info={**program.info, **steps})

    def step(self, gradients: Gradients, arguments: Mapping[str, Any]) -> Array:
        optimizer = self._optimizer
        optimizer.param_groups[0] |= {
            "lr" if name == optimizer._rate else name: value for name, value in arguments.items()
        }
        self._run.give(gradients)
        optimizer.step()
        return self._run.weights()

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        flat = self._optimizer._flat
        return {slot: flat[name].numpy().copy() for slot, name in names.items() if name in flat}

    def write_state(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        self._run.set(weights)
        self._optimizer._step = step
        for path, value in state.items():
            self._optimizer._flat[path].copy_(torch.tensor(value))

    def info(self) -> dict[str, Array]:
        return {path: value.numpy().copy() for path, value in self._optimizer.info.items()}


class Grafts:
    """A graft of optimizers of torch, or one of them alone."""

    machines = recipes.grafts(FRAMEWORK, recipes.machines())
    """Those whose groups are of tensors, axes, blocks or coordinates, as those of ``Graft`` are."""
    distributions = ("torch",)
    abilities = ("missing",)

    @staticmethod
    def float32(machine: str) -> tuple[str, ...]:
        """The slots that torch keeps in float32: its counters."""
        leaves = recipes.part(notation.parse(machine), FRAMEWORK).leaves()
        return tuple(leaf.prefix + slot for leaf in leaves if leaf.row is not None for slot in leaf.row.float32)

    def __init__(self, machine: str) -> None:
        self._part = recipes.part(notation.parse(machine), FRAMEWORK)

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._run, self._steps = _Run(layout, weights), dict[tuple[str, torch.Tensor], torch.Tensor]()
        self._optimizer = _maker(self._part, arguments)(self._run.named)
        if self._part.children:
            self._optimizer.watch = self._watch

    def _watch(self, role: str, param: torch.Tensor, step: torch.Tensor) -> None:
        self._steps[role, param] = step.clone()

    def step(self, gradients: Gradients, arguments: Mapping[str, Any]) -> Array:
        self._steps.clear()
        _set(self._part, self._optimizer, arguments)
        self._run.give(gradients)
        self._optimizer.step()
        return self._run.weights()

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        held = {leaf.prefix + slot: self._read(optimizer, source)
                for leaf, optimizer in _leaves(self._part, self._optimizer)
                for slot, source in leaf.row.state.items()}  # fmt: skip
        return {slot: value for slot, path in names.items() if (value := held.get(path)) is not None}

    def _read(self, optimizer: torch.optim.Optimizer, source: str) -> Array | None:
        """A slot; a tensor that has made no state yet has none to show, and so has the slot."""
        name, sign = signed(source)
        entry = name.rpartition(".")[2]
        values = [optimizer.state.get(param, {}).get(entry) for param in self._run.params]
        if any(value is None for value in values):
            return None
        return sign * np.concatenate([torch.as_tensor(value).detach().numpy().reshape(-1) for value in values])

    def write_state(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        """Stand as after a step: a step on zero gradients makes the entries, which are then filled."""
        self._run.give(np.zeros_like(weights))
        self._optimizer.step()
        self._run.set(weights)
        for leaf, optimizer in _leaves(self._part, self._optimizer):
            own = leaf.own(state)
            for slot, source in leaf.row.state.items():
                self._write(optimizer, *signed(source), own[slot])
            if "t" in own and "t" not in leaf.row.state:  # SGD has a buffer from a tensor's first step on, and no count
                for param, count in zip(self._run.params, own["t"], strict=True):
                    if not count:
                        optimizer.state.pop(param)

    def _write(self, optimizer: torch.optim.Optimizer, name: str, sign: float, value: Array) -> None:
        held = [optimizer.state[param][name.rpartition(".")[2]] for param in self._run.params]
        ends = np.cumsum([kept.numel() for kept in held])
        for kept, part in zip(held, np.split(sign * value, ends[:-1]), strict=True):
            kept.copy_(torch.tensor(part).reshape(kept.shape))

    def info(self) -> dict[str, Array]:
        """The children's steps, and norms and ratios where the graft has groups of more than one coordinate."""
        if not self._part.children:
            return {}
        found = {f"{role}.delta": self._whole(role) for role in ROLES}
        info = self._optimizer.info
        return found | {name: getattr(info, name).numpy().copy() for name in ("n_m", "n_d", "ratio") if info}

    def _whole(self, role: str) -> Array:
        """A child's step over all tensors; 0 for those that took no part."""
        steps = [self._steps.get((role, param), torch.zeros_like(param)) for param in self._run.params]
        return np.concatenate([step.detach().to(torch.float64).numpy().reshape(-1) for step in steps])


def _maker(part: Part, arguments: Mapping[str, Any]) -> Callable[..., Any]:
    """What makes the optimizer of a part over parameters."""
    if part.row is not None:
        return partial(candidates.load(part.row.target), **part.native(arguments))
    own = part.own(arguments)
    children = dict(zip(ROLES, (_maker(child, arguments) for child in part.children), strict=True))
    partition = str(part.instance.partition)
    return partial(graftsim_torch.Graft, **children, partition=partition, eps=own["eps"], scale=own["scale"])


def _set(part: Part, optimizer: Any, arguments: Mapping[str, Any]) -> None:
    """Give an optimizer the hyperparameters of a step, as schedulers do."""
    if part.row is not None:
        for group in optimizer.param_groups:
            group.update(part.native(arguments))
        return
    own = part.own(arguments)
    optimizer.eps, optimizer.scale = own["eps"], own["scale"]
    for role, child in zip(ROLES, part.children, strict=True):
        _set(child, getattr(optimizer, role), arguments)


def _leaves(part: Part, optimizer: Any) -> Iterator[tuple[Any, torch.optim.Optimizer]]:
    """The optimizers in a graft, each with its part."""
    return ((each, held) for each, held in part.beside(optimizer) if each.row is not None)
