"""From the children's steps to the factors of the direction's: lengths in groups and their ratios."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graftsim_torch import sharding
from graftsim_torch.norms import buckets, from_buckets, norms
from graftsim_torch.partitions import Cut, Partition, Whole
from graftsim_torch.steps import Steps


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
        self._pools: dict[Tensor, int] | None = None
        self._labels: list[str] = []
        if partition.pooled:
            pools, self._labels = partition.pools(names, len(params))
            self._pools = dict(zip(params, pools, strict=True))

    @property
    def separate(self) -> bool:
        """Whether each tensor's ratio can be known without the others."""
        return self._pools is None and not self._sharded

    def lengths(self, params: Sequence[Tensor], steps: Steps) -> Tensor:
        """The norm of each entry of these tensors, or of its local part: one float64 vector."""
        cuts, tensors = [self._cuts[param] for param in params], steps.tensors
        if not tensors:
            return torch.zeros(0, dtype=torch.float64)
        whole = all(isinstance(cut, Whole) for cut in cuts)
        if whole and len({(tensor.device, tensor.dtype) for tensor in tensors}) == 1:
            found = norms(tensors)
            return found if steps.rates is None else found * steps.rates.abs()
        rates = [None] * len(cuts) if steps.rates is None else steps.rates.abs().unbind()
        each = [cut.norms(tensor) for cut, tensor in zip(cuts, tensors, strict=True)]
        each = [one if rate is None else one * rate for one, rate in zip(each, rates, strict=True)]
        return torch.cat([one.to(tensors[0].device) for one in each])

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

    def factors(self, params: Sequence[Tensor], factor: Tensor, tensors: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """The factor of each tensor's step: a vector, or where tensors are divided, a list that broadcasts."""
        if self._pools is not None:
            present = self._present(params) if params else []
            if len(present) <= 1:
                return factor.expand(len(params))
            place = {pool: i for i, pool in enumerate(present)}
            return factor[torch.tensor([place[self._pools[param]] for param in params], device=factor.device)]
        cuts = [self._cuts[param] for param in params]
        if all(isinstance(cut, Whole) for cut in cuts):
            return factor
        pieces = factor.split([cut.count for cut in cuts])
        return [cut.spread(piece.to(tensor.device)) for cut, piece, tensor in zip(cuts, pieces, tensors, strict=True)]

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
