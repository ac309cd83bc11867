"""How the step of an optimizer that can only be run in place is got back without loss.

A step that is added to weights and subtracted again has lost what the weights' rounding took: u |w| for each
coordinate, all of a step of 1e-8 beside a weight of 1 in float32 (2020 paper, appendix C.1). So the optimizer is run on
scratch parameters. If its step does not depend on the weights they start from zero, and the step is what stands in
them afterwards. Decay is the one place where most optimizers read weights, and it can be taken off: decay in the
gradient is added to the gradient first, decoupled decay to the step afterwards, both from the true weights.

Whether a step depends on the weights cannot be seen from outside, so it is assumed unless the class stands in
:data:`BLIND` (each entry is tested) or its user says so with :func:`declare`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

BLIND: frozenset[type] = frozenset(
    getattr(torch.optim, name)
    for name in (
        "SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "Muon",
    )
    if hasattr(torch.optim, name)
)  # fmt: skip
"""Optimizers of torch whose step depends on the weights through ``weight_decay`` only, and that leave ``.grad`` alone
when they are run one tensor at a time."""

ELEMENTWISE: frozenset[type] = frozenset(kind for kind in BLIND if kind.__name__ != "Muon")
"""Those whose step of a coordinate depends on that coordinate only, so that it may be run on a shard."""

ALWAYS_DECOUPLED = ("AdamW", "Muon")

REFUSED = {
    "LBFGS": "it evaluates the loss several times a step, and a graft evaluates it once",
    "SparseAdam": "it takes sparse gradients only, which have no dense norm; use Adam with dense gradients",
}


@dataclass(frozen=True)
class Declared:
    """An optimizer with what is known of it; see :func:`declare`."""

    optimizer: Any
    reads_weights: bool
    linear_in_lr: bool
    elementwise: bool


def declare(
    optimizer: Callable[..., Optimizer] | Optimizer,
    *,
    reads_weights: bool = True,
    linear_in_lr: bool = False,
    elementwise: bool = False,
) -> Declared:
    """Say of an optimizer what cannot be seen from outside, so that its step is recovered exactly.

    Args:
        optimizer: a class, factory or instance.
        reads_weights: whether its step depends on the weights. False also promises that it has no decay.
        linear_in_lr: whether its step is ``lr`` times something that ``lr`` does not enter. A weight-reading direction
            is then run with an ``lr`` near 1, a power of two from its own, where its step stands clear of the weights'
            rounding.
        elementwise: whether each coordinate's step depends on that coordinate only, so that shards may be run alone.
    """
    return Declared(optimizer, reads_weights, linear_in_lr, elementwise)


@dataclass(frozen=True)
class Knowledge:
    """What is known of an optimizer: from the tables, or as declared."""

    blind: bool
    linear: bool
    elementwise: bool
    splits_decay: bool
    keeps_gradients: bool


def known(optimizer: Optimizer, declared: Declared | None) -> Knowledge:
    """What the tables or the user say of an optimizer.

    Raises:
        ValueError: an optimizer that no graft can run.
    """
    kind = type(optimizer)
    if kind.__module__.startswith("torch.optim") and kind.__name__ in REFUSED:
        raise ValueError(f"{kind.__name__} cannot be grafted: {REFUSED[kind.__name__]}")
    if declared is not None:
        return Knowledge(not declared.reads_weights, declared.linear_in_lr, declared.elementwise, False, False)
    native = kind in BLIND
    return Knowledge(native, False, kind in ELEMENTWISE, native, native)


def decoupled(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    """Whether a native's weight_decay is added to its step, rather than to its gradient."""
    return type(optimizer).__name__ in ALWAYS_DECOUPLED or bool(group.get("decoupled_weight_decay", False))


def near_one(lr: Any) -> tuple[Any, Any]:
    """A rate in [0.5, 1) and the power of two that leads back from it; a rate that is not positive stays."""
    if isinstance(lr, torch.Tensor):
        mantissa, exponent = torch.frexp(lr)
        return mantissa, torch.ldexp(torch.ones_like(lr), exponent)
    if not (lr > 0 and math.isfinite(lr)):
        return lr, 1.0
    mantissa, exponent = math.frexp(lr)
    return mantissa, 2.0**exponent
