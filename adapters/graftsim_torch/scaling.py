"""From the children's steps to the factors of the direction's: lengths in groups, ratios, and their application."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graftsim_torch import sharding
from graftsim_torch.norms import buckets, from_buckets, norms
from graftsim_torch.partitions import Cut, Partition, Whole

FAR = 2.0**100
"""Factors beyond this and below its inverse are applied in two parts, each of which float32 can hold."""


class Scaling:
    """The groups of some parameters under a partition.

    An *entry* is a group of one tensor; under ``global`` and ``pattern`` entries are pooled.
    """

    def __init__(self, partition: Partition, params: Sequence[Tensor], names: Sequence[str] | None) -> None:
        self.partition = partition
        self.names = list(names) if names else [str(index) for index in range(len(params))]
        self._cuts: dict[Tensor, Cut] = {
            param: partition.cut(sharding.place(param), name) for param, name in zip(params, self.names, strict=True)
        }
        self._meshes = {param: sharding.mesh_of(param) for param in params}
        self._sharded = any(mesh is not None for mesh in self._meshes.values()) and partition.kind != "coordinate"
        self._together = len({sharding.local(param).device for param in params}) == 1
        self._pools: dict[Tensor, int] | None = None
        self._labels: list[str] = []
        if partition.pooled:
            pools, self._labels = partition.pools(names, len(params))
            self._pools = dict(zip(params, pools, strict=True))

    @property
    def separate(self) -> bool:
        """Whether each tensor's ratio can be known without the others."""
        return self._pools is None and not self._sharded

    def lengths(self, params: Sequence[Tensor], steps: Sequence[Tensor]) -> Tensor:
        """The norm of each entry of these tensors, or of its local part: one float64 vector."""
        cuts = [self._cuts[param] for param in params]
        if not steps:
            return torch.zeros(0, dtype=torch.float64)
        device = steps[0].device
        if all(isinstance(cut, Whole) for cut in cuts):
            found = norms(steps)
            return torch.stack(found if self._together else [norm.to(device) for norm in found])
        return torch.cat([cut.norms(step).to(device) for cut, step in zip(cuts, steps, strict=True)])

    def pooled(self, params: Sequence[Tensor], lengths: list[Tensor]) -> list[Tensor]:
        """Lengths of whole groups from those of entries: added over pools and over ranks, all vectors together."""
        if self.separate or not params:
            return lengths
        rows = torch.stack([buckets(length) for length in lengths])  # (vectors, 3, entries)
        if not self._sharded:
            return list(from_buckets(self._added(params, rows).movedim(1, 0)).unbind())
        by_mesh: dict[object, list[Tensor]] = {}
        for param in params:
            by_mesh.setdefault(self._meshes[param], []).append(param)
        parts = {}
        for mesh, mine in by_mesh.items():
            here = [
                self._meshes[param] is mesh and (mesh is None or sharding.counts_here(param, mine)) for param in params
            ]
            parts[mesh] = self._added(params, torch.where(self._mask(params, here, rows.device), rows, 0.0))
        return list(from_buckets(sharding.add(parts, by_mesh).movedim(1, 0)).unbind())

    def _added(self, params: Sequence[Tensor], rows: Tensor) -> Tensor:
        """Rows of entries added into those of pools; a masked sum has an order, which scattering on a GPU has not."""
        if self._pools is None:
            return rows
        pools = self._present(params)
        if len(pools) == 1:
            return rows.sum(-1, keepdim=True)
        member = torch.tensor([[self._pools[param] == pool for param in params] for pool in pools], device=rows.device)
        return torch.where(member, rows[..., None, :], 0.0).sum(-1)

    def _present(self, params: Sequence[Tensor]) -> list[int]:
        assert self._pools is not None
        return sorted({self._pools[param] for param in params})

    def _mask(self, params: Sequence[Tensor], here: Sequence[bool], device: torch.device) -> Tensor:
        return torch.tensor(
            [flag for param, flag in zip(params, here, strict=True) for _ in range(self._cuts[param].count)],
            device=device,
        )

    @staticmethod
    def ratio(n_m: Tensor, n_d: Tensor, eps: float, scale: float | Tensor) -> tuple[Tensor, Tensor]:
        """The ratio that is recorded, and the factor that is used (GS-graft-zero-direction, GS-graft-ratio-first)."""
        ratio = torch.where(n_d == 0, 0.0, n_m / (n_d + eps if eps else n_d))
        return ratio, ratio if isinstance(scale, float | int) and scale == 1 else ratio * scale

    def factors(self, params: Sequence[Tensor], factor: Tensor, steps: Sequence[Tensor]) -> list[Tensor]:
        """For each tensor a factor that broadcasts over its local part."""
        if self._pools is not None:
            place = {pool: i for i, pool in enumerate(self._present(params))} if params else {}
            parts = factor.unbind()
            return [parts[place[self._pools[param]]].to(step.device) for param, step in zip(params, steps, strict=True)]
        cuts = [self._cuts[param] for param in params]
        if all(isinstance(cut, Whole) for cut in cuts):
            parts = list(factor.unbind())
            return parts if self._together else [p.to(step.device) for p, step in zip(parts, steps, strict=True)]
        pieces = factor.split([cut.count for cut in cuts])
        return [cut.spread(piece.to(step.device)) for cut, piece, step in zip(cuts, pieces, steps, strict=True)]

    def groups(self, params: Sequence[Tensor], everything: Sequence[Tensor]) -> tuple[Tensor, list[str]]:
        """Where the groups of some parameters stand among those of all, and the names of all."""
        if self._pools is not None:
            return torch.tensor(self._present(params)), self._labels
        starts: dict[Tensor, int] = {}
        labels: list[str] = []
        for param, name in zip(everything, self.names, strict=True):
            starts[param] = len(labels)
            labels += self._cuts[param].labels(name)
        index = [starts[param] + i for param in params for i in range(self._cuts[param].count)]
        return torch.tensor(index, dtype=torch.int64), labels


def _halves(factors: Sequence[Tensor], steps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Each factor as a power of two, 1 unless it is extreme, and the rest, in the steps' dtype.

    Numbers are split together; where none is extreme there is one coarse factor for all.
    """
    dtype, device = steps[0].dtype, factors[0].device
    if all(f.dim() == 0 and f.device == device and s.dtype == dtype for f, s in zip(factors, steps, strict=True)):
        coarse, fine = _split(torch.stack(list(factors)))
        if _ordinary([coarse]):
            return [], list(fine.to(dtype).unbind())
        return list(coarse.to(dtype).unbind()), list(fine.to(dtype).unbind())
    pairs = [_split(factor) for factor in factors]
    return (
        [coarse.to(step.dtype) for (coarse, _), step in zip(pairs, steps, strict=True)],
        [fine.to(step.dtype) for (_, fine), step in zip(pairs, steps, strict=True)],
    )


def _split(factor: Tensor) -> tuple[Tensor, Tensor]:
    coarse = torch.where(factor > FAR, FAR, torch.where((factor < 1 / FAR) & (factor > 0), 1 / FAR, 1.0))
    return coarse, factor / coarse


def _ordinary(coarse: Sequence[Tensor]) -> bool:
    """Whether no factor is extreme, where looking costs nothing: on a CPU, and not while a step is being traced."""
    if torch.compiler.is_compiling() or any(factor.device.type != "cpu" for factor in coarse):
        return False
    return all(bool((factor == 1).all()) for factor in coarse)


def scaled(steps: list[Tensor], factors: Sequence[Tensor]) -> list[Tensor]:
    """Each step times its factor, in place; a factor outside float32's range is no special case (GS-graft-range)."""
    if not steps:
        return steps
    coarse, fine = _halves(factors, steps)
    if not _ordinary(coarse):
        torch._foreach_mul_(steps, coarse)
    torch._foreach_mul_(steps, fine)
    return steps


def add_scaled(weights: Sequence[Tensor], steps: list[Tensor], factors: Sequence[Tensor]) -> None:
    """w <- w + factor * step; weights of 16 bits are rounded once, at the end."""
    if not steps:
        return
    coarse, fine = _halves(factors, steps)
    if not _ordinary(coarse):
        torch._foreach_mul_(steps, coarse)
    for weight, step, factor in zip(weights, steps, fine, strict=True):
        if weight.dtype == step.dtype:
            weight.addcmul_(step, factor)
        else:
            weight.add_(step.mul_(factor))
