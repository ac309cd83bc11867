"""State of a graft as one dictionary, in torch's form, and back.

State of each parameter holds both children's slots under ``magnitude.`` and ``direction.``; a param group holds the
magnitude's hyperparameters under their own names, the direction's under ``direction.``. All values are flat, so
distributed checkpoints can hold them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from graftsim_torch import sharding
from graftsim_torch.chunks import wide

if TYPE_CHECKING:
    from graftsim_torch.graft import Graft

NAMES = ("params", "param_names")


def joined(states: Mapping[str, Mapping[Any, Mapping[str, Any]]]) -> dict[Any, dict[str, Any]]:
    """The states of both children in one mapping: by parameter, slots with the child's name in front."""
    found: dict[Any, dict[str, Any]] = {}
    for role, state in states.items():
        for param, slots in state.items():
            mine = found.setdefault(param, {})
            mine |= {f"{role}.{name}": value for name, value in slots.items()}
    return found


def settings(graft: Graft, index: int) -> dict[str, Any]:
    """A param group's entries beside the magnitude's own: the direction's, both children's inner ones, eps, scale."""
    found: dict[str, Any] = {"graft.eps": graft.eps, "graft.scale": graft.scale}
    for role, child in (("magnitude", graft.magnitude), ("direction", graft.direction)):
        mine: dict[str, Any] = {}
        if role == "direction":
            mine |= {name: value for name, value in child.param_groups[index].items() if name not in NAMES}
        if hasattr(child, "settings"):
            mine |= child.settings(index)
        found |= {f"{role}.{name}": value for name, value in mine.items()}
    return found


def load(graft: Graft, state_dict: dict[str, Any]) -> None:
    """Take up what ``state_dict`` returned, with the hooks of torch's own ``load_state_dict``."""
    for hook in graft._optimizer_load_state_dict_pre_hooks.values():
        changed = hook(graft, state_dict)
        state_dict = state_dict if changed is None else changed
    saved = copy.deepcopy(list(state_dict["param_groups"]))
    sizes = [len(group["params"]) for group in saved]
    if sizes != [len(group["params"]) for group in graft.param_groups]:
        raise ValueError(
            f"the state must be of as many parameters in each group as the optimizer has, "
            f"{[len(group['params']) for group in graft.param_groups]}; received {sizes}"
        )
    keys = chain.from_iterable(group["params"] for group in saved)
    params = dict(zip(keys, graft._params(), strict=True))
    _adopt(graft, {params[key]: slots for key, slots in state_dict["state"].items()}, saved)
    for hook in graft._optimizer_load_state_dict_post_hooks.values():
        hook(graft)


def _adopt(graft: Graft, state: Mapping[Tensor, Mapping[str, Any]], groups: list[dict[str, Any]]) -> None:
    strange = {name for slots in state.values() for name in slots if not name.startswith(("magnitude.", "direction."))}
    if strange:
        raise ValueError(
            f"the state must be that of a graft, with slots such as magnitude.exp_avg; received {min(strange)!r}"
        )
    for group in groups:
        graft.eps = group.pop("graft.eps", graft.eps)
        graft.scale = group.pop("graft.scale", graft.scale)
    for role, child in (("magnitude", graft.magnitude), ("direction", graft.direction)):
        mine = {param: _under(role, slots) for param, slots in state.items()}
        inner = [_under(role, group) for group in groups]
        if role == "magnitude":
            plain = [{n: v for n, v in group.items() if "." not in n and n not in NAMES} for group in groups]
            inner = [{**own, **deep} for own, deep in zip(plain, inner, strict=True)]
        if hasattr(child, "settings"):
            for group, values in zip(child.param_groups, inner, strict=True):
                group.update({name: value for name, value in values.items() if "." not in name})
            _adopt(child, mine, inner)
        else:
            _take(child, mine, inner)
    graft._forget()


def _under(role: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(f"{role}."): value for name, value in values.items() if name.startswith(f"{role}.")}


def _take(optimizer: Optimizer, state: Mapping[Tensor, Mapping[str, Any]], groups: list[dict[str, Any]]) -> None:
    optimizer.state.clear()
    for group, values in zip(optimizer.param_groups, groups, strict=True):
        group.update(values)
        there = group.get("capturable", False) or group.get("fused", False)
        for param in group["params"]:
            if state.get(param):
                optimizer.state[param] = {name: _cast(name, v, param, there) for name, v in state[param].items()}


def _cast(name: str, value: Any, param: Tensor, there: bool) -> Any:
    """A copy on the parameter's device; slots of the parameter's shape in the dtype that steps are computed in."""
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if name == "step":
        return value.to(device=sharding.local(param).device if there else value.device, copy=True)
    dtype = wide(param.dtype) if value.is_floating_point() and value.shape == param.shape else value.dtype
    return value.detach().to(device=param.device, dtype=dtype, copy=True)
