"""Sums of squares of large arrays on one CPU, in one pass over both children's steps.

XLA on CPU adds the terms of a float64 sum one after the other, each waiting for the last, and fuses what makes an array
into its sum, where neither is vectorised. Here the halves of all arrays are summed side by side, so that no addition
waits, and the last numbers are summed apart. This second reader makes XLA write out, once and vectorised, what is dear
to compute (Adam's quotient), while what is cheap (SGD's product) is computed where it is read.

Only on one device: the halves of a sharded array would have to be moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LEAST = 2**12
"""From this size on it pays."""


def pays(arrays: Sequence[jax.Array]) -> bool:
    """Whether these arrays, of one shape, are to be summed by halves.

    float64 arrays are not: the rounding of a long sum in one order, at most n 2^-54 of it, is nothing beside float32's
    2^-24, but much beside their own.
    """
    return (
        arrays[0].size >= LEAST
        and all(x.dtype != np.float64 for x in arrays)
        and jax.default_backend() == "cpu"
        and jax.device_count() == 1
    )


def squares(arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """The float64 sum of squares of each array; all have one size. 64-bit values must be on."""
    half = (arrays[0].size - 1) // 2
    flat = [x.reshape(-1) for x in arrays]
    parts = [_square(part) for x in flat for part in (x[:half], x[half : 2 * half])]
    nothing = (np.float64(0),) * len(parts)
    found = cast(tuple[jax.Array, ...], lax.reduce(tuple(parts), nothing, _add, (0,)))
    return [
        first + second + jnp.sum(_square(x[2 * half :]))
        for x, first, second in zip(flat, found[::2], found[1::2], strict=True)
    ]


def _square(x: jax.Array) -> jax.Array:
    size = lax.convert_element_type(jnp.abs(x), np.float64)
    return size * size


def _add(a: Any, b: Any) -> tuple[Any, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))
