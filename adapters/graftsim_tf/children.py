"""An optimizer inside another, as something that proposes steps and moves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from graftsim_tf import backends
from graftsim_tf.backends import Tensor
from graftsim_tf.stand_ins import StandIn

OUTSIDE = ("use_ema", "gradient_accumulation_steps", "loss_scale_factor")
"""Options that are about what happens to the weights or gradients as a whole; they belong to the outermost."""


def admit(given: Any, role: str) -> Any:
    """The child of an instance, a name such as ``"adam"`` or a config.

    Raises:
        TypeError: what is given is no Keras optimizer.
        ValueError: an optimizer that was already built, one that is not stepped by ``update_step``, or one with options
            that belong outside.
    """
    try:
        child = keras.optimizers.get(given)
    except (ValueError, TypeError, AttributeError):
        child = None
    if child is None:
        raise TypeError(f"{role} must be a Keras optimizer such as keras.optimizers.Adam(1e-3); received {given!r}")
    if child.built:
        raise ValueError(f"{role} must be a new optimizer; received {child.name!r}, which was already built")
    base = keras.optimizers.Optimizer
    if not hasattr(child, "propose") and (
        type(child).apply is not base.apply or type(child)._backend_apply_gradients is not base._backend_apply_gradients
    ):
        raise ValueError(
            f"{role} must be stepped by update_step; {type(child).__name__} is not: put the graft inside it instead"
        )
    for option in OUTSIDE:
        if getattr(child, option, None):
            raise ValueError(
                f"{role} cannot have {option}={getattr(child, option)}; give it to the optimizer around it"
            )
    return child


class Child:
    """A child over its variables."""

    def __init__(self, optimizer: Any, variables: Sequence[Any]) -> None:
        self.optimizer, self.variables = optimizer, list(variables)
        optimizer.build(list(variables))
        self.stand_ins = [StandIn(variable) for variable in variables]
        for index, (variable, stand_in) in enumerate(zip(variables, self.stand_ins, strict=True)):
            key = optimizer._var_key(stand_in)
            optimizer._trainable_variables_indices[key] = index
            decays = optimizer._use_weight_decay(variable)  # before the cache is written to, which it makes
            optimizer._exclude_from_weight_decay_cache[key] = decays

    def rate(self, count: Tensor) -> Tensor:
        """The learning rate after so many steps."""
        if hasattr(self.optimizer, "propose"):
            return self.optimizer.rate(count)
        inner = self.optimizer._learning_rate
        return inner(count) if isinstance(inner, LearningRateSchedule) else self.optimizer.learning_rate

    def begin(self, count: Tensor) -> None:
        """What is done once a step."""
        if hasattr(self.optimizer, "propose"):
            for child in self.optimizer.children:
                child.begin(count)
        else:
            backends.begin(self.optimizer, self.rate(count))

    def advance(self) -> None:
        """Count the step."""
        self.optimizer._iterations.assign_add(1)
        if hasattr(self.optimizer, "propose"):
            for child in self.optimizer.children:
                child.advance()

    def propose(self, gradients: Sequence[Tensor], weights: Sequence[Any], count: Tensor) -> list[Tensor]:
        """The steps that the child would take from these weights; its state is that after them.

        Args:
            gradients: dense, one for each of the weights.
            weights: those of the child's variables that have a gradient, as they are on this device.
            count: the number of steps done, for learning-rate schedules.
        """
        optimizer = self.optimizer
        gradients = optimizer._clip_gradients(list(gradients))
        if hasattr(optimizer, "propose"):
            found: list[Tensor] = optimizer.propose(gradients, weights, count)
            return found
        rate, in_place = self.rate(count), backends.runs_in_place(optimizer)
        stand_ins = [self.stand_ins[optimizer._get_variable_index(weight)] for weight in weights]
        for stand_in, weight in zip(stand_ins, weights, strict=True):
            stand_in.begin(weight, in_place)
        decays = self._decay(stand_ins, weights, rate)
        backends.update(optimizer, gradients, stand_ins, rate)
        steps = [stand_in.end() for stand_in in stand_ins]
        return [
            step if not in_place or decay is None else ops.subtract(step, decay)
            for step, decay in zip(steps, decays, strict=True)
        ]

    def _decay(self, stand_ins: Sequence[StandIn], weights: Sequence[Any], rate: Tensor) -> list[Tensor | None]:
        """Take the decay off what stands for the weights, as Keras does before a step; return it."""
        optimizer = self.optimizer
        own = type(optimizer)._apply_weight_decay is not keras.optimizers.Optimizer._apply_weight_decay
        if own and not hasattr(optimizer, "adam_weight_decay"):  # Muon's is known, below
            optimizer._apply_weight_decay(list(stand_ins))
            return [None] * len(stand_ins)
        found: list[Tensor | None] = []
        for stand_in, weight in zip(stand_ins, weights, strict=True):
            decay = _weight_decay(optimizer, stand_in)
            if decay is None or not optimizer._use_weight_decay(stand_in):
                found.append(None)
                continue
            w, dtype = ops.convert_to_tensor(weight), stand_in.dtype
            taken = ops.multiply(ops.multiply(w, ops.cast(decay, dtype)), ops.cast(rate, dtype))
            found.append(taken)
            if not backends.runs_in_place(optimizer):
                stand_in.assign_sub(taken)
        return found


def _weight_decay(optimizer: Any, variable: StandIn) -> float | None:
    """An optimizer's weight decay of a variable; Muon has another where it runs Adam."""
    if hasattr(optimizer, "adam_weight_decay") and optimizer._should_use_adamw(variable):
        found: float | None = optimizer.adam_weight_decay
        return found
    found = optimizer.weight_decay
    return found
