"""Probes: start weights, gradients and hyperparameters that tell optimizers apart.

A stream is integers from a 64-bit mixing generator, turned into dyadic floats: the same numbers in every language and
for ever. Each stream hunts a kind of mistake, and each has a twin that starts at zero weights, since a weight of size
one hides a step of 1e-3 from the third digit on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.layouts import Layout

LAYOUT = Layout.of({"w": (3, 4), "b": (5,), "s": ()})
MASK = (1 << 64) - 1


def integers(seed: int) -> Iterator[int]:
    """64-bit integers: a Weyl sequence passed through an invertible mixing function (Steele, Lea & Flood 2014)."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        yield z ^ (z >> 31)


def dyadic(seed: int, low: int, high: int) -> Iterator[float]:
    """Floats +-(1 + k / 2^20) 2^e with e from ``low`` to ``high``: every binade as likely as another."""
    for z in integers(seed):
        sign = -1.0 if z & 1 else 1.0
        exponent = low + (z >> 1) % (high - low + 1)
        yield sign * (1 + (z >> 44) / 2.0**20) * 2.0**exponent


Gradients = list[NDArray[np.float64]]


def rows(values: Iterator[float], steps: int, size: int = LAYOUT.size) -> Gradients:
    """One flat gradient for each step."""
    return [np.array(list(islice(values, size))) for _ in range(steps)]


def mixed() -> Gradients:
    """Twelve binades side by side; some coordinates wait for their first gradient, some get a zero in between."""
    found = rows(dyadic(1, -8, 3), 8)
    for step, row in enumerate(found):
        row[(np.arange(LAYOUT.size) + 3 * step) % 7 == 0] = 0.0
        row[1 : 1 + max(0, 3 - step)] = 0.0
    return found


def tiny() -> Gradients:
    """Gradients far below eps, whose place in the denominator then decides the step."""
    return rows(dyadic(2, -30, -14), 6)


def spike() -> Gradients:
    """Ordinary, then one step 2^12 times as large, then quiet: what the state remembers shows."""
    sizes = [0, 0, 12, -6, -6, -10, -10, 0]
    return [row * 2.0**size for row, size in zip(rows(dyadic(3, -2, 0), len(sizes)), sizes, strict=True)]


def options() -> list[Any]:
    """Ordinary gradients; one tensor has none at the second step, and another at the third."""
    found = rows(dyadic(5, -3, 1), 4)
    parts = [list(LAYOUT.unflatten(row)) for row in found]
    return [found[0], [parts[1][0], None, parts[1][2]], [None, *parts[2][1:]], found[3]]


@dataclass(frozen=True)
class Probe:
    """A stream with the hyperparameters that go with it; ``lr`` is a list that is repeated over the steps."""

    gradients: Callable[[], list[Any]]
    values: Mapping[str, Any]
    about: str = ""


CONSTANT = {
    **{"momentum": 0.9, "beta1": 0.9, "weight_decay": 0.5, "scale": 1.0, "graft.eps": 0.0},
    **{"threshold": 5.0, "momentum_decay": 0.004, "yogi.initial_accumulator": 2.0**-10},
    **{"trust": 0.125, "ceiling": 0.75, "ratio_eps": 0.125},
    **{"beta3": 0.75, "eps_root": 2.0**-7, "alpha": 0.75, "beta": 0.5, "min_norm": 0.25},
    **{"initial_step": 0.125, "shrink": 0.5, "grow": 1.25, "smallest": 0.0625, "largest": 0.1875},
    **{"decay_power": -0.75, "beta2_cap": 0.75, "eps1": 2.0**-8, "eps2": 2.0**-3, "clip": 1.125, "least_size": 2.0},
    **{"least_rank": 2.0, "cutoff": 0.0, "adafactor.lr": [0.75, 0.5, 0.25]},
}
PROBES: dict[str, Probe] = {
    "mixed": Probe(
        mixed,
        {
            **CONSTANT,
            "lr": [0.1, 0.1, 0.01, 0.05, 0.2],
            **{"eps": 0.01, "beta2": 0.999, "rho": 0.9, "dampening": 0.25, "eps1": 0.25},
            **{"initial_accumulator": 0.0, "lr_decay": 0.125},
        },
        "a slip in any equation: gradients of twelve binades side by side, some of them zero, and a changing lr",
    ),
    "tiny": Probe(
        tiny,
        {
            **CONSTANT,
            "lr": [0.5, 0.05, 0.25],
            **{"eps": 0.03125, "beta2": 0.99, "rho": 0.99, "dampening": 0.0},
            **{"initial_accumulator": 0.0, "lr_decay": 0.0, "momentum_decay": 1.0},
        },
        "eps in another place: gradients far below it, so that the denominator is eps",
    ),
    "spike": Probe(
        spike,
        {
            **CONSTANT,
            "lr": [0.1, 0.02],
            **{"momentum": 0.75, "beta1": 0.5, "eps": 0.5, "beta2": 0.9, "rho": 0.75, "dampening": 0.5},
            **{"initial_accumulator": 0.1, "lr_decay": 0.5, "scale": 0.5, "graft.eps": 0.01, "trust": 2.0**-10},
        },
        "a mean with other weights, or a maximum that forgets: one gradient 2^12 times as large, then quiet",
    ),
}
"""With weight_decay = 1/2 every lr * weight_decay is above 2^-8, so that a decay in the wrong place shows."""


def start(zero: bool) -> NDArray[np.float64]:
    """Start weights: all zero, or of size one."""
    return np.zeros(LAYOUT.size) if zero else np.array(list(islice(dyadic(7, -2, 0), LAYOUT.size)))


def value(probe: Probe, path: str, machine: str) -> Any:
    """What a probe says of a hyperparameter: by its path, by machine and name, or by name; None where nothing.

    ``machine`` is the name of the machine that it belongs to.
    """
    name = path.split(".")[-1]
    keys = [path] * ("." in path) + [f"{machine}.{name}", name]
    return next((probe.values[key] for key in keys if key in probe.values), None)


def schedule(probe: Probe, path: str, machine: str, steps: int, default: float | None = None) -> list[float]:
    """The value of a hyperparameter at each step; its default where the probe says nothing."""
    found = value(probe, path, machine)
    found = default if found is None else found
    return [float(x) for x in islice(cycle(found if isinstance(found, list) else [found]), steps)]


EVERY = ("mixed", "mixed-zero", "tiny", "tiny-zero", "spike", "spike-zero")
SOME = ("mixed", "mixed-zero")

FLOAT32 = (
    *("sgd", "momentum-copy", "adagrad-outside", "rmsprop-outside", "adam-corrected"),
    *("lamb", "lion", "yogi", "adadelta"),
    *("decay_decoupled-adam-corrected", "graft-adam-sgd", "graft-sgd-adam", "graft-global-adagrad-momentum"),
)
"""Machines that are recorded in float32 too."""

_HEAVY = "momentum(form=heavy_ball, first_step"
_RADAM = "radam(otherwise=momentum, rectified"
NATIVE: dict[str, str] = {
    "sgd": "sgd",
    "momentum-accumulate": f"{_HEAVY}=accumulate)",
    "momentum-accumulate-nesterov": f"{_HEAVY}=accumulate, nesterov=on)",
    "momentum-copy": f"{_HEAVY}=copy)",
    "momentum-copy-nesterov": f"{_HEAVY}=copy, nesterov=on)",
    "adagrad-outside": "adagrad(eps_placement=outside)",
    "adagrad-inside": "adagrad(eps_placement=inside)",
    "rmsprop-outside": "rmsprop(eps_placement=outside)",
    "rmsprop-outside-centered": "rmsprop(eps_placement=outside, centered=on)",
    "rmsprop-outside-heavy_ball": "rmsprop(eps_placement=outside, momentum_form=heavy_ball)",
    "rmsprop-outside-centered-heavy_ball": "rmsprop(eps_placement=outside, centered=on, momentum_form=heavy_ball)",
    "rmsprop-outside-lr_inside": "rmsprop(eps_placement=outside, momentum_form=lr_inside)",
    "rmsprop-inside": "rmsprop(eps_placement=inside)",
    "rmsprop-inside-centered": "rmsprop(eps_placement=inside, centered=on)",
    "rmsprop-inside-lr_inside": "rmsprop(eps_placement=inside, momentum_form=lr_inside)",
    "rmsprop-inside-centered-lr_inside": "rmsprop(eps_placement=inside, centered=on, momentum_form=lr_inside)",
    "rmsprop-inside-bias_correction": "rmsprop(eps_placement=inside, bias_correction=on)",
    "rmsprop-inside-lr_inside-nesterov": "rmsprop(eps_placement=inside, momentum_form=lr_inside, nesterov=on)",
    "adadelta": "adadelta",
    "adam-corrected": "adam(eps_placement=corrected)",
    "adam-inside": "adam(eps_placement=inside)",
    "amsgrad-raw": "amsgrad(maximum=raw, eps_placement=corrected)",
    "amsgrad-corrected": "amsgrad(maximum=corrected, eps_placement=corrected)",
    "amsgrad-uncorrected": "amsgrad(maximum=uncorrected, eps_placement=corrected)",
    "adamax-in_max": "adamax(eps_placement=in_max)",
    "nadam-scheduled": "nadam(form=scheduled)",
    "nadam-constant": "nadam(form=constant)",
    "radam-above-hat": f"{_RADAM}=above, eps_placement=hat)",
    "radam-at_least-corrected": f"{_RADAM}=at_least, eps_placement=corrected)",
    "yogi": "yogi",
    "novograd": "novograd(averaging=off)",
    "lars-combined": "lars(norm_of=combined, form=lr_inside)",
    "lars-combined-nesterov": "lars(norm_of=combined, form=lr_inside, nesterov=on)",
    "lamb": "lamb(bias_correction=on, weight_norm=plain)",
    "lion": "lion",
    "sign_sgd": "sign_sgd",
    "signum": "signum",
    "decay_in_gradient-sgd": "decay_in_gradient(sgd)",
    "decay_in_gradient-momentum-copy": f"decay_in_gradient({_HEAVY}=copy))",
    "decay_in_gradient-adagrad-outside": "decay_in_gradient(adagrad(eps_placement=outside))",
    "decay_in_gradient-rmsprop-outside": "decay_in_gradient(rmsprop(eps_placement=outside))",
    "decay_in_gradient-adam-corrected": "decay_in_gradient(adam(eps_placement=corrected))",
    "decay_in_gradient-adadelta": "decay_in_gradient(adadelta)",
    "decay_in_gradient-amsgrad-raw": "decay_in_gradient(amsgrad(maximum=raw, eps_placement=corrected))",
    "decay_in_gradient-adamax-in_max": "decay_in_gradient(adamax(eps_placement=in_max))",
    "decay_in_gradient-nadam-scheduled": "decay_in_gradient(nadam(form=scheduled))",
    "decay_in_gradient-radam-above-hat": f"decay_in_gradient({_RADAM}=above, eps_placement=hat))",
    "decay_decoupled-adam-corrected": "decay_decoupled(adam(eps_placement=corrected))",
    "decay_decoupled-amsgrad-raw": "decay_decoupled(amsgrad(maximum=raw, eps_placement=corrected))",
    "decay_decoupled-adamax-in_max": "decay_decoupled(adamax(eps_placement=in_max))",
    "decay_decoupled-nadam-scheduled": "decay_decoupled(nadam(form=scheduled))",
    "decay_decoupled-nadam-constant": "decay_decoupled(nadam(form=constant))",
    "decay_decoupled-radam-above-hat": f"decay_decoupled({_RADAM}=above, eps_placement=hat))",
    "decay_decoupled-lion": "decay_decoupled(lion)",
    "momentum-lr_inside": "momentum(form=lr_inside)",
    "momentum-lr_inside-nesterov": "momentum(form=lr_inside, nesterov=on)",
    "adam-hat": "adam(eps_placement=hat)",
    "amsgrad-raw-hat": "amsgrad(maximum=raw, eps_placement=hat)",
    "adamax-outside": "adamax(eps_placement=outside)",
    "decay_decoupled-sgd": "decay_decoupled(sgd)",
    "decay_decoupled-momentum-lr_inside": "decay_decoupled(momentum(form=lr_inside))",
    "decay_decoupled-adagrad-inside": "decay_decoupled(adagrad(eps_placement=inside))",
    "decay_decoupled-rmsprop-inside": "decay_decoupled(rmsprop(eps_placement=inside))",
    "decay_decoupled-adam-hat": "decay_decoupled(adam(eps_placement=hat))",
    "rmsprop-outside-centered-lr_inside": "rmsprop(eps_placement=outside, centered=on, momentum_form=lr_inside)",
    "rmsprop-inside-centered-lr_inside-nesterov": (
        "rmsprop(eps_placement=inside, centered=on, momentum_form=lr_inside, nesterov=on)"
    ),
    "rmsprop-outside-bias_correction-lr_inside-nesterov": (
        "rmsprop(eps_placement=outside, bias_correction=on, momentum_form=lr_inside, nesterov=on)"
    ),
    "decay_decoupled-adam-inside": "decay_decoupled(adam(eps_placement=inside))",
    "adabelief": "adabelief(nesterov=off)",
    "adabelief-nesterov": "adabelief(nesterov=on)",
    "decay_decoupled-adan-new": "decay_decoupled(adan(lookahead=new))",
    "fromage": "fromage",
    "optimistic-sgd": "optimistic(sgd)",
    "optimistic-adam-corrected": "optimistic(adam(eps_placement=corrected))",
    "optimistic-nadam-constant": "optimistic(nadam(form=constant))",
    "rprop-late": "rprop(form=late)",
    "decay_decoupled-momentum-copy": f"decay_decoupled({_HEAVY}=copy))",
    "decay_decoupled-momentum-accumulate": f"decay_decoupled({_HEAVY}=accumulate))",
    "decay_decoupled-yogi": "decay_decoupled(yogi)",
    "novograd-averaging": "novograd(averaging=on)",
    "decay_decoupled-novograd": "decay_decoupled(novograd(averaging=off))",
    "lars-separate-heavy_ball": "lars(norm_of=separate, form=heavy_ball)",
    "lars-separate-heavy_ball-nesterov": "lars(norm_of=separate, form=heavy_ball, nesterov=on)",
    "lamb-in_rate-clamped-eps": "lamb(bias_correction=in_rate, weight_norm=clamped, guard=eps)",
    "decay_first-lamb-in_rate-clamped-eps": (
        "decay_first(lamb(bias_correction=in_rate, weight_norm=clamped, guard=eps))"
    ),
    "radam-at_least-hat": f"{_RADAM}=at_least, eps_placement=hat)",
    "radam-at_least-hat-skip": "radam(rectified=at_least, otherwise=skip, eps_placement=hat)",
    "decay_decoupled-radam-at_least-hat": f"decay_decoupled({_RADAM}=at_least, eps_placement=hat))",
    "decay_decoupled-sign_sgd": "decay_decoupled(sign_sgd)",
    "decay_decoupled-signum": "decay_decoupled(signum)",
    "adam-clamp": "adam(eps_placement=clamp)",
    "decay_decoupled-adam-clamp": "decay_decoupled(adam(eps_placement=clamp))",
    "rmsprop-clamp-bias_correction": "rmsprop(eps_placement=clamp, bias_correction=on)",
    "decay_decoupled-rmsprop-clamp-bias_correction": (
        "decay_decoupled(rmsprop(eps_placement=clamp, bias_correction=on))"
    ),
    "nadam-scheduled-clamp": "nadam(form=scheduled, eps_placement=clamp)",
    "decay_decoupled-nadam-scheduled-clamp": "decay_decoupled(nadam(form=scheduled, eps_placement=clamp))",
    "adafactor-clamp": "adafactor(eps1_placement=clamp)",
    "decay_decoupled-adafactor-clamp": "decay_decoupled(adafactor(eps1_placement=clamp))",
    "adafactor-relative": "adafactor(rate=relative)",
    "adafactor-plain": "adafactor(rate=plain)",
    "adafactor-plain-step": "adafactor(rate=plain, momentum_form=step)",
    "adafactor-plain-one": "adafactor(rate=plain, scale=one)",
    "rprop-immediate": "rprop(form=immediate)",
    "decay_first-lamb": "decay_first(lamb(bias_correction=on, weight_norm=plain))",
    "adafactor-add": "adafactor(eps1_placement=add)",
    "decay_first-adafactor-add": "decay_first(adafactor(eps1_placement=add))",
    "decay_decoupled-adamax-outside": "decay_decoupled(adamax(eps_placement=outside))",
    "decay_decoupled-adadelta": "decay_decoupled(adadelta)",
}
"""Machines that a native optimizer has; every stream is run on each."""

MATRICES: dict[str, str] = {
    "shampoo": "shampoo",
    "shampoo-before": "shampoo(momentum_form=before)",
    "shampoo-plain": "shampoo(scalars=plain)",
    "shampoo-before-plain": "shampoo(momentum_form=before, scalars=plain)",
    "full_adagrad": "full_adagrad",
}
"""Machines with matrices: every stream is posed, and no trajectory is stored."""

REFERENCE: dict[str, str] = {
    "momentum-ema": "momentum(form=ema)",
    "adagrad-raw_gradient": "adagrad(momentum_on=raw_gradient)",
    "adagrad-preconditioned": "adagrad(momentum_on=preconditioned)",
    "rmsprop-clamp": "rmsprop(eps_placement=clamp)",
    "adamw": "adamw",
    "lamb-in_rate-clamped": "lamb(bias_correction=in_rate, weight_norm=clamped)",
    "adan-kept": "adan(lookahead=kept)",
    "graft-adam-sgd": "adam#sgd",
    "graft-lamb-novograd": "lamb#novograd",
    "graft-sgd-adam": "sgd#adam",
    "graft-global-adagrad-momentum": "graft(adagrad, momentum, partition=global)",
}
"""Machines that are recorded for readers of the trajectories, and that no native optimizer here claims."""
