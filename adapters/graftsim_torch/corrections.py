"""Learning-rate corrections: numbers per group, discovered by a graft and then used without it.

A file of corrections is YAML, with a factor for each group of a partition, here in the names of a torch model::

    partition: tensor
    factors:
      head.bias: 12.5
      head.weight: 0.75

The 2021 paper, section 5: the medians over the first steps of Adam#SGD, layer by layer, let SGD alone train a
transformer that it cannot train otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from graftsim import documents
from graftsim.errors import nearest
from graftsim.trajectory import Trajectory
from graftsim_torch import partitions


def discover(trajectory: Trajectory, steps: int | None = None) -> dict[str, float]:
    """For each group the median over recorded steps of |m| / |d|, where the direction was not zero.

    Args:
        trajectory: the record of a run of a graft, whose info has ``n_m`` and ``n_d``.
        steps: only recorded steps up to this number; all by default.

    Raises:
        ValueError: a group has no step with a direction and finite norms: it has no correction.
    """
    if not {"n_m", "n_d"} <= trajectory.info.keys():
        raise ValueError(f"corrections are discovered from the record of a graft; received {list(trajectory.info)}")
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
    lines = [f"partition: {_quoted(partitions.parse(partition).text)}", "factors:"]
    lines += [f"  {_quoted(name)}: {_checked(name, value, str(path))!r}" for name, value in factors.items()]
    documents.write_atomically(Path(path), lambda file: file.write(("\n".join(lines) + "\n").encode()))


def corrections(
    named_parameters: Iterable[tuple[str, Tensor]], source: str | Path | Mapping[str, float], lr: float
) -> list[dict[str, Any]]:
    """Param groups for a plain optimizer, each with ``lr`` times its factor.

    ``SGD(corrections(model.named_parameters(), "corrections.yaml", lr=1.0), momentum=0.9)`` then takes every step at
    the corrected length, as long as its step is ``lr`` times something else; schedulers multiply all groups alike.

    Args:
        named_parameters: what ``model.named_parameters()`` returns.
        source: a file of corrections, or a mapping from names to factors, one for each tensor.
        lr: the learning rate that the factors multiply.

    Raises:
        ValueError: a file that is not as it should be, a factor that is not finite or below 0, groups that are not
            exactly those of the parameters, or a partition that divides a tensor.
    """
    named, where = list(named_parameters), "corrections" if isinstance(source, Mapping) else str(source)
    document: Any = {"factors": source} if isinstance(source, Mapping) else documents.read_yaml(Path(source))
    factors = _factors(document, where)
    partition = partitions.parse(document.get("partition", "tensor"))
    names = [name for name, _ in named]
    if partition.kind == "tensor":
        groups = names
    elif partition.pooled:
        pools, labels = partition.pools(names, len(names))
        groups = [labels[pool] for pool in pools]
    else:
        raise ValueError(
            f"{where}: a learning rate belongs to whole tensors, so the partition must be tensor, global or a "
            f"pattern; received {partition.text}"
        )
    odd = sorted(set(groups).symmetric_difference(factors))
    if odd:
        kind = "is no group" if odd[0] in factors else "has no factor"
        known = groups if odd[0] in factors else factors
        raise ValueError(f"{where}: there must be one factor for each group; {odd[0]!r} {kind}{nearest(odd[0], known)}")
    return [
        {"params": [pair for pair, group in zip(named, groups, strict=True) if group == name], "lr": lr * factor}
        for name, factor in factors.items()
    ]


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
