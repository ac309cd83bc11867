"""Learning-rate corrections: numbers per group, discovered by a graft and then used without it.

A file of corrections is YAML, with a factor for each group of a partition::

    partition: tensor
    factors:
      dense.bias: 12.5
      dense.kernel: 0.75

The 2021 paper, section 5: the medians over the first steps of Adam#SGD, layer by layer, let SGD alone train a
transformer that it cannot train otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from graftsim import documents
from graftsim.errors import nearest
from graftsim.trajectory import Trajectory
from graftsim_jax.graft import check_leaves
from graftsim_jax.norms import wide
from graftsim_jax.partitions import Partition, Tree, check, group_names, groups_of


def discover(trajectory: Trajectory, steps: int | None = None) -> dict[str, float]:
    """For each group the median over recorded steps of |m| / |d|, where the direction was not zero.

    Args:
        trajectory: the record of a run of a graft, whose info has ``n_m`` and ``n_d``.
        steps: only recorded steps up to this number; all by default.

    Raises:
        ValueError: a group has no step with a direction and finite norms: it has no correction.
    """
    if not {"n_m", "n_d"} <= trajectory.info.keys():
        raise ValueError(
            f"corrections are discovered from the record of a graft; received info {list(trajectory.info)}"
        )
    rows = trajectory.steps[1:] <= (math.inf if steps is None else steps)
    n_m, n_d = trajectory.info["n_m"][rows], trajectory.info["n_d"][rows]
    found = {}
    for name, lengths, directions in zip(trajectory.meta.groups["n_m"], n_m.T, n_d.T, strict=True):
        used = (directions > 0) & np.isfinite(directions) & np.isfinite(lengths)
        if not used.any():
            raise ValueError(f"group {name!r} must have a step whose direction is not zero; it has none in this record")
        found[name] = float(np.median(lengths[used] / directions[used]))
    return found


def save_corrections(path: str | Path, factors: Mapping[str, float], partition: str = "tensor") -> None:
    """Write a file of corrections, atomically. Factors are written with all their digits."""
    check(partition)
    lines = [f"partition: {_quoted(partition)}", "factors:"]
    lines += [f"  {_quoted(name)}: {_checked(name, value, str(path))!r}" for name, value in factors.items()]
    documents.write_atomically(Path(path), lambda file: file.write(("\n".join(lines) + "\n").encode()))


def corrections(source: str | Path | Mapping[str, float], partition: Partition | None = None) -> Any:
    """A transformation that multiplies the update of each group by its factor.

    Put it behind the optimizer that it corrects: ``optax.chain(optax.sgd(1.0), corrections("corrections.yaml"))``.
    The product is formed in float64 and rounded once to the update's dtype, as in the spec's machine ``scaled``.

    Args:
        source: a file of corrections, or a mapping from names of groups to factors.
        partition: the groups; the file's by default, ``tensor`` for a mapping. Pytrees of labels go here.

    Raises:
        ValueError: a file that is not as it should be, a factor that is not finite or below 0; and at ``init`` or
            ``update``, groups that are not exactly those of the parameters.
    """
    where = "corrections" if isinstance(source, Mapping) else str(source)
    document = {"factors": source} if isinstance(source, Mapping) else documents.read_yaml(Path(source))
    factors = _factors(document, where)
    chosen = document.get("partition", "tensor") if partition is None else partition
    check(chosen)

    def of_groups(tree: Tree) -> np.ndarray[Any, np.dtype[np.float64]]:
        check_leaves(tree)
        names = group_names(chosen, tree)
        odd = sorted(set(names).symmetric_difference(factors))
        if odd:
            known = names if odd[0] in factors else factors
            kind = "is no group" if odd[0] in factors else "has no factor"
            raise ValueError(
                f"{where}: there must be one factor for each group; {odd[0]!r} {kind}{nearest(odd[0], known)}"
            )
        return np.array([factors[name] for name in names], np.float64)

    def init(params: Tree) -> optax.EmptyState:
        of_groups(params)
        return optax.EmptyState()

    def update(updates: Tree, state: Any, params: Tree | None = None, **extra: Any) -> tuple[Tree, Any]:
        del params, extra
        leaves, values, groups = jax.tree.leaves(updates), of_groups(updates), groups_of(chosen, updates)
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


def _factors(document: Any, where: str) -> dict[str, float]:
    known = {"partition", "factors"}
    if not isinstance(document, Mapping) or not isinstance(document.get("factors"), Mapping) or set(document) - known:
        raise ValueError(f"{where}: a file of corrections must have the keys partition and factors, a number per group")
    if not isinstance(document.get("partition", "tensor"), str):
        raise ValueError(f"{where}: partition must be text such as tensor; received {document['partition']!r}")
    return {str(name): _checked(name, value, where) for name, value in document["factors"].items()}


def _checked(name: Any, value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(
            f"{where}: the factor of {name!r} must be a finite number that is at least 0; received {value!r}"
        )
    return float(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
