"""Learning-rate corrections: numbers per group, discovered by a graft and then used without it.

A file of corrections is YAML, with a factor for each group of a partition::

    partition: tensor
    factors:
      head.bias: 12.5
      head.weight: 0.75

The 2021 paper, section 5: the medians over the first steps of Adam#SGD, layer by layer, let SGD alone train a
transformer that it cannot train otherwise. The adapters of frameworks say how factors are applied there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftsim import documents
from graftsim.errors import nearest
from graftsim.trajectory import Trajectory

KEYS = {"partition", "factors"}


@dataclass(frozen=True)
class Corrections:
    """A factor for each group of a partition, and where they are from, for messages."""

    factors: Mapping[str, float]
    partition: str
    where: str

    def check_groups(self, groups: Sequence[str]) -> None:
        """Raises ValueError unless these are exactly the groups that have a factor."""
        odd = sorted(set(groups).symmetric_difference(self.factors))
        if not odd:
            return
        kind, known = ("is no group", groups) if odd[0] in self.factors else ("has no factor", self.factors)
        raise ValueError(
            f"{self.where}: there must be one factor for each group; {odd[0]!r} {kind}{nearest(odd[0], known)}"
        )


def discover(trajectory: Trajectory, steps: int | None = None) -> dict[str, float]:
    """For each group the median over recorded steps of |m| / |d|, where the direction was not zero.

    Args:
        trajectory: the record of a run of a graft, whose info has ``n_m`` and ``n_d``.
        steps: only recorded steps up to this number; all by default.

    Raises:
        ValueError: no record of a graft, or a group that has no step with a direction and finite norms: it has no
            correction.
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


def silent(trajectory: Trajectory) -> dict[str, int]:
    """The groups whose direction was zero in some recorded steps, and in how many: they did not move there.

    A group that is silent throughout has no gradient at all: it is frozen, unused, or behind a layer of zeros.
    """
    counts = (trajectory.info["n_d"] == 0).sum(axis=0)
    return {name: int(n) for name, n in zip(trajectory.meta.groups["n_d"], counts, strict=True) if n}


def save(path: str | Path, factors: Mapping[str, float], partition: str) -> None:
    """Write a file of corrections, atomically. Factors are written with all their digits.

    Raises:
        ValueError: a factor that is not finite or below 0.
    """
    lines = [f"partition: {_quoted(partition)}", "factors:"]
    lines += [f"  {_quoted(name)}: {_checked(name, value, str(path))!r}" for name, value in factors.items()]
    documents.write_atomically(Path(path), lambda file: file.write(("\n".join(lines) + "\n").encode()))


def read(source: str | Path | Mapping[str, float]) -> Corrections:
    """The corrections of a file, or of a mapping from names of groups to factors, whose partition is ``tensor``.

    Raises:
        ValueError: a file that is not as it should be, or a factor that is not finite or below 0.
    """
    if isinstance(source, Mapping):
        return Corrections(_factors(source, "corrections"), "tensor", "corrections")
    where, document = str(source), documents.read_yaml(Path(source))
    if not isinstance(document, Mapping) or not isinstance(document.get("factors"), Mapping) or set(document) - KEYS:
        raise ValueError(f"{where}: a file of corrections must have the keys partition and factors, a number per group")
    partition = document.get("partition", "tensor")
    if not isinstance(partition, str):
        raise ValueError(f"{where}: partition must be text such as tensor; received {partition!r}")
    return Corrections(_factors(document["factors"], where), partition, where)


def _factors(values: Mapping[Any, Any], where: str) -> dict[str, float]:
    return {str(name): _checked(name, value, where) for name, value in values.items()}


def _checked(name: Any, value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(
            f"{where}: the factor of {name!r} must be a finite number that is at least 0; received {value!r}"
        )
    return float(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
