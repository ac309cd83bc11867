"""A Keras optimizer whose step is made of other optimizers' steps: the Keras contract, once for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from graftsim_tf import backends
from graftsim_tf.backends import Tensor, number, wide, wide_mode
from graftsim_tf.children import Child

OPTIONS = (
    "name", "weight_decay", "clipnorm", "global_clipnorm", "clipvalue", "use_ema", "ema_momentum",
    "ema_overwrite_frequency", "loss_scale_factor", "gradient_accumulation_steps",
)  # fmt: skip
"""What every Keras optimizer takes beside its learning rate."""


class Composite(keras.optimizers.Optimizer):  # type: ignore[misc]
    """The base of :class:`Graft` and :class:`Corrected`; a subclass says which optimizers it holds and how steps meet.

    The options that every Keras optimizer has act around the whole: clipping on the gradient that all children see,
    weight decay beside the step and from the same weights, at the learning rate of the first child.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(learning_rate=lambda: self.learning_rate, **options)
        self._held: _Held | None = None

    # -- for subclasses ------------------------------------------------------------------------------------------

    def optimizers(self) -> list[Any]:
        """The optimizers inside; the first has the learning rate."""
        raise NotImplementedError

    def prepare(self, variables: Sequence[Any]) -> None:
        """Make what depends on the variables."""

    def combine(self, steps: list[list[Tensor]], indices: list[int], count: Tensor) -> list[Tensor]:
        """One step for each variable out of the steps of each child.

        Args:
            steps: for each child its steps.
            indices: which variables they are of; the others have no gradient.
            count: the number of steps done.
        """
        raise NotImplementedError

    # -- one step ------------------------------------------------------------------------------------------------

    @property
    def children(self) -> list[Child]:
        """The optimizers inside, over the variables."""
        assert self._held is not None
        return self._held.children

    def propose(self, gradients: Sequence[Tensor], weights: Sequence[Any], count: Tensor) -> list[Tensor]:
        """The steps from these weights, decay included; nothing moves but state.

        Children do not see variables without coordinates: Keras cannot add to these in a TensorFlow graph.
        """
        given = [i for i, weight in enumerate(weights) if 0 not in weight.shape]
        found = [ops.zeros(weight.shape, weight.dtype) for weight in weights]
        for i, step in zip(given, self._proposed(gradients, weights, given, count), strict=True):
            found[i] = step
        if self.weight_decay is None:
            return found
        with wide_mode():
            coefficient = ops.multiply(wide(self.rate(count)), number(self.weight_decay))
        return [
            self._decayed(step, weight, coefficient) if self._use_weight_decay(weight) else step
            for step, weight in zip(found, weights, strict=True)
        ]

    def _proposed(
        self, gradients: Sequence[Tensor], weights: Sequence[Any], given: list[int], count: Tensor
    ) -> list[Tensor]:
        of_given = [weights[i] for i in given]
        steps = [child.propose([gradients[i] for i in given], of_given, count) for child in self.children]
        return self.combine(steps, [self._get_variable_index(weight) for weight in of_given], count)

    @staticmethod
    def _decayed(step: Tensor, weight: Any, coefficient: Tensor) -> Tensor:
        w = ops.convert_to_tensor(weight)
        return ops.subtract(step, ops.multiply(ops.cast(coefficient, w.dtype), w))

    def rate(self, count: Tensor) -> Tensor:
        """The learning rate after so many steps: that of the first child."""
        return self.children[0].rate(count)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        for child in self.children:
            child.begin(self._iterations)
        backends.everywhere(self, self._move, grads, trainable_variables)
        for child in self.children:
            child.advance()

    def _move(self, gradients: list[Tensor], weights: list[Any]) -> None:
        steps = self.propose(gradients, weights, self._iterations)
        for weight, step in zip(weights, steps, strict=True):
            if 0 not in weight.shape:
                self.assign_add(weight, step)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: decay is part of the step, so that children see the weights as they are."""

    # -- Keras's contract ----------------------------------------------------------------------------------------

    def build(self, variables: Any) -> None:
        if self.built:
            return
        check(variables)
        super().build(variables)
        self._held = _Held([Child(optimizer, variables) for optimizer in self.optimizers()])
        self.prepare(variables)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """As of every Keras optimizer; gradients of embeddings are made dense, with repeated rows added first."""
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if len(variables) == len(grads):
            grads = [backends.dense(grad, variable) for grad, variable in zip(grads, variables, strict=True)]
        super().apply(grads, None if trainable_variables is None else variables)

    @property
    def learning_rate(self) -> Any:
        """That of the first optimizer inside; setting it sets that one's."""
        return self.optimizers()[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.optimizers()[0].learning_rate = value

    @property
    def variables(self) -> list[Any]:
        """Its own variables, then those of the optimizers inside."""
        return [*self._variables, *(v for optimizer in self.optimizers() for v in optimizer.variables)]

    def set_weights(self, weights: Any) -> None:
        """Set all variables, in the order of :attr:`variables`."""
        if not self.built:
            raise ValueError("set_weights() needs a built optimizer; call optimizer.build(variables) first")
        variables = self.variables
        if [tuple(np.shape(weight)) for weight in weights] != [tuple(variable.shape) for variable in variables]:
            raise ValueError(f"there must be one weight for each of the {len(variables)} variables, of its shape")
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(weight)

    def finalize_variable_values(self, var_list: Any) -> None:
        if self.use_ema:
            super().finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OPTIONS}


class _Held:
    """Keeps what is no Keras state away from Keras's tracking of attributes."""

    def __init__(self, children: list[Child]) -> None:
        self.children = children


def check(variables: Sequence[Any]) -> None:
    """Raise ValueError unless every variable is float32 or float64."""
    for variable in variables:
        dtype = keras.backend.standardize_dtype(variable.dtype)
        if dtype not in ("float32", "float64"):
            raise ValueError(
                f"variables must be float32 or float64; {variable.name!r} is {dtype}: a policy such as mixed_bfloat16 "
                "computes in 16 bits over float32 variables"
            )


def check_number(name: str, value: Any) -> float:
    """A finite number that is at least 0, or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number that is at least 0; received {value!r}")
    return float(value)
