"""Learning-rate corrections as a Keras optimizer; see :mod:`graftsim.corrections`.

Groups have the names of a partition's groups of the model's paths::

    partition: tensor
    factors:
      dense/bias: 12.5
      dense/kernel: 0.75
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from graftsim import corrections as files
from graftsim.corrections import discover as discover
from graftsim_tf.backends import Tensor, number, wide, wide_mode
from graftsim_tf.children import admit
from graftsim_tf.composite import Composite
from graftsim_tf.partitions import Groups, check, groups_of


def save_corrections(path: str | Path, factors: Mapping[str, float], partition: str = "tensor") -> None:
    """Write a file of corrections, atomically. Factors are written with all their digits."""
    files.save(path, factors, check(partition))


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
    found = files.read(source)
    return Corrected(optimizer, found.factors, partition=partition or found.partition)


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
        self._factors = _Factors(files.read(factors))

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
        own = {"inner": inner, "factors": dict(self._factors.given.factors), "partition": self.partition}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Corrected:
        inner = keras.saving.deserialize_keras_object(config["inner"], custom_objects=custom_objects)
        return cls(**{**config, "inner": inner})


class _Factors:
    """Factors by name, and for each variable those of its groups in the shape in which they multiply its step."""

    def __init__(self, given: files.Corrections) -> None:
        self.given, self._of_variables = given, list[Any]()

    def fit(self, groups: Groups) -> None:
        self.given.check_groups(groups.names)
        values = np.array([self.given.factors[name] for name in groups.names], np.float64)
        self._of_variables = groups.by_variable(values)

    def of(self, index: int) -> Any:
        return self._of_variables[index]
