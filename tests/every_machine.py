"""Every machine of the spec under its options: one table for all tests that hold for all machines."""

import itertools
from collections.abc import Mapping, Sequence

from graftsim.machines import library

ARGUMENTS = {
    "rank_one": "v=[0.5, -2, 1, 0.25, -0.75, 3, 1]",
    "adafactor": "lr=0.1, eps1=0.001, least_size=1",
    "adadelta": "lr=0.5, eps=0.01",
    "adagrad": "lr=0.1, eps=0.01, initial_accumulator=0.1, lr_decay=0.05, momentum=0.9",
    "adam": "lr=where(step <= 2, 0.1, 0.01), eps=0.01",
    "adamax": "lr=0.1/sqrt(step), eps=0.01",
    "adamw": "lr=0.1/sqrt(step), eps=0.01, weight_decay=0.1",
    "amsgrad": "lr=0.1/sqrt(step), eps=0.01, beta2=0.9",
    "lamb": "lr=0.1/sqrt(step), eps=0.01, weight_decay=0.1, ratio_eps=0.01, ceiling=1",
    "lars": "lr=0.1/sqrt(step), trust=0.1, eps=0.01, weight_decay=0.1",
    "full_adagrad": "lr=0.1, cutoff=1e-3",
    "shampoo": "lr=0.1, eps=0.01",
    "adabelief": "lr=0.1/sqrt(step), eps=0.01, eps_root=0.001, beta2=0.9",
    "adan": "lr=0.1/sqrt(step), eps=0.01, eps_root=0.001",
    "fromage": "lr=0.1/sqrt(step), min_norm=0.01",
    "optimistic": "lr=1/sqrt(step), alpha=0.75, beta=0.5",
    "rprop": "initial_step=0.1, smallest=0.06, largest=0.12",
    "lion": "lr=0.1, beta2=0.9",
    "momentum": "lr=0.1/sqrt(step), dampening=0.25",
    "nadam": "lr=0.1/sqrt(step), eps=0.01, momentum_decay=0.5",
    "novograd": "lr=0.1/sqrt(step), eps=0.01, weight_decay=0.1",
    "radam": "lr=0.1/sqrt(step), eps=0.01, beta2=0.75, threshold=4.5",
    "rmsprop": "eps=0.01, momentum=0.5, initial_accumulator=0.1",
    "second_moment": "lr=0.1, eps=0.01, beta2=0.99",
    "sign_sgd": "lr=0.1/sqrt(step)",
    "signum": "lr=0.1/sqrt(step)",
    "yogi": "eps=0.01, beta2=0.9, initial_accumulator=0.001",
    "scaled": "factor={'all': 2.5}, partition=global",
    "corrected": "c0={'all': 0.5}, c1=0.25, c={'all': 2}, alpha=-0.5, scale=1/step, partition=global",
    "decay_decoupled": "weight_decay=0.1",
    "decay_first": "weight_decay=0.1",
    "decay_in_gradient": "weight_decay=0.1",
    "decay_outside": "weight_decay=0.1, rate=0.1",
}
CHILDREN = {
    "inner": "adam(lr=0.1, eps=0.01)",
    "magnitude": "adam(lr=0.1, eps=0.01)",
    "direction": "momentum(lr=0.5)",
}
MOST = 18
"""A machine with more combinations of options than these is tested under pairs of them."""


def choices(options: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Choices of all options: every combination, or where those are many, every two values together at least once.

    ``missing`` says what happens where a gradient is absent, and stands apart: one choice has its other value.
    """
    names = [name for name in options if name != "missing"]
    every = [dict(zip(names, values, strict=True)) for values in itertools.product(*(options[name] for name in names))]
    if len(every) > MOST:
        every = in_pairs(every)
    return every + ([{**every[-1], "missing": options["missing"][1]}] if "missing" in options else [])


def in_pairs(every: list[dict[str, str]]) -> list[dict[str, str]]:
    """Some of the choices, greedily, in which each two values of two options meet."""
    met = [set(itertools.combinations(choice.items(), 2)) for choice in every]
    open_pairs, chosen = set().union(*met), []
    while open_pairs:
        best = max(range(len(every)), key=lambda n: len(met[n] & open_pairs))
        chosen.append(every[best])
        open_pairs -= met[best]
    return chosen


def expressions(arguments: Mapping[str, str] = ARGUMENTS) -> list[str]:
    """Expressions of each machine under its options, with values that make every equation matter."""
    found = []
    for name in library().names():
        machine = library()[name]
        children = [CHILDREN[child] for child in machine.children]
        settings = [arguments[name]] if name in arguments else []
        for choice in choices(machine.options):
            options = [f"{option}={value}" for option, value in choice.items()]
            found.append(f"{name}({', '.join([*children, *settings, *options])})")
    return found


MATRICES = ("full_adagrad", "shampoo")
"""Machines that hold matrices: only the reference engine runs them, and tensors of rank 3 are refused."""

GRAFTS = [
    "adam#sgd",
    "graft(adam, adagrad(eps=0), partition=global)",
    "graft(momentum, adam, partition=coordinate)",
    "graft(adam, momentum, partition=row, eps=0.01, scale=1/step)",
    "graft(rmsprop, sgd, partition=block(2))",
    "graft(adam, sgd, partition=sets(a={'w': [0, 3]}, rest=None))",
    "(adam#sgd)#(rmsprop#adagrad)",
    "momentum_after(sgd#adagrad(eps=0), nesterov=on)",
    "decay_outside(decay_decoupled(adam)#decay_in_gradient(momentum), rate=0.1)",
    "in_place(adam)#in_place(sgd)",
    "lamb(lr=0.1)#novograd(eps=0)",
    "novograd(lr=0.1, partition=global)#lars(weight_decay=0.1)",
    "adafactor#lars(least_rank=2)",
    "graft(sgd, adafactor(least_size=2), partition=row)",
]
LAYOUT = {"w": (7,)}
"""The layout that every expression here fits."""
