"""Lengths of steps, in float64, that neither overflow nor underflow, and without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FAR = 1000
"""Powers of two beyond which a float64 is not scaled further: what is left is in range."""

PIECE = 1 << 15
"""Numbers that are widened to float64 at a time: they stay in a cache."""

BUCKET = 600
"""Squares are summed in three ranges: of numbers below 2^-500, above 2^500 (both scaled by this power), and between."""


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The Frobenius norm of each tensor, a float64 of shape ().

    float32 is squared and summed in float64, which holds every square of a float32; float64 is first divided by the
    power of two of its largest element. An empty tensor has norm 0; NaN and infinity come through.
    """
    if any(tensor.dtype is torch.float64 for tensor in tensors):
        return [norms_along(tensor, None) for tensor in tensors]
    if any(tensor.device.type != "cpu" for tensor in tensors):
        return list(torch._foreach_norm(list(tensors), 2, torch.float64))
    largest = max([0, *(tensor.numel() for tensor in tensors)])
    desk = torch.empty(min(largest, PIECE), dtype=torch.float64)
    return list(torch._foreach_sqrt([_sum_of_squares(tensor, desk) for tensor in tensors]))


def _sum_of_squares(tensor: Tensor, desk: Tensor) -> Tensor:
    """In float64, piece by piece on a desk of float64; several times faster than a norm that converts as it goes."""
    flat = tensor.reshape(-1)
    sums = []
    for piece in flat.split(PIECE) if flat.numel() > PIECE else (flat,):
        wide = desk[: piece.numel()].copy_(piece)
        sums.append(torch.dot(wide, wide))
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum()


def norms_along(tensor: Tensor, axes: tuple[int, ...] | None) -> Tensor:
    """The norms over some axes, or over all, float64, of the shape of the others."""
    if tensor.dtype is torch.float64:
        return _scaled_norm(tensor, axes)
    found: Tensor = torch.linalg.vector_norm(tensor, dim=axes, dtype=torch.float64)
    return found


def _scaled_norm(tensor: Tensor, axes: tuple[int, ...] | None) -> Tensor:
    if tensor.numel() == 0:
        return torch.linalg.vector_norm(tensor, dim=axes)
    largest = torch.linalg.vector_norm(tensor, ord=torch.inf, dim=axes, keepdim=axes is not None)
    scale = _power_of_two(largest)
    root = torch.linalg.vector_norm(tensor * scale, dim=axes)
    return root / scale.reshape(root.shape)


def _power_of_two(largest: Tensor) -> Tensor:
    """2^-e for numbers near 2^e; 1 for 0, NaN and infinity."""
    _, exponent = torch.frexp(largest)
    ordinary = torch.isfinite(largest) & (largest > 0)
    exponent = torch.where(ordinary, -exponent, 0).clamp(-FAR, FAR)
    return torch.ldexp(torch.ones_like(largest), exponent)


def buckets(lengths: Tensor) -> Tensor:
    """Squares of lengths of shape (k,) as rows that add without leaving float64, shape (3, k).

    A length falls in one row; the others hold 0. So partial sums of any shards or tensors are added row by row, by one
    reduction, and :func:`from_buckets` takes the root. NaN falls in the middle row.
    """
    small, large = lengths < 2.0**-500, lengths > 2.0**500
    scaled = torch.stack([lengths * 2.0**BUCKET, lengths, lengths * 2.0**-BUCKET])
    rows = torch.stack([small, ~(small | large), large])
    return torch.where(rows, scaled * scaled, 0.0)


def from_buckets(rows: Tensor) -> Tensor:
    """Lengths of shape (k,) from the added rows: what the largest row in use cannot see is below its rounding."""
    small, middle, large = rows.unbind()
    low = torch.sqrt(small) * 2.0**-BUCKET
    mid = torch.hypot(torch.sqrt(middle), low)
    high = torch.sqrt(large + middle * 2.0 ** (-2 * BUCKET)) * 2.0**BUCKET
    return torch.where(large > 0, high, torch.where(middle > 0, mid, torch.where(middle == 0, low, middle)))
