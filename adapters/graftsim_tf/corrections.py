"""Learning-rate corrections as a Keras optimizer; see :mod:`graftsim.corrections`.

Groups have the names of a partition's groups of the model's paths::

    partition: tensor
    factors:
      dense/bias: 12.5
      dense/kernel: {c: 0.75, alpha: -0.27}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

from graftsim import corrections as files
from graftsim.corrections import Corrections, Given
from graftsim.corrections import discover as discover
from graftsim_tf.backends import Tensor, number, wide, wide_mode
from graftsim_tf.children import admit
from graftsim_tf.composite import Composite, check_number
from graftsim_tf.partitions import Groups, check, groups_of


def save_corrections(path: str | Path, factors: Mapping[str, Given], partition: str = "tensor") -> None:
    """Write a file of corrections, atomically. Factors are written with all their digits."""
    files.save(path, factors, check(partition))


def corrections(optimizer: Any, source: str | Path | Mapping[str, Given], partition: str | None = None) -> Corrected:
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
    found = files.read(source)
    return Corrected(optimizer, found.factors, partition=partition or found.partition, scale=found.scale)


@keras.saving.register_keras_serializable(package="graftsim")
class Corrected(Composite):
    """What :func:`corrections` returns: the step of an optimizer times a factor in each group, as in ``corrected``.

    The product is formed in float64 and rounded once to the variable's dtype. ``scale`` multiplies all factors.
    """

    def __init__(
        self,
        inner: Any,
        factors: Mapping[str, Given],
        *,
        partition: str = "tensor",
        scale: float = 1.0,
        name: str = "corrected",
        **options: Any,
    ) -> None:
        child = admit(inner, "inner")
        super().__init__(name=name, **options)
        self.inner, self.partition, self.scale = child, check(partition), check_number("scale", scale)
        self._given = dataclasses.replace(files.read(factors), scale=scale)
        self._table = _Table()

    def optimizers(self) -> list[Any]:
        return [self.inner]

    def prepare(self, variables: Sequence[Any]) -> None:
        self._table.fit(self._given, groups_of(self.partition, variables))

    def combine(self, steps: list[list[Tensor]], indices: list[int], count: Tensor) -> list[Tensor]:
        with wide_mode():
            factors = [self._table.at(i, count) for i in indices]
            return [
                ops.cast(ops.multiply(factor, wide(step)), step.dtype)
                for factor, step in zip(factors, steps[0], strict=True)
            ]

    def get_config(self) -> dict[str, Any]:
        inner = keras.saving.serialize_keras_object(self.inner)
        factors = {name: factor.document() for name, factor in self._given.factors.items()}
        own = {"inner": inner, "factors": factors, "partition": self.partition, "scale": self.scale}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Corrected:
        inner = keras.saving.deserialize_keras_object(config["inner"], custom_objects=custom_objects)
        return cls(**{**config, "inner": inner})


class _Table:
    """For each variable c0, c1, c and alpha of its groups, in the shape in which they multiply its step."""

    def __init__(self) -> None:
        self._constant, self._rows = True, list[Any]()

    def fit(self, given: Corrections, groups: Groups) -> None:
        given.check_groups(groups.names)
        self._constant = given.constant
        self._rows = list(zip(*(groups.by_variable(row) for row in given.table(groups.names)), strict=True))

    def at(self, index: int, count: Tensor) -> Tensor:
        """A variable's factors at step ``count`` + 1 in float64: the larger of c0 + c1 t + c t^alpha and 0."""
        c0, c1, c, alpha = map(number, self._rows[index])
        if self._constant:
            return c0
        step = ops.add(wide(count), number(1.0))
        line = ops.add(c0, ops.multiply(c1, step))
        return ops.maximum(ops.add(line, ops.multiply(c, ops.power(step, alpha))), number(0.0))
