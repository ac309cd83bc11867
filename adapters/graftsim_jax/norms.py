"""Norms of the groups of a pytree, in float64 also where JAX's 64-bit mode is off.

The squares of float32, float16 and bfloat16 numbers neither overflow nor vanish in float64, so one pass over memory and
one sum a group suffice. Only float64 leaves need more: their squares are summed at three scales, and the sum that
stayed in range counts. All three are sums, so one all-reduce carries them. Nothing but float64 *intermediate* values
comes of this: what enters and leaves a step keeps its dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from graftsim_jax import halves
from graftsim_jax.partitions import Cut, Groups

Arrays = Sequence[jax.Array]
Axis = str | tuple[str, ...] | None

LOW, HIGH = 2.0**625, 2.0**-514
"""At these scales the squares of the smallest and of the largest float64 numbers are in range."""

SMALL, LARGE = 2.0**-400, 2.0**400
"""Numbers that count at the scale LOW are at most SMALL, at HIGH at least LARGE: with one above SMALL the plain sum is
trusted, and where that sum overflows what lies below LARGE is nothing beside it."""

TRUSTED = 2.0**-930
"""A plain sum of squares above it has lost less to underflow than to rounding, for up to 2^38 terms: each loses at
most 2^-1022, where subnormal numbers are flushed."""


def wide(x: Any) -> jax.Array:
    """x in float64. To be called, as all of this module, where 64-bit values are on: ``jax.enable_x64(True)``."""
    return lax.convert_element_type(x, np.float64)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def norms(groups: Groups, axis: Axis, *sides: Arrays) -> tuple[tuple[jax.Array, ...], ...]:
    """The norms of each side's groups, piece by piece, in float64.

    The norms of both children are one call, so that mapped code has one ``psum`` for both, which XLA makes one
    all-reduce. The derivative of a norm at zero is taken as 0, so no NaN enters gradients through an optimizer.

    Args:
        groups: the groups of one tree.
        axis: mapped axes over which every leaf is sharded, as in ``lax.psum``; None for none.
        sides: for each side the leaves of one tree, viewed by their cuts.
    """
    with jax.enable_x64(True):
        if groups.single:
            return tuple(tuple(jnp.abs(wide(leaf)) for leaf in leaves) for leaves in sides)
        if all(leaf.dtype != np.float64 for leaves in sides for leaf in leaves):
            by_leaf = [_squares(cut, leaves) for cut, *leaves in zip(groups.cuts, *sides, strict=True)]
            totals = [[of_sides[i] for of_sides in by_leaf] for i in range(len(sides))]
            return _each(jnp.sqrt, _pooled(groups, axis, totals))
        scaled = [[_square(scale(x)) for x in map(wide, leaves)] for scale in SCALES for leaves in sides]
        found, n = sums(groups, axis, scaled), len(sides)
        return tuple(tuple(map(_root, *found[side::n])) for side in range(n))


def _derivative(groups: Groups, axis: Axis, primals: Any, tangents: Any) -> Any:
    """dn = sum of (x / n) dx, where n is not 0."""
    found = norms(groups, axis, *primals)
    with jax.enable_x64(True):
        terms = [
            [
                wide(dx) * _over(wide(x), cut.spread(values[piece], x.shape))
                for x, dx, cut, piece in zip(leaves, moves, groups.cuts, groups.pieces, strict=True)
            ]
            for leaves, moves, values in zip(primals, tangents, found, strict=True)
        ]
        return found, sums(groups, axis, terms)


norms.defjvp(_derivative)


def _squares(cut: Cut, sides: Sequence[jax.Array]) -> list[jax.Array]:
    """The sums of squares of one leaf's groups, for each side."""
    if cut.whole(sides[0].shape) and halves.pays(sides):
        return halves.squares(sides)
    return [cut.total(_square(x)) for x in sides]


def _square(x: jax.Array) -> jax.Array:
    """The square, of |x|: XLA would take wide(x) for one value with that of the product later, and write it out."""
    size = wide(jnp.abs(x))
    return size * size


def _low(x: jax.Array) -> jax.Array:
    """x at the scale LOW. The choice is also what keeps XLA from squaring x and LOW each for itself, which it does for
    an array of one number."""
    return jnp.where(jnp.abs(x) > SMALL, 0.0, x * LOW)


def _high(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(x) < LARGE, 0.0, x * HIGH)


SCALES = (_low, lambda x: x, _high)


def _over(x: jax.Array, norm: jax.Array) -> jax.Array:
    return jnp.where(norm == 0, 0.0, x / jnp.where(norm == 0, 1.0, norm))


def _root(low: jax.Array, middle: jax.Array, high: jax.Array) -> jax.Array:
    """The root of that sum of squares which stayed in range; NaN and infinity come out of the last."""
    small = jnp.where(middle > TRUSTED, jnp.sqrt(middle), jnp.sqrt(low) / LOW)
    return jnp.where(middle < np.inf, small, jnp.sqrt(high) / HIGH)


def _each(function: Any, sides: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(map(function, pieces)) for pieces in sides)


def sums(groups: Groups, axis: Axis, sides: Sequence[Sequence[jax.Array]]) -> tuple[tuple[jax.Array, ...], ...]:
    """The sums of each side's groups, piece by piece."""
    totals = [[cut.total(x) for cut, x in zip(groups.cuts, leaves, strict=True)] for leaves in sides]
    return _pooled(groups, axis, totals)


def _pooled(groups: Groups, axis: Axis, sides: Sequence[Sequence[jax.Array]]) -> tuple[tuple[jax.Array, ...], ...]:
    """The pieces of each side, of the sums of its leaves."""
    found = []
    for totals in sides:
        pieces: list[Any] = [None] * groups.count
        for total, piece in zip(totals, groups.pieces, strict=True):
            pieces[piece] = total if pieces[piece] is None else pieces[piece] + total
        found.append(tuple(jnp.zeros((), np.float64) if piece is None else piece for piece in pieces))
    if axis is None or groups.single or not groups.count:
        return tuple(found)
    return cast(tuple[tuple[jax.Array, ...], ...], lax.psum(tuple(found), axis))
