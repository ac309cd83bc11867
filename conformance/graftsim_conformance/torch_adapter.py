"""graftsim's own adapter for PyTorch as a target: ``graftsim check graftsim_conformance.torch_adapter:Machines``.

``Machines`` runs every machine of the golden cases by :func:`graftsim_torch.machine`. ``Grafts`` runs every golden
graft of two optimizers that torch has by :class:`graftsim_torch.Graft`, under the dialects of torch; where torch's own
optimizer differs from its machine, as Adam does at eps = 0 and a zero gradient, so does a graft of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

import graftsim_torch
from graftsim import notation
from graftsim.layouts import Array, Layout
from graftsim.notation import Instance
from graftsim_conformance import candidates, golden, posing
from graftsim_conformance.cases import Gradients, parts
from graftsim_conformance.dialects import Row, fixed, rows, signed
from graftsim_conformance.verdicts import CandidateError, Verdict

ROLES = ("magnitude", "direction")


def every_machine() -> tuple[str, ...]:
    """One expression of each machine that golden cases are of."""
    found = {golden.skeleton(notation.parse(machine)): machine for machine in posing.names().values()}
    return tuple(found.values())


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

    machines = every_machine()
    distributions = ("torch",)
    abilities = ("missing",)

    def __init__(self, machine: str) -> None:
        self._machine = machine

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._run = _Run(layout, weights)
        self._optimizer = graftsim_torch.machine(self._machine, self._run.named, **arguments)

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


def _row(child: Instance) -> Row | None:
    """The row of torch.optim that a machine is."""
    found = golden.skeleton(child)
    return next((row for row in rows() if row.target.startswith("torch.optim:") and _is(row, found)), None)


def _is(row: Row, skeleton: tuple[Any, ...]) -> bool:
    return not fixed(row.instance) and golden.skeleton(row.instance) == skeleton


def _grafts() -> Iterator[str]:
    for machine in every_machine():
        instance = notation.parse(machine)
        if instance.machine.name == "graft" and all(_row(child) for child in instance.children.values()):
            yield machine


class Grafts:
    """A graft of two optimizers of torch."""

    machines = tuple(_grafts())
    distributions = ("torch",)
    abilities = ("missing",)

    def __init__(self, machine: str) -> None:
        instance = notation.parse(machine)
        self._partition = str(instance.partition)
        found = {role: _row(child) for role, child in instance.children.items()}
        self._rows = {role: row for role, row in found.items() if row is not None}
        if instance.machine.name != "graft" or set(self._rows) != set(ROLES):
            raise CandidateError(Verdict.NOT_SUPPORTED, "it grafts optimizers of torch.optim, and nothing else")

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._run = _Run(layout, weights)
        children = {role: partial(candidates.load(row.target), **self._native(role, arguments))
                    for role, row in self._rows.items()}  # fmt: skip
        self._optimizer = graftsim_torch.Graft(
            self._run.named,
            *(children[role] for role in ROLES),
            partition=self._partition,
            eps=arguments["eps"],
            scale=arguments["scale"],
        )

    def step(self, gradients: Gradients, arguments: Mapping[str, Any]) -> Array:
        self._optimizer.scale, self._optimizer.eps = arguments["scale"], arguments["eps"]
        for role in ROLES:
            for group in self._child(role).param_groups:
                group.update(self._native(role, arguments))
        self._run.give(gradients)
        self._optimizer.step()
        return self._run.weights()

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        found = {slot: self._read(name) for slot, name in names.items()}
        return {slot: value for slot, value in found.items() if value is not None}

    def info(self) -> dict[str, Array]:
        found = self._optimizer.info
        return {} if found is None else {name: getattr(found, name).numpy().copy() for name in ("n_m", "n_d", "ratio")}

    def _child(self, role: str) -> Any:
        return getattr(self._optimizer, role)

    def _native(self, role: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        own = {path.removeprefix(f"{role}."): value for path, value in arguments.items() if path.startswith(f"{role}.")}
        return self._rows[role].native(own, {})

    def _read(self, path: str) -> Array | None:
        """A slot of a child; a tensor that has made no state yet has none to show, and so has the slot."""
        role, _, slot = path.partition(".")
        if slot not in self._rows[role].state:
            return None
        name, sign = signed(self._rows[role].state[slot])
        entry = name.rpartition(".")[2]
        values = [self._child(role).state.get(param, {}).get(entry) for param in self._run.params]
        if any(value is None for value in values):
            return None
        return sign * np.concatenate([torch.as_tensor(value).detach().numpy().reshape(-1) for value in values])
