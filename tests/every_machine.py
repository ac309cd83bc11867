"""Every machine of the spec in every choice of its options: one table for all tests that hold for all machines."""

import itertools

from graftsim.machines import library

ARGUMENTS = {
    "rank_one": "v=[0.5, -2, 1, 0.25, -0.75, 3, 1]",
    "adagrad": "lr=0.1, eps=0.01, initial_accumulator=0.1, lr_decay=0.05, momentum=0.9",
    "rmsprop": "eps=0.01, momentum=0.5",
    "adam": "lr=where(step <= 2, 0.1, 0.01), eps=0.01",
    "momentum": "lr=0.1/sqrt(step), dampening=0.25",
    "second_moment": "lr=0.1, eps=0.01, beta2=0.99",
    "scaled": "factor={'all': 2.5}, partition=global",
    "decay_decoupled": "weight_decay=0.1",
    "decay_in_gradient": "weight_decay=0.1",
    "decay_outside": "weight_decay=0.1, rate=0.1",
}
CHILDREN = {
    "inner": "adam(lr=0.1, eps=0.01)",
    "magnitude": "adam(lr=0.1, eps=0.01)",
    "direction": "momentum(lr=0.5)",
}


def expressions() -> list[str]:
    """One expression for each machine and choice of options, with values that make every equation matter."""
    found = []
    for name in library().names():
        machine = library()[name]
        children = [CHILDREN[child] for child in machine.children]
        for values in itertools.product(*machine.options.values()):
            options = [f"{option}={value}" for option, value in zip(machine.options, values, strict=True)]
            settings = [ARGUMENTS[name]] if name in ARGUMENTS else []
            found.append(f"{name}({', '.join([*children, *settings, *options])})")
    return found


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
]
LAYOUT = {"w": (7,)}
"""The layout that every expression here fits."""
