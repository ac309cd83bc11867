"""How the keys of param groups reach the children, and what is checked of groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftsim_torch import sharding
from graftsim_torch.children import BlackBox, Child

ROLES = ("magnitude", "direction")
NAMES = ("params", "param_names")


def keys(group: Mapping[str, Any]) -> dict[str, Any]:
    """What a param group holds beside its parameters."""
    return {name: value for name, value in group.items() if name not in NAMES}


def given(group: Mapping[str, Any], key: Mapping[str, Any], role: str) -> dict[str, Any]:
    """A param group as one child gets it: its plain keys, then those that are for this child alone."""
    plain = {name: value for name, value in key.items() if name not in ROLES}
    own = {name: group[name] for name in NAMES if name in group}
    return own | plain | dict(key.get(role, {}))


def settle(children: Mapping[str, Child], index: int, key: Mapping[str, Any]) -> None:
    """Leave to each child's group the keys that it knows.

    Raises:
        ValueError: a key that no child knows.
    """
    known = {role: set(child.optimizer.defaults) for role, child in children.items()}
    for name in key:
        if not any(name in names for names in known.values()) and name not in ROLES:
            from graftsim.errors import nearest

            raise ValueError(
                f"a param group may hold params and what a child knows; received {name!r}"
                f"{nearest(name, set().union(*known.values()))}"
            )
    for role, child in children.items():
        if unknown := sorted(set(key.get(role, {})) - known[role]):
            raise ValueError(f"{role} has no {unknown[0]!r}; it knows {', '.join(sorted(known[role]))}")
        group = child.optimizer.param_groups[index]
        for name in [*key, *ROLES]:
            if name not in known[role]:
                group.pop(name, None)


def check(children: Mapping[str, Child]) -> None:
    """Refuse what cannot be grafted.

    Raises:
        TypeError: parameters that are not real floating-point tensors.
        ValueError: ``differentiable``, or a child that shards would change.
    """
    for role, child in children.items():
        params = [param for group in child.optimizer.param_groups for param in group["params"]]
        for param in params:
            if not param.is_floating_point():
                raise TypeError(f"parameters must be real floating-point tensors; received {param.dtype}")
        if any(group.get("differentiable") for group in child.optimizer.param_groups):
            raise ValueError(f"{role}: differentiable=True cannot be grafted; take differentiable=False")
        if not isinstance(child, BlackBox) or child.knowledge.elementwise:
            continue
        if any(sharding.mesh_of(param) is not None for param in params):
            raise ValueError(
                f"{role}: {type(child.optimizer).__name__} is not known to work on each coordinate alone, so it cannot "
                f"run on sharded parameters; declare(..., elementwise=True) says that it does"
            )
