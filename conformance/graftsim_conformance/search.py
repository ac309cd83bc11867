"""The constructors of a framework that are a machine, or come nearest: candidates written, read again, and run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from graftsim import notation
from graftsim.errors import GraftsimError
from graftsim.notation import Instance
from graftsim_conformance import carrying, difference, readings
from graftsim_conformance.carrying import core, expression
from graftsim_conformance.constructors import package
from graftsim_conformance.dialects import Row, Target, targets
from graftsim_conformance.difference import FLOOR, Difference, Runs, Trajectories
from graftsim_conformance.readings import Reading

KEPT = 6
"""How many of the nearest by their distances alone are run in full."""

CHAINS: dict[str, dict[str, tuple[str, str]]] = {
    "optax": {
        "decay_in_gradient": (
            "decay_in_gradient({inner}, weight_decay={decay!r})",
            "optax.chain(optax.add_decayed_weights({decay!r}), {inner})",
        ),
        "decay_decoupled": (
            "decay_outside({inner}, weight_decay={scaled!r}, rate=1)",
            "optax.chain({inner}, optax.add_decayed_weights({minus!r}))",
        ),
    }
}
"""Framework to wrapper: the machine that a composition with a child's constructor is, and the composition."""


@dataclass(frozen=True)
class Match:
    """A constructor, or a composition around it, the machine that this is, and how far it is from what was sought."""

    reading: Reading
    rewritten: str
    instance: Instance
    difference: Difference
    at_changing_rate: Difference | None
    """The same where the learning rate changes; only of equivalent ones."""
    chain: str = "{inner}"

    def __str__(self) -> str:
        return self.chain.replace("{inner}", str(self.reading.constructor))


def search(source: Instance, to: str) -> list[Match]:
    """The equivalent ones, simplest first; else the nearest, and its like with the source's own numbers."""
    singles = _singles(source, to)
    if singles and singles[0].difference.same:
        return singles
    composed = list(_composed(source, to))
    equal = [match for match in composed if match.difference.same]
    return equal or _nearest([*singles, *composed])


def _singles(source: Instance, to: str) -> list[Match]:
    """As :func:`search`, of constructors alone; of several equivalent rows of a target only the simplest."""
    quick, judge = Trajectories(source).quick(), _Judge(source)
    scored: list[tuple[tuple[int, bool, int, int], Reading, str]] = []
    for place, (reading, rewritten) in enumerate(_candidates(source, to)):
        mean = difference.quick(quick, Trajectories(reading.instance).quick()).mean
        scored.append(
            ((_binade(mean), _is_other(source, reading), len(reading.row.arguments), place), reading, rewritten)
        )
    scored.sort(key=lambda each: each[0])
    kept = [judge.match(reading, rewritten) for _, reading, rewritten in scored[:KEPT]]
    equal = [match for match in kept if match.difference.same]
    equal.sort(key=lambda match: (not _at_any_rate(match), bool(match.rewritten), _is_other(source, match.reading)))
    if equal:
        simplest: dict[str, Match] = {}
        for match in equal:
            simplest.setdefault(match.reading.row.target, match)
        return list(simplest.values())
    alike = [each[1:] for each in scored if not _is_other(source, each[1])][:KEPT]
    return _nearest([judge.match(*each) for each in alike] or kept)


def _nearest(matches: list[Match]) -> list[Match]:
    """The nearest, of those as good as equal the first; and the same row with the source's own numbers."""
    ranked = sorted(matches, key=lambda match: _binade(match.difference.mean))
    return ranked[:1] + [match for match in ranked[1:] if ranked[0].rewritten and _is_plain_form(match, ranked[0])]


def _binade(distance: float) -> int:
    return round(math.log2(max(distance, 8 * FLOOR)))


def _is_other(source: Instance, reading: Reading) -> bool:
    return core(reading.instance).machine.name != core(source).machine.name


def _is_plain_form(match: Match, other: Match) -> bool:
    return not match.rewritten and match.reading.row is other.reading.row and match.chain == other.chain


def _at_any_rate(match: Match) -> bool:
    return match.at_changing_rate is not None and match.at_changing_rate.same


class _Judge:
    """Holds machines against one source, at its learning rate and, where they agree, where that changes."""

    def __init__(self, source: Instance) -> None:
        self._source, self._runs = source, Trajectories(source).full()
        self._changing: Runs | None = None

    def match(self, reading: Reading, rewritten: str, machine: str = "", chain: str = "{inner}") -> Match:
        """The match of a constructor, or of a machine that a chain around it is."""
        instance = notation.parse(machine) if machine else reading.instance
        found = difference.full(self._runs, Trajectories(instance).full())
        return Match(
            reading, rewritten, instance, found, self._where_it_changes(instance) if found.same else None, chain
        )

    def _where_it_changes(self, instance: Instance) -> Difference:
        if self._changing is None:
            self._changing = Trajectories(self._source, changing_rate=True).full()
        return difference.full(self._changing, Trajectories(instance, changing_rate=True).full())


def _composed(source: Instance, to: str) -> Iterator[Match]:
    """In a framework that composes: the wrapper there around what is found for the child."""
    if source.machine.name not in CHAINS.get(to, {}):
        return
    machine, chain = CHAINS[to][source.machine.name]
    (child,) = source.children.values()
    decay, lr = carrying.values_of(source)["weight_decay"], carrying.by_name(carrying.values_of(child)).get("lr", 1.0)
    scaled = float(Decimal(repr(decay)) * Decimal(repr(lr)))
    judge = _Judge(source)
    for match in _singles(child, to):
        is_machine = machine.format(inner=expression(match.instance), decay=decay, scaled=scaled)
        written = chain.format(inner="{inner}", decay=decay, minus=-scaled)
        yield judge.match(match.reading, match.rewritten, is_machine, written)


def _candidates(instance: Instance, to: str) -> Iterator[tuple[Reading, str]]:
    """Constructors worth running; each is read again, so that what is printed is what is compared."""
    tried = set()
    values = carrying.by_name(carrying.read_values(instance))
    rows = [(target, row) for target in targets().values() if package(target.path) == to for row in target.rows]
    for target, row in rows:
        for rewritten, bag in carrying.attempts(instance, values, row.instance):
            reading = _written(target, row, carrying.carried(bag, row))
            if reading is not None and str(reading.constructor) not in tried:
                tried.add(str(reading.constructor))
                yield reading, rewritten


def _written(target: Target, row: Row, values: carrying.Values | None) -> Reading | None:
    """The constructor of a row as a reader understands it; None where it cannot be written or is no optimizer."""
    if values is None:
        return None
    try:
        return readings.read(readings.write(target, row, values))
    except GraftsimError:
        return None
