"""M#D for Keras: the step length of one optimizer, the direction of another (``spec/grafting.md``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from graftsim_tf import backends
from graftsim_tf.backends import Tensor, number, wide, wide_mode
from graftsim_tf.children import admit
from graftsim_tf.composite import Composite, check_number
from graftsim_tf.partitions import Groups, check, groups_of

SERIALIZED = keras.saving.serialize_keras_object
DESERIALIZED = keras.saving.deserialize_keras_object


@dataclass(frozen=True)
class Info:
    """Norms and ratios of one step, one for each group; NumPy arrays of float64.

    ``n_m`` and ``n_d`` are the norms of the children's steps; ``ratio`` is the multiplier that was used, without the
    scale, and 0 where the direction's step was zero or no variable of the group had a gradient.
    """

    groups: tuple[str, ...]
    n_m: Any
    n_d: Any
    ratio: Any


@keras.saving.register_keras_serializable(package="graftsim")
class Graft(Composite):
    """The graft of two optimizers: in each group of the partition, D's step at the length of M's.

    With the children's steps m and d from the same weights and gradient, and norms taken in each group,

        w <- w + scale * ratio * d,    ratio = 0 where d = 0, else |m| / (|d| + eps)

    Norms, ratio and their product with d are float64 also for float32 variables. Sources: Agarwal, Anil, Hazan, Koren,
    Zhang 2020, Algorithm 2, and 2021, Algorithm 1.

    Args:
        magnitude: the optimizer M whose step length is taken: an instance, a name such as ``"adam"``, or a config.
            ``learning_rate`` is its learning rate.
        direction: the optimizer D whose direction is taken; with ``eps=0`` its learning rate does not matter.
        partition: ``tensor`` (each variable by itself), ``global``, ``axis(k)``, ``row``, ``fan_out``, ``coordinate``,
            ``block(n)``, ``pool(k, ...)`` or ``pattern(name='glob', ..., rest=None)`` over paths of variables.
        eps: added to the direction's norm; 0 is the 2021 paper's rule.
        scale: multiplies every step: a number, or a ``LearningRateSchedule``.
        **options: those of every Keras optimizer but the learning rate: ``weight_decay``, ``clipnorm``,
            ``global_clipnorm``, ``clipvalue``, ``use_ema`` ..., ``loss_scale_factor``,
            ``gradient_accumulation_steps``, ``name``. They act around the graft. A child's own clipping and decay are
            part of its step.

    ``magnitude`` and ``direction`` are the children, each with the state that it would have alone on the same weights
    and gradients.

    Raises:
        TypeError: a child that is no optimizer, a partition that is not text.
        ValueError: an unknown partition, eps or scale below 0, a child that was built before or that has options which
            belong outside; and at ``build``, variables that are not float32 or float64, or that do not fit the
            partition.
    """

    def __init__(
        self,
        magnitude: Any,
        direction: Any,
        *,
        partition: str = "tensor",
        eps: float = 0.0,
        scale: float | LearningRateSchedule = 1.0,
        name: str = "graft",
        **options: Any,
    ) -> None:
        if magnitude is direction and isinstance(direction, keras.optimizers.Optimizer):
            direction = keras.optimizers.get(SERIALIZED(direction))  # one object would step twice
        children = admit(magnitude, "magnitude"), admit(direction, "direction")
        super().__init__(name=name, **options)
        self.magnitude, self.direction = children
        self.partition, self.eps = check(partition), check_number("eps", eps)
        self.scale = scale if isinstance(scale, LearningRateSchedule) else check_number("scale", scale)
        self._groups: Groups | None = None
        self._info: Any = None

    def optimizers(self) -> list[Any]:
        return [self.magnitude, self.direction]

    def prepare(self, variables: Sequence[Any]) -> None:
        self._groups = groups_of(self.partition, variables)
        if not self._groups.single:
            self._info = self.add_variable((3, self._groups.count), dtype=backends.widest(), name="info")

    def combine(self, steps: list[list[Tensor]], indices: list[int], count: Tensor) -> list[Tensor]:
        groups, (m, d) = self._groups, steps
        assert groups is not None
        with wide_mode():
            n_m, n_d = groups.norms(indices, m), groups.norms(indices, d)
            ratios = [_ratio(a, b, self.eps) for a, b in zip(n_m, n_d, strict=True)]
            factors = [ops.multiply(self._scale(count), ratio) for ratio in ratios]
            if self._info is not None:
                rows = [groups.vector(indices, pieces) for pieces in (n_m, n_d, ratios)]
                self.assign(self._info, ops.cast(ops.stack(rows), self._info.dtype))
            return [
                ops.cast(ops.multiply(factor, wide(step)), step.dtype)
                for factor, step in zip(groups.spread(indices, factors), d, strict=True)
            ]

    def _scale(self, count: Tensor) -> Tensor:
        return wide(self.scale(count)) if isinstance(self.scale, LearningRateSchedule) else number(self.scale)

    @property
    def info(self) -> Info | None:
        """Norms and ratios of the last step; None before the optimizer is built, and under ``coordinate``."""
        if self._info is None or self._groups is None:
            return None
        n_m, n_d, ratio = np.asarray(backends.numpy(self._info), np.float64)
        return Info(self._groups.names, n_m, n_d, ratio)

    def get_config(self) -> dict[str, Any]:
        own = {"partition": self.partition, "eps": self.eps}
        own |= {name: SERIALIZED(getattr(self, name)) for name in ("magnitude", "direction", "scale")}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Graft:
        parts = ("magnitude", "direction", "scale")
        made = {name: DESERIALIZED(config[name], custom_objects=custom_objects) for name in parts if name in config}
        return cls(**{**config, **made})


def _ratio(n_m: Tensor, n_d: Tensor, eps: float) -> Tensor:
    """0 where the direction is zero, whatever the magnitude is (GS-graft-zero-direction)."""
    zero = ops.equal(n_d, number(0.0))
    below = ops.where(zero, number(1.0), ops.add(n_d, number(eps)))
    return ops.where(zero, number(0.0), ops.divide(n_m, below))
