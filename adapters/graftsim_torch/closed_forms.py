"""The steps of SGD, Adam, AdamW, Adagrad and RMSprop, of many tensors at once, without stepping their weights.

Each function takes one param group of the native optimizer, its state of each tensor in the native's own layout (a
state_dict is the native's), the weights and the gradients, advances the state as the native does, and returns the
steps. They have the bits that the native leaves in weights of zero, but for a rate that stands beside the tensors; on a
CPU Adam and AdamW are torch's fused ones, where they may be. Weights are read only where there is decay.

Where eps is 0, a coordinate that never had a gradient stands still (GS-arithmetic-quotient); a native's 0 / 0 is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from graftsim_torch.steps import Steps, equal_rates

Tensors = list[Tensor]
State = dict[str, Any]
Rule = Callable[[Mapping[str, Any], list[State], Tensors, Tensors], Steps]


def sgd(group: Mapping[str, Any], states: list[State], weights: Tensors, grads: Tensors) -> Steps:
    """-lr times the gradient, its heavy ball b = momentum b + (1 - dampening) g, or Nesterov's g + momentum b.

    The first b of a tensor is its gradient, whatever the dampening.
    """
    grads = _gradients(group, weights, grads)
    momentum, rates = group["momentum"], equal_rates(grads, -group["lr"])
    if momentum == 0:
        return Steps(grads, rates, spare=False)
    first = [state.get("momentum_buffer") is None for state in states]
    for state, grad in zip(states, grads, strict=True):
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.clone(grad).detach()
    buffers = _slots(states, "momentum_buffer")
    old = [i for i, new in enumerate(first) if not new]
    if old:
        moving = [buffers[i] for i in old]
        torch._foreach_mul_(moving, momentum)
        torch._foreach_add_(moving, [grads[i] for i in old], alpha=1 - group["dampening"])
    if group["nesterov"]:
        return Steps(list(torch._foreach_add(grads, buffers, alpha=momentum)), rates)
    return Steps(buffers, rates, spare=False)


def adam(group: Mapping[str, Any], states: list[State], weights: Tensors, grads: Tensors) -> Steps:
    """-lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps), with v's running maximum under ``amsgrad``.

    Decoupled decay, AdamW's, adds -lr weight_decay w.
    """
    decoupled = group.get("decoupled_weight_decay", False)
    grads = _gradients(group, weights, grads, coupled=not decoupled)
    names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")
    steps = _begin(group, states, grads, names)
    beta1, beta2 = group["betas"]
    means, squares = _slots(states, "exp_avg"), _slots(states, "exp_avg_sq")
    largest = _slots(states, "max_exp_avg_sq") if group["amsgrad"] else []
    torch._foreach_add_(steps, 1)
    if _may_be_fused(group, [*grads, *means, *squares, *largest]):
        found = [torch.zeros_like(grad) for grad in grads]
        torch._fused_adam_(
            found, grads, means, squares, largest, steps,
            lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=0.0, eps=group["eps"], amsgrad=group["amsgrad"],
            maximize=False,
        )  # fmt: skip
    else:
        found = _adam_of_parts(group, grads, means, squares, largest, steps)
    if decoupled and group["weight_decay"] != 0:
        add_decay(found, weights, group)
    return Steps(found)


def _adam_of_parts(
    group: Mapping[str, Any], grads: Tensors, means: Tensors, squares: Tensors, largest: Tensors, steps: Tensors
) -> Tensors:
    """Adam's step, operation by operation."""
    beta1, beta2 = group["betas"]
    torch._foreach_lerp_(means, grads, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
    if largest:
        torch._foreach_maximum_(largest, squares)
        squares = largest
    roots = torch._foreach_sqrt(squares)
    times = _times_of(group, steps)
    rates = [group["lr"] / (1 - beta1**t) for t in times]
    corrections = [(1 - beta2**t) ** 0.5 for t in times]
    if any(isinstance(rate, Tensor) for rate in rates):
        torch._foreach_div_(roots, [c * -r for c, r in zip(corrections, rates, strict=True)])
        for root, rate in zip(roots, rates, strict=True):
            root.add_(group["eps"] / -rate)
        return _divided(means, roots, group["eps"])
    torch._foreach_div_(roots, corrections)
    torch._foreach_add_(roots, group["eps"])
    found = list(torch._foreach_mul(means, [-rate for rate in rates]))  # the product first, as torch's addcdiv does
    if group["eps"] == 0:
        return _divided(found, roots, 0.0)
    torch._foreach_div_(found, roots)
    return found


def adagrad(group: Mapping[str, Any], states: list[State], weights: Tensors, grads: Tensors) -> Steps:
    """-lr / (1 + (t - 1) lr_decay) * g / (sqrt(a) + eps) with a the sum of squares, its initial value included."""
    grads = _gradients(group, weights, grads)
    for state, grad in zip(states, grads, strict=True):
        if "sum" not in state:  # the native makes it when it is constructed, and not for groups that are added later
            state["sum"] = torch.full_like(grad, group["initial_accumulator_value"])
    steps, sums = _begin(group, states, grads, ()), _slots(states, "sum")
    torch._foreach_add_(steps, 1)
    torch._foreach_addcmul_(sums, grads, grads, 1)
    roots = torch._foreach_sqrt(sums)
    torch._foreach_add_(roots, group["eps"])
    rates = [-group["lr"] / (1 + (t - 1) * group["lr_decay"]) for t in _times_of(group, steps)]
    return Steps(_divided(grads, roots, group["eps"]), _vector(rates, grads[0]))


def rmsprop(group: Mapping[str, Any], states: list[State], weights: Tensors, grads: Tensors) -> Steps:
    """-lr g / (sqrt(v) + eps), or -lr times its heavy ball; ``centered`` takes the squared mean from v."""
    grads = _gradients(group, weights, grads)
    names = ["square_avg"]
    names += ["momentum_buffer"] if group["momentum"] > 0 else []
    names += ["grad_avg"] if group["centered"] else []
    steps = _begin(group, states, grads, tuple(names))
    alpha, squares = group["alpha"], _slots(states, "square_avg")
    torch._foreach_add_(steps, 1)
    torch._foreach_mul_(squares, alpha)
    torch._foreach_addcmul_(squares, grads, grads, 1 - alpha)
    if group["centered"]:
        means = _slots(states, "grad_avg")
        torch._foreach_lerp_(means, grads, 1 - alpha)
        roots = torch._foreach_addcmul(squares, means, means, -1)
        torch._foreach_sqrt_(roots)
    else:
        roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, group["eps"])
    if group["momentum"] > 0:
        buffers = _slots(states, "momentum_buffer")
        torch._foreach_mul_(buffers, group["momentum"])
        if group["eps"] == 0:
            torch._foreach_add_(buffers, _divided(grads, roots, 0.0))
        else:
            torch._foreach_addcdiv_(buffers, grads, roots)
        return Steps(buffers, equal_rates(grads, -group["lr"]), spare=False)
    return Steps(_divided(grads, roots, group["eps"]), equal_rates(grads, -group["lr"]))


RULES: dict[type, Rule] = {
    torch.optim.SGD: sgd,
    torch.optim.Adam: adam,
    torch.optim.AdamW: adam,
    torch.optim.Adagrad: adagrad,
    torch.optim.RMSprop: rmsprop,
}


def add_decay(steps: Tensors, weights: Tensors, group: Mapping[str, Any]) -> None:
    """Add decoupled decay, -lr weight_decay w, to steps that were made without it."""
    rate = -group["lr"] * group["weight_decay"]
    if isinstance(rate, Tensor):
        torch._foreach_add_(steps, list(torch._foreach_mul(list(weights), rate)))
    else:
        torch._foreach_add_(steps, weights, alpha=rate)


def decayed_gradients(group: Mapping[str, Any], weights: Tensors, grads: Tensors) -> Tensors:
    """The gradient that an optimizer with decay in the gradient goes down: g or, under ``maximize``, -g, plus decay."""
    return _gradients(group, weights, grads)


def _gradients(group: Mapping[str, Any], weights: Tensors, grads: Tensors, coupled: bool = True) -> Tensors:
    if group.get("maximize", False):
        grads = list(torch._foreach_neg(grads))
    if coupled and group["weight_decay"] != 0:
        grads = list(torch._foreach_add(grads, weights, alpha=group["weight_decay"]))
    return grads


def _begin(group: Mapping[str, Any], states: list[State], grads: Tensors, names: tuple[str, ...]) -> Tensors:
    """Make the state that is not there yet; the counters."""
    for state, grad in zip(states, grads, strict=True):
        if "step" not in state:
            there = group.get("capturable", False) or group.get("fused", False)
            wide = torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32
            state["step"] = torch.zeros((), dtype=wide, device=grad.device if there else "cpu")
        for name in names:
            if name not in state:
                state[name] = torch.zeros_like(grad, memory_format=torch.preserve_format)
    return _slots(states, "step")


def _slots(states: list[State], name: str) -> Tensors:
    return [state[name] for state in states]


def _vector(rates: list[Any], like: Tensor) -> Tensor:
    if not any(isinstance(rate, Tensor) for rate in rates):
        return torch.tensor(rates, dtype=torch.float64, device=like.device)
    return torch.cat([equal_rates([like], rate) for rate in rates])


def _times_of(group: Mapping[str, Any], steps: Tensors) -> list[Any]:
    """The counters as numbers, or as tensors where they live on the device or are being traced."""
    if group.get("capturable", False) or torch.compiler.is_compiling() or any(step.is_cuda for step in steps):
        return list(steps)
    return [float(step) for step in steps]


def _may_be_fused(group: Mapping[str, Any], tensors: Tensors) -> bool:
    """Whether torch's fused kernel may be used: it walks through memory as it lies, and was not refused by a flag."""
    if group.get("foreach") or group.get("fused") is False or torch.compiler.is_compiling() or group["eps"] == 0:
        return False
    there = group.get("fused") or (tensors[0].device.type == "cpu" and not group.get("capturable", False))
    return bool(there) and all(tensor.is_contiguous() for tensor in tensors)


def _divided(numerators: Tensors, denominators: Tensors, eps: float) -> Tensors:
    """a / b for each pair, in the place of b where that takes no launches of its own; b is 0 only where eps is."""
    if eps == 0:
        pairs = zip(numerators, denominators, strict=True)
        return [torch.where((b == 0) & torch.isfinite(a), 0.0, a / b) for a, b in pairs]
    if denominators[0].device.type != "cpu" or torch.compiler.is_compiling():
        return list(torch._foreach_div(numerators, denominators))
    return [torch.div(a, b, out=b) for a, b in zip(numerators, denominators, strict=True)]
