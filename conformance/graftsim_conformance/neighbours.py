"""Neighbours: which other options of the same machine a candidate that failed would agree with."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from graftsim import compiler
from graftsim.errors import GraftsimError
from graftsim.machines import library
from graftsim.notation import Instance
from graftsim_conformance.cases import Case, read_parameters, settled
from graftsim_conformance.dialects import Row, Target, fixed
from graftsim_conformance.follow import BUDGET, Recorded, follow

ALTERNATIVES = 64
DECAYS = ("decay_in_gradient", "decay_decoupled")

Trial = tuple[Case, list[Recorded]]


def hint(claim: Instance, row: Row, dialect: Target | None, trials: list[Trial]) -> str:
    """Which other options of the same machine would pass, those nearest to the claim first."""
    others = sorted(itertools.islice(alternatives(claim), ALTERNATIVES), key=lambda other: apart(claim, other))
    for other in others:
        if apart(claim, other) and all(agrees(other, trial, row.float32) for trial in trials):
            return f"it agrees with {', '.join(changes(claim, other))}"
    if dialect is not None and fixed(claim).items() - fixed(row.instance).items():
        defaults = ", ".join(f"{name}={value}" for name, value in dialect.defaults.items())
        return f"a hyperparameter in the expression is a claim about the native's own defaults, which are {defaults}"
    return "it agrees with no other options of this machine"


def agrees(machine: Instance, trial: Trial, float32: tuple[str, ...]) -> bool:
    case, steps = trial
    program = compiler.build(settled(machine, steps[0].settings), case.layout, case.dtype)
    if not set(read_parameters(program)) <= set(steps[0].settings):
        return False  # a hyperparameter that the case says nothing about
    found = follow(program, steps, float32, case.taken, case.state)
    try:
        return all(bool(np.all(comparison.units <= BUDGET)) for comparison in found)
    except GraftsimError:
        return False  # its state has not the sizes that the machine's has


def alternatives(instance: Instance) -> Iterator[Instance]:
    """The machine under every combination of options, and with the other forms of weight decay."""
    names = [name for name in instance.machine.options if name != "missing"]
    names_of_machines = DECAYS if instance.machine.name in DECAYS else (instance.machine.name,)
    inner = [list(alternatives(child)) for child in instance.children.values()]
    for name, *values in itertools.product(names_of_machines, *(instance.machine.options[name] for name in names)):
        machine = instance.machine if name == instance.machine.name else library()[name]
        for children in itertools.product(*inner):
            yield dataclasses.replace(
                instance,
                machine=machine,
                options={**instance.options, **dict(zip(names, values, strict=True))},
                children=dict(zip(instance.children, children, strict=True)),
            )


def changes(claim: Instance, other: Instance) -> Iterator[str]:
    if claim.machine.name != other.machine.name:
        yield other.machine.name
    for name in claim.machine.options:
        if claim.option(name) != other.option(name):
            yield f"{name}={other.option(name)}"
    for first, second in zip(claim.children.values(), other.children.values(), strict=True):
        yield from changes(first, second)


def short(instance: Instance) -> str:
    """The expression with the options that matter and the hyperparameters that were written."""
    parts = [short(child) for child in instance.children.values()]
    parts += [f"{name}={value:g}" for name, value in fixed(dataclasses.replace(instance, children={})).items()]
    parts += [f"{name}={instance.option(name)}" for name in instance.machine.options if name != "missing"]
    return f"{instance.machine.name}({', '.join(parts)})" if parts else instance.machine.name


def apart(first: Instance, second: Instance) -> int:
    """How many names and option values differ."""
    own = sum(
        first.option(name) != second.option(name) for name in first.machine.options.keys() & second.machine.options
    )
    own += first.machine.name != second.machine.name
    return own + sum(apart(a, b) for a, b in zip(first.children.values(), second.children.values(), strict=False))
