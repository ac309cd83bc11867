"""Learning-rate corrections as param groups for a plain optimizer; see :mod:`graftsim.corrections`.

Groups have the names of a torch model::

    partition: tensor
    factors:
      head.bias: 12.5
      head.weight: 0.75
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from graftsim import corrections as files
from graftsim.corrections import discover as discover
from graftsim_torch import partitions


def save_corrections(path: str | Path, factors: Mapping[str, float], partition: str = "tensor") -> None:
    """Write a file of corrections, atomically. Factors are written with all their digits."""
    files.save(path, factors, partitions.parse(partition).text)


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
    named, found = list(named_parameters), files.read(source)
    names, partition = [name for name, _ in named], partitions.parse(found.partition)
    if partition.kind == "tensor":
        groups = names
    elif partition.pooled:
        pools, labels = partition.pools(names, len(names))
        groups = [labels[pool] for pool in pools]
    else:
        raise ValueError(
            f"{found.where}: a learning rate belongs to whole tensors, so the partition must be tensor, global or a "
            f"pattern; received {partition.text}"
        )
    found.check_groups(groups)
    return [
        {"params": [pair for pair, group in zip(named, groups, strict=True) if group == name], "lr": lr * factor}
        for name, factor in found.factors.items()
    ]
