"""The tensors of a step, and the pieces in which they are worked on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graftsim_torch import sharding

PIECE = 1 << 19
"""Coordinates that are stepped together on a CPU: their gradients, state and temporaries stay in its cache."""


@dataclass(frozen=True)
class Part:
    """Tensors of one param group that take part in a step. Weights and gradients are local parts."""

    group: int
    params: list[Tensor]
    weights: list[Tensor]
    grads: list[Tensor]

    def wide_weights(self) -> list[Tensor]:
        """The weights in the dtype that steps are computed in."""
        return [weight.to(grad.dtype) for weight, grad in zip(self.weights, self.grads, strict=True)]

    def cut(self, start: int, stop: int) -> Part:
        """Some of the tensors, with gradients in the dtype that steps are computed in."""
        grads = self.grads[start:stop]
        if any(grad.dtype is not wide(grad.dtype) for grad in grads):
            grads = [grad.to(wide(grad.dtype)) for grad in grads]
        return Part(self.group, self.params[start:stop], self.weights[start:stop], grads)


Chunk = list[Part]


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype that steps are computed in: formats of 16 bits are storage (GS-graft-dtypes)."""
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


def batch(param_groups: Sequence[Mapping[str, Any]]) -> Chunk:
    """The tensors that have a gradient, in the order of the param groups.

    Raises:
        ValueError: a sparse gradient.
        TypeError: a complex one.
    """
    found = []
    for index, group in enumerate(param_groups):
        params = [param for param in group["params"] if param.grad is not None]
        for param in params:
            _check(param.grad)
        if params:
            weights = [sharding.local(param) for param in params]
            found.append(Part(index, params, weights, [sharding.local_gradient(param) for param in params]))
    return found


def _check(grad: Tensor) -> None:
    if grad.layout is not torch.strided:
        raise ValueError(
            f"gradients must be dense; received one of layout {grad.layout}; use Embedding(sparse=False), or call "
            f"param.grad.to_dense()"
        )
    if grad.is_complex():
        raise TypeError("gradients must be real; received a complex one")


def at_once(whole: Chunk) -> Iterator[Chunk]:
    """All tensors as one chunk."""
    if whole:
        yield [part.cut(0, len(part.params)) for part in whole]


def pieces(whole: Chunk) -> Iterator[Chunk]:
    """On a CPU a few tensors at a time; elsewhere all of one group, device and dtype, which is fewer launches."""
    for part in whole:
        start, size = 0, 0
        for stop, weight in enumerate(part.weights, 1):
            size += weight.numel()
            if stop < len(part.weights):
                after = part.weights[stop]
                full = weight.device.type == "cpu" and size + after.numel() > PIECE
                if after.device == weight.device and after.dtype is weight.dtype and not full:
                    continue
            yield [part.cut(start, stop)]
            start, size = stop, 0
