"""Hyperparameters carried from one machine to another: by name, and by identities that turn one into another.

Nothing here is believed: :mod:`graftsim_conformance.translate` runs both machines for each of these attempts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal

from graftsim import compiler
from graftsim.errors import GraftsimError
from graftsim.notation import Instance, constant_value
from graftsim_conformance.cases import read_parameters
from graftsim_conformance.dialects import Row, paths
from graftsim_conformance.probes import LAYOUT

Values = dict[str, float]

SYNONYMS: dict[str, tuple[str, ...]] = {
    "rho": ("beta2",),
    "beta2": ("rho", "momentum"),
    "beta1": ("momentum",),
    "momentum": ("beta1",),
}
"""What a hyperparameter is called in other machines, where it is a mean of the same kind."""

NEUTRAL: Values = {
    **{"weight_decay": 0.0, "momentum": 0.0, "dampening": 0.0, "lr_decay": 0.0, "initial_accumulator": 0.0},
    **{"beta1": 0.0, "beta2": 0.0, "rate": 1.0, "factor": 1.0, "least_rank": 0.0},
}
"""The value at which a hyperparameter that the source does not have does nothing."""


def values_of(instance: Instance, prefix: str = "") -> Values:
    """Every hyperparameter by path, defaults too.

    Raises:
        GraftsimError: one that must be set is not, or is a schedule or a list.
    """
    found: Values = {}
    for name in instance.machine.hyperparameters:
        setting = instance.setting(name)
        if setting is None:
            raise GraftsimError(f"{prefix + name} must be set")
        value = None if isinstance(setting, Mapping | list) else constant_value(setting)
        if value is None:
            raise GraftsimError(f"{prefix + name}: only a number can be translated, no schedule and no list")
        found[prefix + name] = value
    for child, inner in instance.children.items():
        found |= values_of(inner, f"{prefix}{child}.")
    return found


def read_values(instance: Instance) -> Values:
    """The hyperparameters that some equation reads, by path."""
    values = values_of(instance)
    return {path: values[path] for path in read_parameters(compiler.build(instance, LAYOUT))}


def by_name(values: Mapping[str, float]) -> Values:
    """Values by their last name, less those of which there are several."""
    short = [path.rpartition(".")[2] for path in values]
    return {name: value for name, value in zip(short, values.values(), strict=True) if short.count(name) == 1}


def attempts(instance: Instance, bag: Values, other: Instance) -> Iterator[tuple[str, Values]]:
    """The values ``bag`` of the source, as they are and rewritten for ``other``; each with what was done to them.

    Rewriting is tried where both are the same machine under other options. The reasons: a root over a sum is near the
    root plus the root of the other; AdaGrad's eps under the root is a start of its sum; an average that has a factor
    1 - momentum or 1 - dampening has it in the learning rate as well.
    """
    yield "", bag
    first, second = core(instance), core(other)
    if first.machine.name != second.machine.name:
        return
    inside = [each.options.get("eps_placement") == "inside" for each in (first, second)]
    eps, lr = bag.get("eps", 0.0), bag.get("lr", 0.0)
    if eps > 0 and inside == [False, True]:
        yield "eps squared", bag | {"eps": float(_decimal(eps) ** 2)}
    if eps > 0 and inside == [True, False]:
        yield "the root of eps", bag | {"eps": math.sqrt(eps)}
        if "initial_accumulator" in bag and first.machine.name == "adagrad":
            start = float(_decimal(bag["initial_accumulator"]) + _decimal(eps))
            yield "eps added to the initial accumulator", bag | {"initial_accumulator": start, "eps": 0.0}
    if bag.get("dampening"):
        less = float(_decimal(lr) * (1 - _decimal(bag["dampening"])))
        yield "lr times 1 - dampening", bag | {"lr": less, "dampening": 0.0}
    if bag.get("momentum") and first.machine.name == "momentum":
        yield "lr times 1 - momentum", bag | {"lr": float(_decimal(lr) * (1 - _decimal(bag["momentum"])))}
    if bag.get("weight_decay") and lr > 0:
        decay, rate = bag["weight_decay"], bag.get("rate", 1.0)
        yield "weight decay over lr", bag | {"weight_decay": float(_decimal(rate) * _decimal(decay) / _decimal(lr))}
        yield "weight decay times lr", bag | {"weight_decay": float(_decimal(decay) * _decimal(lr)), "rate": 1.0}


def _decimal(value: float) -> Decimal:
    """The number as it is written, so that 0.1 + 1e-7 is 0.1000001 and 1e-10 squared is 1e-20."""
    return Decimal(repr(value))


def core(instance: Instance) -> Instance:
    """The innermost machine of a chain of wrappers."""
    return core(next(iter(instance.children.values()))) if len(instance.children) == 1 else instance


def carried(bag: Mapping[str, float], row: Row) -> Values | None:
    """A value for each hyperparameter that a row's arguments set, by path; None where one outright lacks a source."""
    defaults = by_name(values_of(row.instance))
    found: Values = {}
    for path in sorted(set().union(*map(paths, row.arguments.values()))):
        name = path.rpartition(".")[2]
        known = [bag[other] for other in (name, *SYNONYMS.get(name, ())) if other in bag]
        value = known[0] if known else NEUTRAL.get(name, defaults.get(name))
        if value is None:
            return None
        found[path] = value
    return found


def expression(instance: Instance, prefix: str = "", read: set[str] | None = None) -> str:
    """A machine as an expression with every hyperparameter that is read, and every option but ``missing``."""
    read = set(read_values(instance)) if read is None else read
    parts = [expression(child, f"{prefix}{name}.", read) for name, child in instance.children.items()]
    values = values_of(dataclasses.replace(instance, children={}))
    parts += [f"{name}={value!r}" for name, value in values.items() if prefix + name in read]
    parts += [f"{name}={instance.option(name)}" for name in instance.machine.options if name != "missing"]
    parts += [f"partition={instance.partition}"] if instance.partition else []
    return f"{instance.machine.name}({', '.join(parts)})" if parts else instance.machine.name
