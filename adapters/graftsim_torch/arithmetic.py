"""The arithmetic of programs on flat torch tensors: coordinates in the working dtype, all else in float64.

It follows ``spec/arithmetic.md`` operation by operation on one device; norms are summed in the library's order, so a
step is the reference's within its error bound, not to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graftsim.program import Kind, Node, Program, Rank, Reduction, blocks
from graftsim_torch.norms import norms, power_of_two

Index = NDArray[np.int64]


class Arithmetic:
    """What :func:`graftsim.interpreter.interpret` needs to know of values: each is a flat tensor."""

    def __init__(self, program: Program, dtype: torch.dtype, device: torch.device) -> None:
        self.layout, self.dtype, self.device = program.layout, dtype, device
        self._indices: dict[int, tuple[Index, Tensor]] = {}

    def constant(self, values: NDArray[Any], kind: Kind) -> Tensor:
        dtype = self.dtype if kind.rank >= Rank.COORDINATE else torch.float64
        return torch.tensor(values, dtype=dtype, device=self.device)

    def apply(self, operator: str, arguments: list[Tensor], kind: Kind) -> Tensor:
        found = OPERATIONS[operator](*arguments)
        return found.to(self.dtype) if operator.endswith("_wide") else found

    def lift(self, value: Tensor, index: Index) -> Tensor:
        return value[self.index(index)]

    def expand(self, value: Tensor, kind: Kind, rounded: bool) -> Tensor:
        value = value.to(self.dtype) if rounded else value
        return value if kind.partition.key == "global" else value[self.index(kind.partition.group_of)]

    def spread(self, value: Tensor, index: Index) -> Tensor:
        return value[self.index(index)].to(self.dtype)

    def matrix(self, node: Node, arguments: list[Tensor]) -> Tensor:
        """Matrix by matrix in float64, rounded once (GS-matrix-equivalent)."""
        wides = [
            self._matrices(value.to(torch.float64), argument.kind)
            for value, argument in zip(arguments, node.arguments, strict=True)
            if argument.kind.rank is Rank.MATRIX
        ]
        match node.operator:
            case "matmul":
                found = [a @ b for a, b in zip(*wides, strict=True)]
            case "transpose":
                found = [a.T for a in wides[0]]
            case _:
                found = [matrix_power(a, arguments[1], arguments[2]) for a in wides[0]]
        return torch.cat([part.reshape(-1) for part in found]).to(self.dtype)

    def _matrices(self, value: Tensor, kind: Kind) -> list[Tensor]:
        shapes = blocks(self.layout, kind.shape)
        parts = value.broadcast_to((kind.count(self.layout),)).split([a * b for a, b in shapes])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def reduce(self, asked: list[tuple[Reduction, list[Tensor]]], present: NDArray[np.bool_]) -> list[Tensor]:
        mask = None if present.all() else torch.from_numpy(present).to(self.device)
        return [self._reduced(reduction, values, mask) for reduction, values in asked]

    def _reduced(self, reduction: Reduction, values: list[Tensor], mask: Tensor | None) -> Tensor:
        full = [value.broadcast_to((self.layout.size,)) for value in values]
        full = full if mask is None else [torch.where(mask, value, 0) for value in full]
        if reduction.operator == "norm":
            return self._norms(full[0], reduction)
        product = full[0].to(torch.float64)
        return self._sums(product * full[1] if reduction.operator == "dot" else product, reduction)

    def _norms(self, x: Tensor, reduction: Reduction) -> Tensor:
        match reduction.partition.key:
            case "global":
                return norms([x])
            case "tensor":
                return norms(x.split(list(self.layout.sizes)))
        if reduction.partition.single:
            return x.abs().to(torch.float64)
        index, count = self.index(reduction.partition.group_of), reduction.partition.count
        wide = x.to(torch.float64)
        zeros = torch.zeros(count, dtype=torch.float64, device=self.device)
        scale = power_of_two(zeros.scatter_reduce(0, index, wide.abs(), "amax"))
        scaled = wide * scale[index]
        return torch.sqrt(zeros.index_add(0, index, scaled * scaled)) / scale

    def _sums(self, x: Tensor, reduction: Reduction) -> Tensor:
        match reduction.partition.key:
            case "global":
                return x.sum().reshape(1)
            case "tensor":
                return torch.stack([part.sum() for part in x.split(list(self.layout.sizes))])
        zeros = torch.zeros(reduction.partition.count, dtype=torch.float64, device=self.device)
        return zeros.index_add(0, self.index(reduction.partition.group_of), x)

    def choose(self, mask: NDArray[np.bool_], new: Tensor, old: Tensor) -> Tensor:
        return torch.where(torch.from_numpy(mask).to(self.device), new, old)

    def index(self, array: Index) -> Tensor:
        """An index of the program as a tensor, made once."""
        if id(array) not in self._indices:
            self._indices[id(array)] = (array, torch.from_numpy(np.ascontiguousarray(array)).to(self.device))
        return self._indices[id(array)][1]


def matrix_power(matrix: Tensor, exponent: Tensor, cutoff: Tensor) -> Tensor:
    """A^p of a symmetric matrix over the eigenvalues above 0 and above ``cutoff`` times the largest; NaN comes through.

    An eigenvalue solver that is handed NaN raises, so it gets zeros in their place.
    """
    if matrix.numel() == 0:
        return matrix
    finite = torch.isfinite(matrix).all()
    values, vectors = torch.linalg.eigh(torch.where(finite, (matrix + matrix.T) / 2, 0.0))
    kept = values > cutoff * values[-1].clamp(min=0)
    powers = torch.where(kept, torch.where(kept, values, 1.0) ** exponent, 0.0)
    return torch.where(finite, (vectors * powers) @ vectors.T, math.nan)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b == 0, torch.where(torch.isfinite(a), 0.0, math.nan).to(a.dtype), a / b)


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition != 0, a, b)


def _cospi(a: Tensor, n: Tensor) -> Tensor:
    return torch.where(n > 0, torch.cos(math.pi * (torch.remainder(a, 2 * n) / n)), math.nan)


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "where": _where,
    "max": lambda a, b: torch.where((a < b) | (b != b), b, a),
    "min": lambda a, b: torch.where((b < a) | (b != b), b, a),
    "sign": lambda x: torch.where(x > 0, 1, torch.where(x < 0, -1, x)).to(x.dtype),
    "quotient": _quotient,
    "mul_wide": lambda a, b: a.to(torch.float64) * b.to(torch.float64),
    "div_wide": lambda a, b: a.to(torch.float64) / b.to(torch.float64),
    "quotient_wide": lambda a, b: _quotient(a.to(torch.float64), b.to(torch.float64)),
    "pow": torch.pow,
    "one_minus_pow": lambda b, t: 1 - torch.pow(b, t),
    "exp": torch.exp,
    "cospi": _cospi,
    "rpow": torch.pow,
    "floordiv": lambda a, n: torch.floor(a / n),
}
"""What each operator of a program does, on flat tensors of one dtype."""
