"""How the coordinates of a tensor fall into groups: ``global``, ``tensor``, ``axis(k)``, ``row``, ``fan_out``,
``coordinate``, ``block(n)`` and pools by name pattern (``spec/partitions.md``).

A *cut* is one tensor's share: how many groups it has, their norms, and how a value for each group is spread over the
tensor's coordinates. The groups of ``global`` and ``pattern`` are pools of tensors, so their tensors are cut whole.
A shard knows where it lies in its tensor: the groups are those of the whole tensor (GS-partition-sharding).
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from graftsim_torch.norms import norms, norms_along

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where a local part lies in its tensor."""

    shape: Shape
    local: Shape
    offset: Shape

    @property
    def whole(self) -> bool:
        return self.shape == self.local


class Cut(Protocol):
    """One tensor's groups."""

    @property
    def count(self) -> int: ...

    def norms(self, step: Tensor) -> Tensor: ...
    def spread(self, values: Tensor) -> Tensor: ...
    def labels(self, name: str) -> list[str]: ...


@dataclass(frozen=True)
class Whole:
    """One group."""

    count: int = 1

    def norms(self, step: Tensor) -> Tensor:
        return norms([step])

    def spread(self, values: Tensor) -> Tensor:
        return values.reshape(())

    def labels(self, name: str) -> list[str]:
        return [name]


@dataclass(frozen=True)
class Axis:
    """One group for each index of an axis of a tensor of rank 2 or more."""

    axis: int
    place: Place

    @property
    def count(self) -> int:
        return self.place.shape[self.axis]

    def norms(self, step: Tensor) -> Tensor:
        found = norms_along(step, self.axis)
        before = self.place.offset[self.axis]
        after = self.count - before - found.numel()
        return found if before == after == 0 else torch.nn.functional.pad(found, (before, after))

    def spread(self, values: Tensor) -> Tensor:
        local = values.narrow(0, self.place.offset[self.axis], self.place.local[self.axis])
        return local.reshape([-1 if a == self.axis else 1 for a in range(len(self.place.shape))])

    def labels(self, name: str) -> list[str]:
        axes = range(len(self.place.shape))
        return [f"{name}[{','.join(str(i) if a == self.axis else ':' for a in axes)}]" for i in range(self.count)]


@dataclass(frozen=True)
class Blocks:
    """Runs of n consecutive coordinates in C order, the last one short."""

    n: int
    place: Place

    @property
    def size(self) -> int:
        return math.prod(self.place.shape)

    @property
    def count(self) -> int:
        return -(-self.size // self.n)

    def norms(self, step: Tensor) -> Tensor:
        flat = step.reshape(-1)
        if not self.place.whole:
            flat = torch.zeros(self.size, dtype=step.dtype, device=step.device).index_copy(0, self._index(step), flat)
        lacking = self.count * self.n - self.size
        padded = torch.nn.functional.pad(flat, (0, lacking)) if lacking else flat
        return norms_along(padded.reshape(self.count, self.n), 0)

    def spread(self, values: Tensor) -> Tensor:
        if self.place.whole:
            return values.repeat_interleave(self.n, output_size=self.count * self.n)[: self.size].reshape(
                self.place.shape
            )
        return values[self._index(values) // self.n].reshape(self.place.local)

    def _index(self, like: Tensor) -> Tensor:
        """The flat index in the whole tensor of each coordinate of the local part."""
        index = torch.zeros((), dtype=torch.int64, device=like.device)
        for size, local, offset in zip(self.place.shape, self.place.local, self.place.offset, strict=True):
            index = index[..., None] * size + torch.arange(offset, offset + local, device=like.device)
        return index.reshape(-1)

    def labels(self, name: str) -> list[str]:
        return [f"{name}[{start}:{min(start + self.n, self.size)}]" for start in range(0, self.size, self.n)]


@dataclass(frozen=True)
class Partition:
    """A partition as text says it, of tensors that are given later."""

    text: str
    kind: str
    number: int = 0
    patterns: Mapping[str, Any] | None = None

    @property
    def pooled(self) -> bool:
        return self.kind in ("global", "pattern")

    def cut(self, place: Place, name: str) -> Cut:
        """The groups of one tensor; ``coordinate`` needs none, see :func:`graftsim_torch.steps.graft_coordinates`."""
        rank = len(place.shape)
        match self.kind:
            case "block":
                return Blocks(self.number, place)
            case "axis" if rank >= 2:
                if not -rank <= self.number < rank:
                    raise ValueError(
                        f"partition {self.text}: every tensor of rank 2 or more must have axis {self.number}; "
                        f"{name!r} has shape {place.shape}"
                    )
                return Axis(self.number % rank, place)
        return Whole()

    def pools(self, names: Sequence[str] | None, count: int) -> tuple[list[int], list[str]]:
        """The pool of each tensor, and the pools' names.

        Raises:
            ValueError: the parameters have no names; a name that no pool or that two pools take.
        """
        if self.patterns is None:
            return [0] * count, ["all"]
        if names is None:
            raise ValueError(
                f"partition {self.text}: the parameters must have names; pass model.named_parameters() "
                f"in place of model.parameters()"
            )
        labels = list(self.patterns)
        return [self._pool(name, labels) for name in names], labels

    def _pool(self, name: str, labels: list[str]) -> int:
        assert self.patterns is not None
        found = [label for label, globs in self.patterns.items() if globs is not None and _matches(name, globs)]
        rest = [label for label, globs in self.patterns.items() if globs is None]
        if len(found) > 1:
            raise ValueError(
                f"partition {self.text}: groups must not overlap; {name!r} is in {found[0]} and {found[1]}"
            )
        if not found and not rest:
            raise ValueError(f"partition {self.text}: groups must cover all; {name!r} is in none; add rest=None")
        return labels.index((found or rest)[0])


def _matches(name: str, globs: Any) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in ([globs] if isinstance(globs, str) else globs))


def parse(text: str) -> Partition:
    """The partition that a text names.

    ``fan_out`` is ``axis(0)``: the outputs of a linear or convolutional layer as torch stores them. A transposed
    convolution has its outputs on axis 1, which no shape tells; use ``axis(1)`` in a graft of its own.

    Raises:
        ValueError: an unknown partition, or one that needs a number that it does not have.
    """
    if text == "fan_out":
        return Partition(text, "axis", 0)
    from graftsim.partitions import call

    if not isinstance(text, str):
        raise TypeError(f"partition must be text such as 'tensor' or 'axis(0)'; received {type(text).__name__}")
    match call(text):
        case ("global" | "tensor" | "coordinate" as kind, (), {}):
            return Partition(text, kind)
        case ("row", (), {}):
            return Partition(text, "axis", 0)
        case ("axis", (int() as k,), {}):
            return Partition(text, "axis", k)
        case ("block", (int() as n,), {}) if n > 0:
            return Partition(text, "block", n)
        case ("pattern", (), patterns) if patterns and _sound(patterns):
            return Partition(text, "pattern", patterns=patterns)
    raise ValueError(
        f"partition must be one of global, tensor, axis(k), row, fan_out, coordinate, block(n), "
        f"pattern(name='glob', ..., rest=None); received {text!r}"
    )


def _sound(patterns: Mapping[str, Any]) -> bool:
    """Globs or lists of globs, and at most one None."""
    rest = sum(globs is None for globs in patterns.values())
    return rest <= 1 and all(
        globs is None or isinstance(globs, str) or (isinstance(globs, list) and all(isinstance(g, str) for g in globs))
        for globs in patterns.values()
    )
