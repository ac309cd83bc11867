"""``graftsim translate``: the constructor of another framework that is the same optimizer, every default spelled out.

The dialects say which machine a call is and which rows another framework has; hyperparameters are carried over, and
then both machines run (:mod:`graftsim_conformance.difference`). Names choose what is tried; only numbers decide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from graftsim import notation
from graftsim.errors import GraftsimError, nearest
from graftsim.notation import Instance
from graftsim_conformance import carrying, constructors, difference, readings
from graftsim_conformance.carrying import core, expression
from graftsim_conformance.constructors import package, packages
from graftsim_conformance.dialects import absent, targets
from graftsim_conformance.difference import FLOOR, Trajectories
from graftsim_conformance.readings import Reading
from graftsim_conformance.search import Match, search

SPEC = "spec"


@dataclass(frozen=True)
class Source:
    """What is translated: a machine with all hyperparameters set, read from a native call or from an expression."""

    text: str
    instance: Instance
    reading: Reading | None


@dataclass(frozen=True)
class Translation:
    """The outcome: the constructors that are equivalent, simplest first, or else the nearest."""

    source: Source
    to: str
    matches: tuple[Match, ...]
    reasons: tuple[str, ...] = ()

    @property
    def equivalent(self) -> bool:
        """Whether the source has an equivalent; in the spec everything that was understood has one."""
        return self.to == SPEC or (bool(self.matches) and self.matches[0].difference.same)


def frameworks() -> list[str]:
    """What a call can be translated to."""
    return [*packages(), SPEC]


def understood(text: str) -> Source:
    """The machine that a native call or a machine expression denotes.

    Raises:
        GraftsimError: unknown names; no literal; a value outside its domain; no row that describes the call.
    """
    if constructors.is_native(text) and "#" not in text:
        reading = readings.read(constructors.parse(text))
        return Source(str(reading.constructor), reading.instance, reading)
    instance = notation.parse(text)
    carrying.values_of(instance)
    return Source(expression(instance), instance, None)


def translate(text: str, to: str) -> Translation:
    """Translate a native call or a machine expression.

    Args:
        text: ``torch.optim.Adagrad(lr=0.1)`` or ``adagrad(lr=0.1)``; only literals are read, nothing is run.
        to: one of :func:`frameworks`.

    Raises:
        GraftsimError: as :func:`understood`; an unknown framework.
    """
    if to not in frameworks():
        raise GraftsimError(f"there is no dialect of {to!r}{nearest(to, frameworks())}")
    source = understood(text)
    if to == SPEC or _is_graft(source.instance):
        return Translation(source, to, ())
    matches = tuple(search(source.instance, to))
    reasons = () if not matches or matches[0].difference.same else tuple(_reasons(source.instance, matches[0]))
    return Translation(source, to, matches, reasons)


def _is_graft(instance: Instance) -> bool:
    return len(instance.children) > 1 or any(map(_is_graft, instance.children.values()))


def lack(translation: Translation) -> str:
    """What the other framework lacks: the machine, with the reason that its dialect gives, or an equivalent of it."""
    name, to = core(translation.source.instance).machine.name, translation.to
    names = {name}
    if translation.source.reading:
        names.add(translation.source.reading.constructor.name.rpartition(".")[2].lower())
    reason = next((f" ({other}: {why})" for other, why in absent().get(to, {}).items() if other.lower() in names), "")
    rows = [row for target in targets().values() if package(target.path) == to for row in target.rows]
    known = any(core(row.instance).machine.name == name for row in rows)
    return f"{to} has no {'equivalent' if known else name}{reason}"


# -- reasons -----------------------------------------------------------------------------------------------------------


def _reasons(source: Instance, match: Match) -> Iterator[str]:
    """What the other framework has differently: machines, options that change a number, hyperparameters."""
    other = match.instance
    wrappers, theirs = list(_chain(source)), list(_chain(other))
    if wrappers != theirs:
        yield f"it is {' of '.join(theirs)}, not {' of '.join(wrappers)}"
    first, second = core(source), core(other)
    if first.machine.name == second.machine.name:
        for name in first.machine.options:
            mine, its = first.option(name), second.option(name)
            if mine != its and _matters(first, name, its):
                yield f"{name} is {its}, not {mine}"
    values, others = (carrying.by_name(carrying.read_values(each)) for each in (source, other))
    for name in dict.fromkeys([*values, *others]):
        given, used = (each.get(name, carrying.NEUTRAL.get(name)) for each in (values, others))
        comparable = (name in values and name in others) or wrappers == theirs
        if comparable and given is not None and used is not None and given != used:
            yield f"{name} is {used:g}, not {given:g}"


def _chain(instance: Instance) -> Iterator[str]:
    yield instance.machine.name
    for child in instance.children.values():
        yield from _chain(child)


def _matters(instance: Instance, option: str, value: str) -> bool:
    """Whether an option, changed alone, changes any weight on the probes."""
    changed = dataclasses.replace(instance, options={**instance.options, option: value})
    try:
        found = difference.quick(Trajectories(instance).quick(), Trajectories(changed).quick())
    except GraftsimError:
        return True
    return max(found.distances.values()) > 8 * FLOOR
