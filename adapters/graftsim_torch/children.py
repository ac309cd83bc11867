"""The two optimizers inside a graft, each as something that proposes steps and moves nothing.

A child looks to its user like an optimizer over the user's own parameters: its param groups hold them, its state is
keyed by them. Only while a black box runs do scratch parameters stand in their place.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from graftsim_torch import closed_forms, recovery, sharding
from graftsim_torch.chunks import Chunk, Part, wide
from graftsim_torch.recovery import Declared, Knowledge
from graftsim_torch.steps import Steps

Hyperparameters = dict[str, Any]


class Child(Protocol):
    """What a graft needs of a child."""

    optimizer: Optimizer

    @property
    def streams(self) -> bool:
        """Whether a few tensors at a time may be proposed for."""
        ...

    def propose(self, chunk: Chunk) -> Steps:
        """The step of each tensor, in order."""
        ...


def scratch(param: Tensor) -> torch.nn.Parameter:
    """A parameter of the local shape and working dtype of another, of zeros that take no memory."""
    local = sharding.local(param)
    zero = torch.zeros((), dtype=wide(param.dtype), device=local.device)
    return torch.nn.Parameter(zero.expand(local.shape), requires_grad=True)


@dataclass
class ClosedForm:
    """A native optimizer whose formula is written out in :mod:`closed_forms`; it is never stepped itself."""

    optimizer: Optimizer

    @property
    def streams(self) -> bool:
        return True

    def propose(self, chunk: Chunk) -> Steps:
        rule = closed_forms.RULES[type(self.optimizer)]
        steps = []
        for part in chunk:
            group = self.optimizer.param_groups[part.group]
            states = [self.optimizer.state[param] for param in part.params]
            weights = part.wide_weights() if group["weight_decay"] != 0 else []
            with sharding.local_states(states, part.params) as local:
                steps.append(rule(group, local, weights, part.grads))
        self.optimizer._opt_called = True  # what lr_schedulers look at
        return Steps.join(steps)


@dataclass
class BlackBox:
    """Any other optimizer, run on scratch parameters (see :mod:`recovery`)."""

    optimizer: Optimizer
    knowledge: Knowledge
    amplified: bool
    """Whether the rate is brought near 1 while it runs: for a direction that reads weights and is linear in it."""

    @property
    def streams(self) -> bool:
        return False

    def propose(self, chunk: Chunk) -> Steps:
        blind = self.knowledge.blind
        with self._scratch(chunk) as stand_ins, self._settings() as powers:
            for part in chunk:
                for param, grad, weight in zip(part.params, self._gradients(part), part.weights, strict=True):
                    stand_in = stand_ins[param]
                    start = torch.zeros_like(grad) if blind else weight.to(grad.dtype, copy=True)
                    stand_in.data, stand_in.grad = start, grad
            with torch.enable_grad():
                self.optimizer.step()
            steps: list[Tensor] = []
            for part in chunk:
                found = [stand_ins[param].data for param in part.params]
                if not blind:
                    torch._foreach_sub_(found, part.wide_weights())
                if self.amplified:
                    torch._foreach_mul_(found, powers[part.group])
                steps += found
        self._add_decoupled_decay(chunk, steps)
        return Steps(steps)

    def _group(self, part: Part) -> Hyperparameters:
        group: Hyperparameters = self.optimizer.param_groups[part.group]
        return group

    def _splits(self, group: Hyperparameters) -> bool:
        return self.knowledge.splits_decay and group.get("weight_decay", 0) != 0

    def _gradients(self, part: Part) -> list[Tensor]:
        """The gradients to run on: the true ones where they are safe, with coupled decay where it is split off."""
        group = self._group(part)
        if self._decay[part.group] and not recovery.decoupled(self.optimizer, group):
            settings = {**group, **self._decay[part.group]}
            return closed_forms.decayed_gradients(settings, part.wide_weights(), part.grads)
        return part.grads if self.knowledge.keeps_gradients else [grad.clone() for grad in part.grads]

    def _add_decoupled_decay(self, chunk: Chunk, steps: list[Tensor]) -> None:
        start = 0
        for part in chunk:
            group, mine = self._group(part), steps[start : start + len(part.params)]
            start += len(mine)
            if self._splits(group) and recovery.decoupled(self.optimizer, group):
                closed_forms.add_decay(mine, part.wide_weights(), group)

    @contextmanager
    def _settings(self) -> Iterator[list[Any]]:
        """While the optimizer runs: decay that is split off is 0, and an amplified rate is near 1."""
        kept = [dict(group) for group in self.optimizer.param_groups]
        self._decay: list[Hyperparameters] = [{} for _ in kept]
        powers: list[Any] = [1.0] * len(kept)
        try:
            for index, group in enumerate(self.optimizer.param_groups):
                if self._splits(group):
                    self._decay[index] = {"weight_decay": group["weight_decay"], "maximize": group.get("maximize")}
                    group["weight_decay"] = 0
                    if not recovery.decoupled(self.optimizer, group) and "maximize" in group:
                        group["maximize"] = False  # the sign is turned before decay is added
                if self.amplified:
                    group["lr"], powers[index] = recovery.near_one(group["lr"])
            yield powers
        finally:
            for index, group in enumerate(self.optimizer.param_groups):
                changed = [name for name in ("weight_decay", "maximize") if name in group]
                changed += ["lr"] if self.amplified else []
                group.update({name: kept[index][name] for name in changed})

    @contextmanager
    def _scratch(self, chunk: Chunk) -> Iterator[dict[Tensor, Tensor]]:
        """Put scratch parameters in the place of the true ones, in groups and state, for as long as it runs."""
        optimizer = self.optimizer
        true = [group["params"] for group in optimizer.param_groups]
        stand_ins = {param: scratch(param) for params in true for param in params}
        back = {stand_in: param for param, stand_in in stand_ins.items()}
        for group, params in zip(optimizer.param_groups, true, strict=True):
            group["params"] = [stand_ins[param] for param in params]
        optimizer.state = _keyed(optimizer.state, stand_ins, sharding.unwrapped)
        try:
            yield stand_ins
        finally:
            optimizer.state = _keyed(optimizer.state, back, sharding.wrapped)
            for group, params in zip(optimizer.param_groups, true, strict=True):
                group["params"] = params


def _keyed(state: Mapping[Any, Any], keys: Mapping[Any, Tensor], convert: Any) -> defaultdict[Any, Any]:
    found: defaultdict[Any, Any] = defaultdict(dict)
    for key, slots in state.items():
        new = keys.get(key, key)
        found[new] = convert(slots, new) if isinstance(slots, dict) else slots
    return found


def make(spec: Any, groups: Sequence[Mapping[str, Any]], role: str) -> tuple[Optimizer, Declared | None]:
    """The child optimizer of a class, factory or instance, over param groups, with its groups holding their params.

    Raises:
        TypeError: what is given is none of these, or makes no optimizer.
        ValueError: an instance over other parameters.
    """
    declared = spec if isinstance(spec, Declared) else None
    spec = declared.optimizer if declared else spec
    if isinstance(spec, Optimizer):
        _same_groups(spec, groups, role)
        _widen(spec)
        return spec, declared
    if not callable(spec):
        raise TypeError(
            f"{role} must be an optimizer class, a factory such as partial(Adam, lr=1e-3), or an instance; "
            f"received {type(spec).__name__}"
        )
    stand_ins = {param: scratch(param) for group in groups for param in group["params"]}
    optimizer = spec([{**group, "params": [stand_ins[p] for p in group["params"]]} for group in groups])
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{role}: the factory must return a torch.optim.Optimizer; it returned {type(optimizer)}")
    rekey(optimizer, {stand_in: param for param, stand_in in stand_ins.items()})
    return optimizer, declared


def _widen(optimizer: Optimizer) -> None:
    """Bring the state of an instance over parameters of 16 bits to the dtype that steps are computed in."""
    for param, slots in optimizer.state.items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.dtype is param.dtype and name != "step":
                slots[name] = value.to(wide(value.dtype))


def rekey(optimizer: Optimizer, keys: Mapping[Any, Tensor]) -> None:
    """Put the true parameters in the place of those that an optimizer was made with."""
    if hasattr(optimizer, "rekey"):  # a graft inside a graft
        optimizer.rekey(keys)
        return
    for group in optimizer.param_groups:
        group["params"] = [keys.get(param, param) for param in group["params"]]
    optimizer.state = _keyed(optimizer.state, keys, sharding.wrapped)


def _same_groups(optimizer: Optimizer, groups: Sequence[Mapping[str, Any]], role: str) -> None:
    mine = [[id(param) for param in group["params"]] for group in optimizer.param_groups]
    if mine != [[id(param) for param in group["params"]] for group in groups]:
        raise ValueError(
            f"{role}: an optimizer that is given as an instance must hold the graft's parameters in the same groups; "
            f"give a factory such as partial(Adam, lr=1e-3) instead"
        )


def twin(optimizer: Optimizer) -> Optimizer:
    """A second optimizer with the same settings and state of its own, over the same parameters."""
    params = {id(param): param for group in optimizer.param_groups for param in group["params"]}
    return copy.deepcopy(optimizer, params)
