"""What a constructor means: the row of its dialect that describes it, and the machine with all hyperparameters set."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graftsim import compiler, notation
from graftsim.errors import GraftsimError
from graftsim.machines import Domain
from graftsim.notation import Instance
from graftsim_conformance.cases import settled
from graftsim_conformance.constructors import Constructor, as_tuple, complete
from graftsim_conformance.dialects import Row, Target, fixed, paths
from graftsim_conformance.probes import LAYOUT


@dataclass(frozen=True)
class Reading:
    """What a constructor means: the row that describes it, and the machine with all hyperparameters set."""

    constructor: Constructor
    row: Row
    instance: Instance


def read(constructor: Constructor) -> Reading:
    """The row that describes a constructor and the machine that it then is: of several rows, the plainest.

    Raises:
        GraftsimError: no row describes these arguments together; a hyperparameter outside its domain.
    """
    fits = [(row, values) for row in constructor.target.rows if (values := _values(constructor, row)) is not None]
    fits = [(row, values) for row, values in fits if not _switched_off(constructor, row)]
    if not fits:
        odd = [name for name, value in constructor.arguments.items() if not _is_default(constructor, name, value)]
        told = ", ".join(f"{name}={constructor.arguments[name]!r}" for name in odd)
        raise GraftsimError(
            f"no row of the dialect of {constructor.name} describes {f'{told} together' if odd else 'its defaults'}"
            f"{_unset(constructor)}"
        )
    row, values = min(fits, key=lambda fit: len(fit[1]))
    instance = settled(row.instance, values)
    _check_domains(instance, row, constructor.name)
    return Reading(constructor, row, instance)


def _unset(constructor: Constructor) -> str:
    """What must be said because the native's default is no number: a learning rate of None, the eps of a dtype."""
    unset = [
        f"{name}={value!r}"
        for name, value in constructor.arguments.items()
        for row in constructor.target.rows
        if any(isinstance(path, str) and part is None for path, part in _pairs(row.arguments.get(name), value))
    ]
    return f"; give a number in place of None in {', '.join(dict.fromkeys(unset))}" if unset else ""


def _is_default(constructor: Constructor, name: str, value: Any) -> bool:
    defaults = constructor.target.defaults
    return name in defaults and _same(value, as_tuple(defaults[name]))


def _same(value: Any, other: Any) -> bool:
    """Equal, or one is None and the other zero: frameworks take both for off."""
    return bool(value == other) or (not value and not other and None in (value, other))


def _values(constructor: Constructor, row: Row) -> dict[str, float] | None:
    """The hyperparameters, by path, if the row describes the constructor; else None."""
    values: dict[str, float] = {}
    for name, value in constructor.arguments.items():
        source = row.arguments.get(name)
        if not paths(source):
            wanted = as_tuple(source) if name in row.arguments else as_tuple(constructor.target.defaults.get(name))
            if not _same(value, wanted):
                return None
            continue
        pairs = list(_pairs(source, value))
        if not pairs:
            return None
        for path, number in pairs:
            if not isinstance(path, str):
                if path != number:
                    return None
            elif isinstance(number, bool) or not isinstance(number, int | float):
                return None
            else:
                values[path] = float(number)
    return values


def _pairs(source: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """Each hyperparameter of an argument beside its value; nothing where their forms differ."""
    if isinstance(source, list):
        if isinstance(value, tuple) and len(value) == len(source):
            yield from zip(source, value, strict=True)
    else:
        yield source, value


def _switched_off(constructor: Constructor, row: Row) -> bool:
    """Whether the argument that a variant is named after is zero, as it is by default, and another row lacks it.

    Natives then leave that branch out altogether: torch.optim.SGD(momentum=0, dampening=0.5) has no dampening.
    """
    words = row.variant
    for name, source in row.arguments.items():
        off = paths(source) and not constructor.arguments[name] and not constructor.target.defaults.get(name)
        if off and name in words and any(name not in other.arguments for other in constructor.target.rows):
            return True
    return False


@functools.cache
def _domains(machine: str) -> dict[str, Domain]:
    program = compiler.build(notation.parse(machine), LAYOUT)
    return {path: parameter.domain for path, parameter in program.parameters.items()}


def _check_domains(instance: Instance, row: Row, name: str) -> None:
    domains = _domains(row.machine)
    natives = {path: keyword for keyword, source in row.arguments.items() for path in paths(source)}
    for path, value in fixed(instance).items():
        domain = domains[path]
        if value not in domain:
            raise GraftsimError(f"{name}, {natives.get(path, path)}: must lie in {domain.text}; received {value:g}")


# -- writing -----------------------------------------------------------------------------------------------------------


def write(target: Target, row: Row, values: Mapping[str, float]) -> Constructor:
    """The constructor of a row with hyperparameters by path, every default spelled out."""
    made = {name: _written(source, values) for name, source in row.arguments.items()}
    return complete(target, made)


def _written(source: Any, values: Mapping[str, float]) -> Any:
    if isinstance(source, list):
        return tuple(_written(each, values) for each in source)
    return float(values[source]) if isinstance(source, str) else source
