"""What a child proposes, and how it is added to the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FAR = 2.0**100
"""Factors beyond this and below its inverse are applied in two parts, each of which float32 can hold."""

PIECE = 1 << 16
"""Numbers of a tensor that are worked on together in float64."""


@dataclass(frozen=True)
class Steps:
    """For each of k tensors a step, ``rate * tensor``.

    So a child can propose its gradient or its momentum as they stand. Rates are one float64 vector of shape (k,), or
    None where all are 1. ``spare`` tensors belong to nobody and may be overwritten.
    """

    tensors: list[Tensor]
    rates: Tensor | None = None
    spare: bool = True

    @staticmethod
    def join(parts: Sequence[Steps]) -> Steps:
        """One after another."""
        if len(parts) == 1:
            return parts[0]
        tensors = [tensor for part in parts for tensor in part.tensors]
        rates = None
        if any(part.rates is not None for part in parts):
            device = tensors[0].device
            rates = torch.cat([part._rates().to(device) for part in parts])
        return Steps(tensors, rates, all(part.spare for part in parts))

    def wide(self) -> list[Tensor]:
        """The steps themselves, in float64: the product of a rate and a float32 number is rounded once, to 53 bits."""
        return [tensor.to(torch.float64) * rate for tensor, rate in zip(self.tensors, self._rates(), strict=True)]

    def _rates(self) -> Tensor:
        if self.rates is not None:
            return self.rates
        device = self.tensors[0].device if self.tensors else None
        return torch.ones(len(self.tensors), dtype=torch.float64, device=device)


def equal_rates(tensors: Sequence[Tensor], rate: Any) -> Tensor:
    """One rate, a number or a tensor of one number, for each tensor."""
    device = tensors[0].device
    if isinstance(rate, Tensor):
        return rate.to(device=device, dtype=torch.float64).reshape(1).expand(len(tensors))
    return torch.full((len(tensors),), rate, dtype=torch.float64, device=device)


def scaled(steps: Steps, factors: Tensor | list[Tensor]) -> Steps:
    """The steps times their factors: a vector of one for each tensor, or a list of tensors that broadcast.

    A factor outside float32's range is no special case (GS-graft-range).
    """
    if isinstance(factors, Tensor):
        return Steps(steps.tensors, factors if steps.rates is None else steps.rates * factors, steps.spare)
    if not steps.tensors:
        return steps
    coarse, fine = _halves(steps, factors)
    tensors = list(steps.tensors)
    if steps.spare:
        torch._foreach_mul_(tensors, fine)
    else:
        tensors = list(torch._foreach_mul(tensors, fine))
    if coarse:
        torch._foreach_mul_(tensors, coarse)
    return Steps(tensors)


def add_scaled(weights: Sequence[Tensor], steps: Steps, factors: Tensor | list[Tensor]) -> None:
    """w <- w + factor * step; weights of 16 bits are rounded once, at the end."""
    if not steps.tensors:
        return
    if isinstance(factors, list):  # rounded before it is added, so that A#A has A's bits (GS-graft-self)
        steps, factors = scaled(steps, factors), torch.ones(len(steps.tensors), dtype=torch.float64)
    coarse, fine = _halves(steps, factors)
    tensors = steps.tensors
    if coarse and steps.spare:
        torch._foreach_mul_(tensors, coarse)
    elif coarse:
        tensors = list(torch._foreach_mul(tensors, coarse))
    if all(weight.dtype is tensor.dtype for weight, tensor in zip(weights, tensors, strict=True)):
        torch._foreach_addcmul_(list(weights), tensors, fine)
        return
    for weight, tensor, factor in zip(weights, tensors, fine, strict=True):
        weight.add_(tensor * factor)


def _halves(steps: Steps, factors: Tensor | list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Each factor, the rate in it, as a power of two and the rest, in the tensors' dtypes.

    The powers are 1 unless a factor is extreme; where it can be seen that none is, there are no powers.
    """
    if isinstance(factors, Tensor):
        products = [factors if steps.rates is None else factors * steps.rates]
    elif steps.rates is None:
        products = factors
    else:
        products = [factor * rate for factor, rate in zip(factors, steps.rates.unbind(), strict=True)]
    if _ordinary(products):
        return [], _as(products, steps.tensors)
    pairs = [_split(product) for product in products]
    return _as([coarse for coarse, _ in pairs], steps.tensors), _as([fine for _, fine in pairs], steps.tensors)


def _as(values: list[Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """A value for each tensor, in its dtype and on its device."""
    first = tensors[0]
    if len(values) == 1 and values[0].dim() == 1 and len(values[0]) == len(tensors):
        if all(tensor.dtype is first.dtype and tensor.device == first.device for tensor in tensors):
            return list(values[0].to(first).unbind())
        values = list(values[0].unbind())
    return [value.to(tensor) for value, tensor in zip(values, tensors, strict=True)]


def _split(factor: Tensor) -> tuple[Tensor, Tensor]:
    size = factor.abs()
    coarse = torch.where(size > FAR, FAR, torch.where((size < 1 / FAR) & (size > 0), 1 / FAR, 1.0))
    return coarse, factor / coarse


def _ordinary(factors: Sequence[Tensor]) -> bool:
    """Whether no factor is extreme, where looking costs nothing: on a CPU, and not while a step is being traced."""
    if torch.compiler.is_compiling() or any(factor.device.type != "cpu" for factor in factors):
        return False
    return all(1 / FAR <= abs(number) <= FAR or number == 0 for factor in factors for number in _numbers(factor))


def _numbers(factor: Tensor) -> list[float]:
    found: list[float] = factor.reshape(-1).tolist()
    return found


def graft_coordinates(m: Steps, d: Steps, eps: float, scale: float | Tensor) -> Steps:
    """The graft with a group for each coordinate: scale |m| / (|d| + eps) d, and 0 where d is 0.

    It is formed in float64, a piece at a time, and rounded once, into m's tensors, or d's, where they are spare.
    """
    home = m if m.spare else d
    targets = home.tensors if home.spare else [torch.empty_like(tensor) for tensor in d.tensors]
    for target, mine, other, rm, rd in zip(targets, m.tensors, d.tensors, m._rates(), d._rates(), strict=True):
        for out, a, b in _slabs(target, mine, other):
            length = (a.to(torch.float64) * rm).abs_()
            step = b.to(torch.float64) * rd
            size = step.abs()
            ratio = torch.where(size == 0, 0.0, length / (size + eps if eps else size))
            out.copy_(ratio.mul_(scale).mul_(step))
    return Steps(targets)


def _slabs(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same pieces of each tensor: flat on a CPU, whole elsewhere, where few large calls are better."""
    first = tensors[0]
    if first.numel() <= PIECE or first.device.type != "cpu" or not all(tensor.is_contiguous() for tensor in tensors):
        yield tensors
        return
    yield from zip(*(tensor.view(-1).split(PIECE) for tensor in tensors), strict=True)
