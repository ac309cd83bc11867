"""What the children propose within a step of a graft: in which order, what may be lost, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from graftsim_torch import chunks, groups, recovery
from graftsim_torch.children import BlackBox, Child
from graftsim_torch.chunks import Chunk
from graftsim_torch.scaling import Scaling
from graftsim_torch.steps import Steps

Watch = Callable[[str, Tensor, Tensor], object]
"""Is given the role of a child, a parameter, and the child's step for it in float64."""


def order(children: Mapping[str, Child], chunk: Chunk) -> Iterator[tuple[str, Chunk]]:
    """Which child proposes for which piece, and when: both for a piece while it is in the cache, if they can."""
    if all(child.streams for child in children.values()):
        for piece in chunks.pieces(chunk):
            yield from ((role, piece) for role in groups.ROLES)
        return
    for role in groups.ROLES:
        yield from ((role, piece) for piece in (chunks.pieces(chunk) if children[role].streams else [chunk]))


def proposed(child: Child, role: str, chunk: Chunk, watch: Watch | None) -> Steps:
    """A child's steps, after who watches was told of them."""
    steps = child.propose(chunk)
    if watch is not None:
        params = [param for part in chunk for param in part.params]
        for param, step in zip(params, steps.wide(), strict=True):
            watch(role, param, step)
    return steps


def direction_error(child: Child, scaling: Scaling, chunk: Chunk, steps: Steps, n_d: Tensor) -> Tensor | None:
    """u |w| / |d| where the direction was run on the weights; see :class:`graftsim_torch.info.Info`."""
    if not isinstance(child, BlackBox) or child.knowledge.blind:
        return None
    dtype, params = steps.tensors[0].dtype, [param for part in chunk for param in part.params]
    weights = Steps([weight.to(dtype) for part in chunk for weight in part.weights], spare=False)
    length = scaling.pooled(params, [scaling.lengths(params, weights)])[0]
    unit = torch.finfo(dtype).eps / 2
    if child.amplified:
        unit = unit * max(recovery.near_one(group["lr"])[1] for group in child.optimizer.param_groups)
    return torch.where(n_d > 0, unit * length / n_d, 0.0)
