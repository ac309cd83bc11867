"""Learning-rate corrections as param groups for a plain optimizer; see :mod:`graftsim.corrections`.

Groups have the names of a torch model::

    partition: tensor
    factors:
      head.bias: 12.5
      head.weight: {c: 0.75, alpha: -0.27}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from graftsim import corrections as files
from graftsim.corrections import Given
from graftsim.corrections import discover as discover
from graftsim_torch import partitions


def save_corrections(path: str | Path, factors: Mapping[str, Given], partition: str = "tensor") -> None:
    """Write a file of corrections, atomically. Factors are written with all their digits."""
    files.save(path, factors, partitions.parse(partition).text)


def corrections(
    named_parameters: Iterable[tuple[str, Tensor]], source: str | Path | Mapping[str, Given], lr: float
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
            exactly those of the parameters, a partition that divides a tensor, or a factor that changes from step to
            step, for which there is :func:`scheduled_corrections`.
    """
    found = files.read(source)
    factors = found.constants("for schedules there is scheduled_corrections")
    return [{"params": pairs, "lr": lr * factors[name]} for name, pairs in _grouped(named_parameters, found).items()]


def scheduled_corrections(
    named_parameters: Iterable[tuple[str, Tensor]], source: str | Path | Mapping[str, Given], lr: float
) -> tuple[list[dict[str, Any]], list[Callable[[int], float]]]:
    """Param groups at ``lr``, and for each the function of PyTorch's ``LambdaLR`` that is its factor.

    ::

        groups, factors = scheduled_corrections(model.named_parameters(), "corrections.yaml", lr=1.0)
        optimizer = SGD(groups, momentum=0.9)
        scheduler = LambdaLR(optimizer, factors)  # scheduler.step() after each optimizer.step()

    ``LambdaLR`` counts from 0: what it calls n is the step n + 1 of the file. Arguments and errors are those of
    :func:`corrections`, but that factors may change from step to step.
    """
    found = files.read(source)
    grouped = _grouped(named_parameters, found)

    def of(name: str) -> Callable[[int], float]:
        return lambda done: found.scale * found.factors[name].at(done + 1)

    return [{"params": pairs, "lr": lr} for pairs in grouped.values()], [of(name) for name in grouped]


def _grouped(
    named_parameters: Iterable[tuple[str, Tensor]], found: files.Corrections
) -> dict[str, list[tuple[str, Tensor]]]:
    """The parameters of each group, in the order of the file."""
    named = list(named_parameters)
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
    return {name: [pair for pair, group in zip(named, groups, strict=True) if group == name] for name in found.factors}
