"""Learning-rate corrections: numbers per group, discovered by a graft and then used without it.

A file of corrections is YAML, with a factor for each group of a partition, here in the paths of a Keras model::

    partition: tensor
    factors:
      dense/bias: 12.5
      dense/kernel: 0.75

The 2021 paper, section 5: the medians over the first steps of Adam#SGD, layer by layer, let SGD alone train a
transformer that it cannot train otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from graftsim import documents
from graftsim.errors import nearest
from graftsim.trajectory import Trajectory
from graftsim_tf.backends import Tensor, number, wide, wide_mode
from graftsim_tf.children import admit
from graftsim_tf.composite import Composite, check_number
from graftsim_tf.partitions import Groups, check, groups_of


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
    lines = [f"partition: {_quoted(check(partition))}", "factors:"]
    lines += [f"  {_quoted(name)}: {check_number(f'the factor of {name!r}', value)!r}"
              for name, value in factors.items()]  # fmt: skip
    documents.write_atomically(Path(path), lambda file: file.write(("\n".join(lines) + "\n").encode()))


def corrections(optimizer: Any, source: str | Path | Mapping[str, float], partition: str | None = None) -> Corrected:
    """An optimizer whose step is multiplied by a factor in each group.

    ``corrections(keras.optimizers.SGD(1.0, momentum=0.9), "corrections.yaml")`` is a Keras optimizer like any other.

    Args:
        optimizer: the optimizer to correct.
        source: a file of corrections, or a mapping from names of groups to factors.
        partition: the groups; the file's by default, ``tensor`` for a mapping.

    Raises:
        ValueError: a file that is not as it should be, a factor that is not finite or below 0; and at ``build``, groups
            that are not exactly those of the variables.
    """
    if isinstance(source, Mapping):
        return Corrected(optimizer, source, partition=partition or "tensor")
    document: Any = documents.read_yaml(Path(source))
    known = {"partition", "factors"}
    if not isinstance(document, Mapping) or not isinstance(document.get("factors"), Mapping) or set(document) - known:
        raise ValueError(f"{source}: a file of corrections must have the keys partition and factors, a number a group")
    return Corrected(optimizer, document["factors"], partition=partition or document.get("partition", "tensor"))


@keras.saving.register_keras_serializable(package="graftsim")
class Corrected(Composite):
    """What :func:`corrections` returns: the step of an optimizer times a factor in each group, as in ``scaled``.

    The product is formed in float64 and rounded once to the variable's dtype.
    """

    def __init__(
        self,
        inner: Any,
        factors: Mapping[str, float],
        *,
        partition: str = "tensor",
        name: str = "corrected",
        **options: Any,
    ) -> None:
        child = admit(inner, "inner")
        super().__init__(name=name, **options)
        self.inner, self.partition = child, check(partition)
        self._factors = _Factors({str(k): check_number(f"the factor of {k!r}", v) for k, v in factors.items()})

    def optimizers(self) -> list[Any]:
        return [self.inner]

    def prepare(self, variables: Sequence[Any]) -> None:
        self._factors.fit(groups_of(self.partition, variables))

    def combine(self, steps: list[list[Tensor]], indices: list[int], count: Tensor) -> list[Tensor]:
        with wide_mode():
            return [
                ops.cast(ops.multiply(number(self._factors.of(i)), wide(step)), step.dtype)
                for i, step in zip(indices, steps[0], strict=True)
            ]

    def get_config(self) -> dict[str, Any]:
        inner = keras.saving.serialize_keras_object(self.inner)
        own = {"inner": inner, "factors": dict(self._factors.given), "partition": self.partition}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Corrected:
        inner = keras.saving.deserialize_keras_object(config["inner"], custom_objects=custom_objects)
        return cls(**{**config, "inner": inner})


class _Factors:
    """Factors by name, and for each variable those of its groups in the shape in which they multiply its step."""

    def __init__(self, given: Mapping[str, float]) -> None:
        self.given, self._of_variables = given, list[Any]()

    def fit(self, groups: Groups) -> None:
        names = groups.names
        odd = sorted(set(names).symmetric_difference(self.given))
        if odd:
            kind = "is no group" if odd[0] in self.given else "has no factor"
            known = names if odd[0] in self.given else self.given
            raise ValueError(
                f"corrections: there must be one factor for each group; {odd[0]!r} {kind}{nearest(odd[0], known)}"
            )
        values = np.array([self.given[name] for name in names], np.float64)
        self._of_variables = groups.by_variable(values)

    def of(self, index: int) -> Any:
        return self._of_variables[index]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
