"""Sharded parameters: DTensor, and with it ``fully_shard``. The only module that knows of ``torch.distributed``.

Steps are computed on local parts. What has to be added over ranks are squares of norms, one small vector a step for
each device mesh; replicated parameters need nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from graftsim_torch.partitions import Place


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor; the module that defines them is imported by whoever makes one."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this rank holds; it shares memory with it."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def local_gradient(param: Tensor) -> Tensor:
    """The local part of a gradient, laid out as its parameter is."""
    grad = param.grad
    assert grad is not None
    if is_sharded(param):
        if grad.placements != param.placements:
            grad = grad.redistribute(placements=param.placements)
        return local(grad)
    return grad


def place(param: Tensor) -> Place:
    """Where the local part lies in the whole tensor.

    Raises:
        ValueError: a placement under which no coordinate has one place.
    """
    if not is_sharded(param):
        shape = tuple(param.shape)
        return Place(shape, shape, (0,) * len(shape))
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    for placement in param.placements:
        if not isinstance(placement, Shard | Replicate):
            raise ValueError(f"parameters must be sharded by Shard or Replicate; received {placement}")
    shape, offset = compute_local_shape_and_global_offset(param.shape, param.device_mesh, param.placements)
    return Place(tuple(param.shape), tuple(shape), tuple(offset))


def mesh_of(param: Tensor) -> Any:
    """The mesh over which a parameter's norm has to be added; None where this rank has all of it."""
    if not is_sharded(param) or all(placement.is_replicate() for placement in param.placements):
        return None
    return param.device_mesh


def add(rows: Mapping[Any, Tensor], params: Mapping[Any, Sequence[Tensor]]) -> Tensor:
    """Add rows of squares: of each mesh over its ranks, then all meshes. One all-reduce for each mesh (dimension)."""
    total: Tensor | None = None
    for mesh, row in rows.items():
        row = row if mesh is None else _over(mesh, row.contiguous(), params[mesh])
        total = row if total is None else total + row
    assert total is not None
    return total


def _over(mesh: Any, row: Tensor, params: Sequence[Tensor]) -> Tensor:
    """Add over the dimensions of a mesh in which any parameter is sharded."""
    for dimension in range(mesh.ndim):
        if any(param.placements[dimension].is_shard() for param in params):
            torch.distributed.all_reduce(row, group=mesh.get_group(dimension))
    return row


def counts_here(param: Tensor, params: Sequence[Tensor]) -> bool:
    """Whether this rank's copy enters the sum: of copies along a dimension that is added over, the first does."""
    mesh = param.device_mesh
    coordinate = mesh.get_coordinate()
    return not any(
        param.placements[dimension].is_replicate()
        and coordinate[dimension] != 0
        and any(other.placements[dimension].is_shard() for other in params)
        for dimension in range(mesh.ndim)
    )


def wrapped(state: dict[str, Any], param: Tensor) -> dict[str, Any]:
    """State of a sharded parameter with its coordinate slots as DTensors, so that a checkpoint knows where they lie."""
    if not is_sharded(param):
        return state
    from torch.distributed.tensor import DTensor

    shape = local(param).shape
    for name, value in state.items():
        if isinstance(value, Tensor) and not is_sharded(value) and value.dim() > 0 and value.shape == shape:
            state[name] = DTensor.from_local(
                value,
                param.device_mesh,
                param.placements,
                run_check=False,
                shape=param.shape,
                stride=param.stride(),
            )
    return state


def unwrapped(state: dict[str, Any], param: Tensor) -> dict[str, Any]:
    """State with local parts in place of DTensors."""
    for name, value in state.items():
        if isinstance(value, Tensor):
            state[name] = local(value)
    return state


@contextmanager
def local_states(states: list[dict[str, Any]], params: Sequence[Tensor]) -> Iterator[list[dict[str, Any]]]:
    """The states with local parts, while a rule runs on them."""
    sharded = [is_sharded(param) for param in params]
    if not any(sharded):
        yield states
        return
    for state, param in zip(states, params, strict=True):
        unwrapped(state, param)
    try:
        yield states
    finally:
        for state, param in zip(states, params, strict=True):
            wrapped(state, param)
