"""Where the coordinates of named tensors lie in one flat array: tensor after tensor, each in C order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors of a model, in order.

    >>> Layout.of({"w": (2, 3), "b": ()}).size
    7
    """

    tensors: tuple[tuple[str, Shape], ...]

    @staticmethod
    def of(shapes: Mapping[str, Sequence[int]]) -> Layout:
        """From a mapping of names to shapes."""
        layout = Layout(tuple((str(name), tuple(int(n) for n in shape)) for name, shape in shapes.items()))
        for name, shape in layout.tensors:
            if any(n < 0 for n in shape):
                raise GraftsimError(f"tensor {name!r}: a shape has no negative sizes; received {shape}")
        return layout

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.tensors)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        return tuple(shape for _, shape in self.tensors)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(math.prod(shape) for shape in self.shapes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor begins, and at last where all end."""
        return tuple(int(n) for n in np.cumsum([0, *self.sizes]))

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return self.offsets[-1]

    def slices(self) -> Iterator[tuple[str, Shape, slice]]:
        """Name, shape and place of each tensor."""
        for (name, shape), start, size in zip(self.tensors, self.offsets, self.sizes, strict=False):
            yield name, shape, slice(start, start + size)

    def where(self, coordinate: int) -> str:
        """A coordinate's name for people: ``w[1,2]``."""
        for name, shape, place in self.slices():
            if place.start <= coordinate < place.stop:
                index = ",".join(str(int(i)) for i in np.unravel_index(coordinate - place.start, shape))
                return f"{name}[{index}]" if shape else name
        raise IndexError(coordinate)

    def flatten(self, arrays: Iterable[Any], dtype: Any) -> Array:
        """One flat array from one array a tensor; shapes and dtypes must agree.

        Raises:
            GraftsimError: a shape or dtype differs, or there are more or fewer arrays than tensors.
        """
        given = [np.asarray(array) for array in arrays]
        if len(given) != len(self.tensors):
            raise GraftsimError(
                f"there must be one array for each of {len(self.tensors)} tensors; received {len(given)}"
            )
        for array, (name, shape) in zip(given, self.tensors, strict=True):
            if array.shape != shape:
                raise GraftsimError(f"tensor {name!r} must have shape {shape}; received {array.shape}")
            if array.dtype != dtype:
                raise GraftsimError(f"tensor {name!r} must have dtype {np.dtype(dtype)}; received {array.dtype}")
        return np.concatenate([array.reshape(-1) for array in given]) if given else np.zeros(0, dtype)

    def unflatten(self, flat: Array) -> list[Array]:
        """One array a tensor, each a view into ``flat``."""
        return [flat[place].reshape(shape) for _, shape, place in self.slices()]
