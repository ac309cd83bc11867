"""What differs between Keras's backends: float64 under JAX, gradients that are not dense, and where a step runs.

The only module that knows of TensorFlow, JAX and PyTorch; each is imported where it is the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np

Tensor = Any
NAME: str = keras.backend.backend()

if NAME == "tensorflow":
    import tensorflow as tf

    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:  # it is not public: without it the other way is taken, which takes longer under XLA

        def GraphOrParentsInXlaContext(graph: Any) -> bool:  # noqa: N802
            return False

elif NAME == "jax":
    import jax
elif NAME == "torch":
    import torch
else:
    raise ImportError(f"graftsim_tf needs Keras's tensorflow, jax or torch backend; KERAS_BACKEND is {NAME!r}")


def wide_mode() -> AbstractContextManager[Any]:
    """Where float64 values can be formed; JAX has them off by default."""
    return jax.enable_x64(True) if NAME == "jax" else nullcontext()


def untracked() -> AbstractContextManager[Any]:
    """Where PyTorch records no gradients."""
    return torch.no_grad() if NAME == "torch" else nullcontext()


def widest() -> str:
    """The widest dtype that a variable can have."""
    return "float64" if NAME != "jax" or jax.config.jax_enable_x64 else "float32"


def number(value: Any) -> Tensor:
    """A number, or an array of them, in float64 with all its digits.

    TensorFlow and PyTorch take a bare Python float through float32. To be called, as :func:`wide`, in
    :func:`wide_mode`.
    """
    return keras.ops.convert_to_tensor(np.array(value, np.float64))


def wide(x: Tensor) -> Tensor:
    """A tensor in float64."""
    return keras.ops.cast(keras.ops.convert_to_tensor(x), "float64")


def under_xla() -> bool:
    """Whether XLA will compile what is computed here, as far as can be told; for choosing among ways to the same."""
    return NAME == "jax" or (NAME == "tensorflow" and GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def sum_of_squares(x: Tensor) -> Tensor:
    """That of all numbers of a tensor; TensorFlow has no other kernel that does not write the squares to memory."""
    if NAME == "tensorflow":
        return keras.ops.multiply(tf.nn.l2_loss(x), number(2.0))
    return keras.ops.sum(keras.ops.square(x))


def numpy(x: Any) -> Any:
    """The values of a tensor or variable; Keras's own conversion asks TensorFlow for a copy in a deprecated way."""
    x = keras.ops.convert_to_tensor(x)
    return x.numpy() if NAME == "tensorflow" else np.asarray(keras.ops.convert_to_numpy(x))


def dense(gradient: Tensor, variable: Any) -> Tensor:
    """A gradient as a dense tensor: rows that are given several times are added, rows that are not are zero."""
    if gradient is None:
        return None
    if NAME == "tensorflow" and isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
    if NAME == "torch" and gradient.layout is not torch.strided:
        return gradient.to_dense()
    return keras.ops.convert_to_tensor(gradient, sparse=False)


def as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that ``tf.function`` traces as it is, without reading its source."""
    return tf.autograph.experimental.do_not_convert(function) if NAME == "tensorflow" else function


def runs_in_place(optimizer: Any) -> bool:
    """Whether an optimizer changes the tensors of its variables in place: Keras's own on PyTorch, by ``_foreach``.

    None of them reads the weights.
    """
    return NAME == "torch" and hasattr(optimizer, "_parallel_update_step")


def update(optimizer: Any, gradients: Sequence[Tensor], variables: Sequence[Any], rate: Tensor) -> None:
    """One update by an optimizer of what stands for its variables here, on this device."""
    if NAME != "tensorflow":
        optimizer._backend_update_step(list(gradients), list(variables), rate)
        return
    for gradient, variable in zip(gradients, variables, strict=True):
        optimizer.update_step(gradient, variable, rate)


def begin(optimizer: Any, rate: Tensor) -> None:
    """What an optimizer does once a step, before its variables: on TensorFlow :func:`update` would leave it out.

    Of Keras's own, Nadam multiplies up its momentum schedule there.
    """
    if NAME == "tensorflow" and type(optimizer)._backend_update_step is not keras.Optimizer._backend_update_step:
        optimizer._backend_update_step([], [], rate)


def everywhere(
    optimizer: Any, move: Callable[[list[Tensor], list[Any]], None], gradients: Sequence[Tensor], variables: Any
) -> None:
    """Run ``move`` on all gradients and variables, on each replica by itself.

    Under a ``tf.distribute`` strategy gradients are added over replicas first, as in every Keras optimizer. That is
    the only exchange: replicas hold the same weights and state, so they find the same norms.
    """
    if NAME != "tensorflow":
        with untracked():
            move(list(gradients), list(variables))
        return
    native = [v.value if isinstance(v, keras.Variable) else v for v in variables]
    reduced = optimizer._all_reduce_sum_gradients(list(zip(gradients, native, strict=True)))

    def on_replicas(strategy: Any, pairs: Any) -> None:
        summed, mirrored = zip(*pairs, strict=True)
        strategy.extended.update(
            mirrored[0], lambda _, *args: move(list(args[: len(mirrored)]), list(args[len(mirrored) :])),
            args=(*summed, *mirrored), group=False,
        )  # fmt: skip

    tf.__internal__.distribute.interim.maybe_merge_call(on_replicas, optimizer._distribution_strategy, reduced)
