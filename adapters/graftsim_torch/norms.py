"""Lengths of steps, in float64, that neither overflow nor underflow, and without waiting for a device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

FAR = 1000
"""Powers of two beyond which a float64 is not scaled further: what is left is in range."""

PIECE = 1 << 18
"""Numbers that are widened to float64 at a time: they stay in a cache."""

ROW = 128
"""Squares of float32 that are added in float32, in eight or sixteen sums side by side; the rows' in float64.

Sixteen additions in a row are off by 16 u of a sum at most, which is 8 u of a norm, below the 1 + log2 n that the error
bound of the reference grants.
"""

SMALL = 1 << 12
"""Tensors of at most so many numbers are summed together, for what a call costs is more than what it sums."""

LEAST = {torch.float32: 2.0**-119, torch.float64: 2.0**-900}
"""A finite sum of n squares that is at least n times this has lost less to underflow than to rounding."""

BUCKET = 600
"""Squares are summed in three ranges: of numbers below 2^-500, above 2^500 (both scaled by this power), and between."""


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """The Frobenius norms of k tensors of one device and dtype, shape (k,), float64.

    Squares of float32 are added in short rows, and the rows, as are small tensors, in float64. Where squares would
    leave the range of their dtype, float32 is widened, and float64 divided by the power of two of its largest element.
    An empty tensor has norm 0; NaN and infinity come through.
    """
    if not tensors:
        return torch.zeros(0, dtype=torch.float64)
    if tensors[0].device.type == "cpu" and not torch.compiler.is_compiling():
        return _on_a_cpu(tensors)
    if tensors[0].dtype is torch.float64:
        return torch.stack([_scaled_norm(tensor, None) for tensor in tensors])
    return torch.stack(torch._foreach_norm(list(tensors), 2, torch.float64))


def _on_a_cpu(tensors: Sequence[Tensor]) -> Tensor:
    small = [i for i, tensor in enumerate(tensors) if tensor.numel() <= SMALL]
    large = [i for i, tensor in enumerate(tensors) if tensor.numel() > SMALL]
    sums = torch.empty(len(tensors), dtype=torch.float64)
    if small:
        sums[small] = _small_sums([tensors[i] for i in small])
    if large:
        sums[large] = torch.stack([_sum_of_squares(tensors[i]) for i in large])
    found, roots = sums.tolist(), torch.sqrt(sums)
    doubtful = large if tensors[0].dtype is torch.float32 else range(len(tensors))
    for i in doubtful:
        if not tensors[i].numel() * LEAST[tensors[i].dtype] <= found[i] < math.inf:
            roots[i] = _far_norm(tensors[i])
    return roots


def _small_sums(tensors: Sequence[Tensor]) -> Tensor:
    """The sums of squares of many tensors, each summed on its own."""
    wide = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(torch.float64)
    lengths = torch.tensor([tensor.numel() for tensor in tensors])
    return torch.segment_reduce(wide.mul_(wide), "sum", lengths=lengths, unsafe=True, initial=0)


def _sum_of_squares(tensor: Tensor) -> Tensor:
    """In float64; several times faster than a norm that converts as it goes."""
    flat = tensor.reshape(-1)
    if flat.dtype is torch.float64:
        return torch.dot(flat, flat)
    end = flat.numel() - flat.numel() % ROW
    rows = torch.linalg.vector_norm(flat[:end].view(-1, ROW), dim=1).to(torch.float64)
    rest = flat[end:].to(torch.float64)
    return torch.dot(rows, rows) + torch.dot(rest, rest)


def _far_norm(tensor: Tensor) -> Tensor:
    if tensor.dtype is torch.float64:
        return _scaled_norm(tensor, None)
    pieces = [torch.linalg.vector_norm(piece.to(torch.float64)) for piece in tensor.reshape(-1).split(PIECE)]
    return torch.linalg.vector_norm(torch.stack(pieces))


def norms_along(tensor: Tensor, axis: int) -> Tensor:
    """The norms at each index of an axis over all others, float64."""
    others = tuple(a for a in range(tensor.dim()) if a != axis)
    if tensor.dtype is torch.float64:
        return _scaled_norm(tensor, others)
    if tensor.device.type != "cpu" or tensor.numel() <= PIECE or torch.compiler.is_compiling():
        return torch.linalg.vector_norm(tensor.to(torch.float64), dim=others)
    rows = max(1, PIECE * tensor.shape[0] // tensor.numel())
    slabs = [torch.linalg.vector_norm(slab.to(torch.float64), dim=others) for slab in tensor.split(rows)]
    return torch.cat(slabs) if axis == 0 else torch.linalg.vector_norm(torch.stack(slabs), dim=0)


def _scaled_norm(tensor: Tensor, axes: tuple[int, ...] | None) -> Tensor:
    if tensor.numel() == 0:
        return torch.linalg.vector_norm(tensor, dim=axes)
    largest = torch.linalg.vector_norm(tensor, ord=torch.inf, dim=axes, keepdim=axes is not None)
    scale = power_of_two(largest)
    root = torch.linalg.vector_norm(tensor * scale, dim=axes)
    return root / scale.reshape(root.shape)


def power_of_two(largest: Tensor) -> Tensor:
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
