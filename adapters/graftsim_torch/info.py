"""What a graft tells of its last step: norms and ratios for each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Info:
    """Norms and ratios of one step, one for each group of the partition; float64 tensors on the parameters' device.

    ``n_m`` and ``n_d`` are the norms of the children's steps, ``ratio`` is the multiplier that was used, without the
    scale, and 0 where the direction's step was zero (GS-graft-recorded-ratio). ``missing`` marks groups none of whose
    tensors had a gradient; their numbers are 0. ``direction_error`` bounds what the recovery of a direction that reads
    weights may have lost, relative to its norm: u |w| / |d|; it is None where nothing can be lost.
    """

    groups: tuple[str, ...]
    n_m: Tensor
    n_d: Tensor
    ratio: Tensor
    missing: Tensor
    direction_error: Tensor | None = None

    def rows(self) -> list[dict[str, float | str | bool]]:
        """One mapping a group, of plain numbers; it waits for the device."""
        columns = [self.n_m.tolist(), self.n_d.tolist(), self.ratio.tolist(), self.missing.tolist()]
        return [
            {"group": group, "n_m": m, "n_d": d, "ratio": r, "missing": missing}
            for group, m, d, r, missing in zip(self.groups, *columns, strict=True)
        ]


@dataclass(frozen=True)
class Numbers:
    """Norms and ratios of the groups that took part in a step, flat."""

    n_m: Tensor
    n_d: Tensor
    ratio: Tensor
    error: Tensor | None

    @staticmethod
    def join(parts: Sequence[Numbers]) -> Numbers:
        """One after another."""
        if len(parts) == 1:
            return parts[0]
        device = parts[0].n_m.device
        n_m, n_d, ratio = (torch.cat([getattr(p, name).to(device) for p in parts]) for name in ("n_m", "n_d", "ratio"))
        errors = [part.error.to(device) for part in parts if part.error is not None]
        return Numbers(n_m, n_d, ratio, torch.cat(errors) if len(errors) == len(parts) else None)

    def scattered(self, index: Tensor, labels: Sequence[str]) -> Info:
        """Put in their places among all groups; the others are missing."""
        index = index.to(self.n_m.device)

        def full(values: Tensor) -> Tensor:
            return torch.zeros(len(labels), dtype=values.dtype, device=values.device).index_copy(0, index, values)

        missing = ~full(torch.ones_like(self.n_m, dtype=torch.bool))
        error = None if self.error is None else full(self.error)
        return Info(tuple(labels), full(self.n_m), full(self.n_d), full(self.ratio), missing, error)
