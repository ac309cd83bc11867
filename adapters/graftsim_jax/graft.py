"""M#D for optax: the length of one transformation's step, the direction of another's, group by group."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from graftsim_jax import partitions
from graftsim_jax.norms import Axis, norms, wide
from graftsim_jax.partitions import Groups, Partition, Tree


class GraftInfo(NamedTuple):
    """What a graft did in its last step; nothing reads it back.

    Each part has one value for each group: a dict by name where groups pool leaves (``global``, patterns, labels), else
    a tree like the parameters, whose leaves have shape () for ``tensor``, (n_k,) along an axis, (blocks,), or the
    leaf's own shape for ``coordinate``. The dtype is JAX's default float.
    """

    magnitude_norm: Tree
    direction_norm: Tree
    ratio: Tree
    """The multiplier that was used, without the scale: 0 where the direction is zero."""


class GraftState(NamedTuple):
    """The state of a graft: its children's, the number of steps done, and the last step's info."""

    magnitude: optax.OptState
    direction: optax.OptState
    count: jax.Array
    info: GraftInfo


def graft(
    magnitude: optax.GradientTransformation,
    direction: optax.GradientTransformation,
    *,
    partition: Partition = "tensor",
    eps: float | jax.Array = 0.0,
    scale: float | jax.Array | Callable[[jax.Array], Any] = 1.0,
    axis_name: Axis = None,
) -> optax.GradientTransformationExtraArgs:
    """Learning-rate grafting, M#D: magnitude's step length in direction's direction.

    In each group of the partition, with m and d the updates of the two transformations on the same gradients::

        ratio = |m| / (|d| + eps), and 0 where |d| = 0
        update = scale * ratio * d

    Norms, ratio and their product with d are float64 inside the step, also for bfloat16 and float32 leaves and where
    JAX's 64-bit mode is off; the update has d's dtype. Nothing overflows or vanishes on the way, and gradients that are
    taken through the update are finite at zero norms. The rules are in ``spec/grafting.md``.

    Args:
        magnitude: whose step length counts; keeps its learning rate and schedule.
        direction: whose direction counts; its learning rate cannot be seen in the update. 1 is the advice.
        partition: over which coordinates norms are taken: ``"tensor"``, ``"global"``, ``"row"``, ``"axis(k)"``,
            ``"fan_out"`` (the last axis), ``"coordinate"``, ``"block(n)"``, ``"pattern(name='glob', rest=None)"`` over
            names such as ``dense.bias``; or a pytree of labels as for ``optax.partition``, or a function that makes it.
        eps: added to the direction's norm; 0 is the 2021 paper's rule, positive the 2020 paper's Algorithm 2.
        scale: one more factor, at least 0; a number or a schedule of the number of steps done.
        axis_name: mapped axes over which *every* leaf is sharded under ``shard_map`` or ``pmap``. Leave it None for
            replicated parameters, and for sharded arrays under ``jit``, where norms are those of whole arrays anyhow.
            Replicated leaves beside sharded ones are refused where JAX tells them apart: under ``shard_map`` unless
            ``check_vma=False``.

    Raises:
        TypeError: a child is no transformation, or a leaf is not real and floating.
        ValueError: an unknown or unfitting partition, a negative eps or scale, a replicated leaf beside sharded ones.

    Source: Agarwal et al., "Learning Rate Grafting" (2021), Algorithm 1, and "Disentangling Adaptive Gradient Methods
    from Learning Rates" (2020), Algorithm 2.
    """
    of_m, of_d = (_child(name, given) for name, given in (("magnitude", magnitude), ("direction", direction)))
    partitions.check(partition)
    _not_negative("eps", eps)
    _not_negative("scale", scale)

    def init(params: Tree) -> GraftState:
        groups = _groups(partition, params, axis_name)
        views = [cut.view(leaf) for cut, leaf in zip(groups.cuts, jax.tree.leaves(params), strict=True)]
        shapes = jax.eval_shape(lambda leaves: norms(groups, None, leaves)[0], views)
        nothing = [jnp.zeros(shape.shape, float) for shape in shapes]
        info = GraftInfo(*(groups.arrange(list(nothing), params) for _ in GraftInfo._fields))
        return GraftState(of_m.init(params), of_d.init(params), jnp.zeros((), jnp.int32), info)

    def update(updates: Tree, state: GraftState, params: Tree | None = None, **extra: Any) -> tuple[Tree, GraftState]:
        m, state_m = of_m.update(updates, state.magnitude, params, **extra)
        d, state_d = of_d.update(updates, state.direction, params, **extra)
        factor = scale(state.count) if callable(scale) else scale
        grafted, info = apply(_groups(partition, d, axis_name), m, d, eps, factor, axis_name)
        return grafted, GraftState(state_m, state_d, optax.safe_increment(state.count), info)

    return optax.GradientTransformationExtraArgs(init, update)


def apply(groups: Groups, m: Tree, d: Tree, eps: Any, scale: Any, axis: Axis) -> tuple[Tree, GraftInfo]:
    """The grafted update of two updates, and what to record of it."""
    leaves = jax.tree.leaves(d)
    _all_sharded(d, axis)
    of_m, of_d = (
        [cut.view(leaf) for cut, leaf in zip(groups.cuts, side, strict=True)] for side in (jax.tree.leaves(m), leaves)
    )
    n_m, n_d = norms(groups, axis, of_m, of_d)
    with jax.enable_x64(True):
        ratios = tuple(_ratio(a, b, wide(eps)) for a, b in zip(n_m, n_d, strict=True))
        factors = [wide(scale) * ratio for ratio in ratios]
        moved = [
            (cut.spread(factors[piece], view.shape) * wide(view)).astype(view.dtype)
            for view, cut, piece in zip(of_d, groups.cuts, groups.pieces, strict=True)
        ]
    moved = [cut.unview(view, leaf.shape) for view, cut, leaf in zip(moved, groups.cuts, leaves, strict=True)]
    recorded = (groups.arrange([_recorded(piece) for piece in pieces], d) for pieces in (n_m, n_d, ratios))
    return jax.tree.unflatten(jax.tree.structure(d), moved), GraftInfo(*recorded)


def _ratio(n_m: jax.Array, n_d: jax.Array, eps: jax.Array) -> jax.Array:
    """0 where the direction is zero, whatever the magnitude is; the inner ``where`` keeps its derivative finite."""
    zero = n_d == 0
    return jnp.where(zero, 0.0, n_m / jnp.where(zero, 1.0, n_d + eps))


def _recorded(value: jax.Array) -> jax.Array:
    return lax.stop_gradient(value).astype(jnp.result_type(float))


def _child(name: str, given: Any) -> optax.GradientTransformationExtraArgs:
    if not (callable(getattr(given, "init", None)) and callable(getattr(given, "update", None))):
        raise TypeError(f"{name} must be an optax transformation such as optax.adam(1e-3); received {given!r}")
    return optax.with_extra_args_support(given)


def _not_negative(name: str, value: Any) -> None:
    number = isinstance(value, numbers.Real | np.generic)
    if number and not (value >= 0 and np.isfinite(value)):
        raise ValueError(f"{name} must be at least 0 and finite; received {value}")


def check_leaves(tree: Tree) -> None:
    """Raise TypeError unless every leaf is real and floating."""
    for name, leaf in zip(partitions.names_of(tree), jax.tree.leaves(tree), strict=True):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"leaves must be real and floating; {name!r} is {jnp.result_type(leaf)}: leave it out with "
                "optax.masked or optax.partition"
            )


def _all_sharded(tree: Tree, axis: Axis) -> None:
    """Refuse a tree of which some leaves vary over a mapped axis and others do not: a sum would count those twice."""
    for name in (axis,) if isinstance(axis, str) else axis or ():
        varies = [name in _varying(leaf) for leaf in jax.tree.leaves(tree)]
        if any(varies) and not all(varies):
            leaf = partitions.names_of(tree)[varies.index(False)]
            raise ValueError(
                f"axis_name={name!r}: every leaf must be sharded over it; {leaf!r} is replicated: graft sharded and "
                "replicated leaves apart with optax.partition, or use sharded arrays under jit"
            )


def _varying(leaf: Any) -> frozenset[str]:
    """The mapped axes over which JAX knows a value to vary; releases before 0.10 have them as ``vma``."""
    kind = jax.typeof(leaf)
    manual = getattr(kind, "manual_axis_type", None)
    return frozenset(getattr(kind, "vma", ()) if manual is None else manual.varying)


def _groups(partition: Partition, tree: Tree, axis: Axis) -> Groups:
    """The groups of a tree that can be grafted."""
    check_leaves(tree)
    groups = partitions.groups_of(partition, tree)
    if axis is not None and groups.pooled is None and partition not in ("tensor", "coordinate"):
        raise ValueError(
            "axis_name goes with coordinate and with groups of whole leaves (global, tensor, pattern, labels); "
            f"received {partition!r}: use sharded arrays under jit, where it works"
        )
    return groups
