"""Learning-rate corrections as a transformation; see :mod:`graftsim.corrections`.

Groups have the names of a partition's groups of the parameters::

    partition: tensor
    factors:
      dense.bias: 12.5
      dense.kernel: {c: 0.75, alpha: -0.27}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from graftsim import corrections as files
from graftsim.corrections import Given
from graftsim.corrections import discover as discover
from graftsim_jax.graft import check_leaves
from graftsim_jax.norms import wide
from graftsim_jax.partitions import Partition, Tree, check, group_names, groups_of


def save_corrections(path: str | Path, factors: Mapping[str, Given], partition: str = "tensor") -> None:
    """Write a file of corrections, atomically. Factors are written with all their digits."""
    check(partition)
    files.save(path, factors, partition)


def corrections(source: str | Path | Mapping[str, Given], partition: Partition | None = None) -> Any:
    """A transformation that multiplies the update of each group by its factor.

    Put it behind the optimizer that it corrects: ``optax.chain(optax.sgd(1.0), corrections("corrections.yaml"))``.
    The product is formed in float64 and rounded once to the update's dtype, as in the spec's machine ``corrected``.
    Where a factor changes from step to step, the state counts the steps; constants need no state.

    Args:
        source: a file of corrections, or a mapping from names of groups to factors.
        partition: the groups; the file's by default, ``tensor`` for a mapping. Pytrees of labels go here.

    Raises:
        ValueError: a file that is not as it should be, a factor that is not finite or below 0; and at ``init`` or
            ``update``, groups that are not exactly those of the parameters.
    """
    found = files.read(source)
    chosen = found.partition if partition is None else partition
    check(chosen)

    def of_groups(tree: Tree) -> np.ndarray[Any, np.dtype[np.float64]]:
        check_leaves(tree)
        names = group_names(chosen, tree)
        found.check_groups(names)
        return found.table(names)

    def init(params: Tree) -> optax.OptState:
        of_groups(params)
        return optax.EmptyState() if found.constant else optax.ScaleByScheduleState(jnp.zeros([], jnp.int32))

    def update(updates: Tree, state: Any, params: Tree | None = None, **extra: Any) -> tuple[Tree, Any]:
        del params, extra
        table = of_groups(updates)
        if not found.constant:
            with jax.enable_x64(True):
                values = _at(table, wide(state.count) + 1)
            state = optax.ScaleByScheduleState(optax.safe_increment(state.count))
        else:
            values = table[0]
        leaves, groups = jax.tree.leaves(updates), groups_of(chosen, updates)
        views = [cut.view(leaf) for cut, leaf in zip(groups.cuts, leaves, strict=True)]
        with jax.enable_x64(True):
            pieces = groups.split(wide(values), [leaf.shape for leaf in leaves])
            moved = [
                (cut.spread(pieces[piece], view.shape) * wide(view)).astype(view.dtype)
                for view, cut, piece in zip(views, groups.cuts, groups.pieces, strict=True)
            ]
        moved = [cut.unview(view, leaf.shape) for view, cut, leaf in zip(moved, groups.cuts, leaves, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(updates), moved), state

    return optax.GradientTransformationExtraArgs(init, update)


def _at(table: np.ndarray[Any, np.dtype[np.float64]], step: jax.Array) -> jax.Array:
    """The factors of all groups at a step, in float64: the larger of c0 + c1 t + c t^alpha and 0."""
    c0, c1, c, alpha = map(wide, table)
    return jnp.maximum(c0 + c1 * step + c * step**alpha, 0.0)
