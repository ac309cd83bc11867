"""What adapters of frameworks are judged on: every machine of the golden cases, every graft of native optimizers."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graftsim import notation
from graftsim.notation import Instance
from graftsim_conformance import golden, posing
from graftsim_conformance.dialects import Row, fixed, rows
from graftsim_conformance.verdicts import CandidateError, Verdict

GRAFT = "graft"
ROLES = ("magnitude", "direction")


@functools.cache
def machines() -> tuple[str, ...]:
    """One expression of each machine that golden cases are of."""
    found = {golden.skeleton(notation.parse(machine)): machine for machine in posing.names().values()}
    return tuple(found.values())


@functools.cache
def with_all_gradients() -> tuple[str, ...]:
    """Those of them that have a case in which no gradient is missing."""
    return tuple(machine for machine in machines() if any(map(_whole, golden.names_of(notation.parse(machine)))))


def _whole(case: str) -> bool:
    return "missing" not in golden.stored(case).needs


@functools.cache
def firsts(among: tuple[str, ...]) -> frozenset[str]:
    """Of some expressions the first of each machine and partition, whatever its options and children."""
    found: dict[tuple[str, str], str] = {}
    for machine in among:
        instance = notation.parse(machine)
        found.setdefault((instance.machine.name, str(instance.partition)), machine)
    return frozenset(found.values())


@dataclass(frozen=True)
class Part:
    """A graft of two parts, or an optimizer of a framework under its row. Paths of its values begin with ``prefix``."""

    prefix: str
    instance: Instance
    row: Row | None = None
    children: tuple[Part, ...] = ()

    def own(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The values of its own hyperparameters, and of those within it, by path."""
        return {p.removeprefix(self.prefix): value for p, value in arguments.items() if p.startswith(self.prefix)}

    def native(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The keywords of an optimizer.

        Raises:
            CandidateError: a hyperparameter that the optimizer does not have is not what its row says; not supported.
        """
        assert self.row is not None
        values = self.own(arguments)
        for path, value in fixed(self.row.instance).items():
            if values.get(path, value) != value:
                reason = f"{self.row.target} has no {path} other than {value}"
                raise CandidateError(Verdict.NOT_SUPPORTED, reason)
        return self.row.native(values, {})

    def leaves(self) -> Iterator[Part]:
        """The optimizers in it."""
        if self.row is not None:
            yield self
        for child in self.children:
            yield from child.leaves()


def part(instance: Instance, framework: str, prefix: str = "") -> Part:
    """An expression as grafts of a framework's optimizers; ``framework`` is how their targets begin.

    Raises:
        CandidateError: one of them is no optimizer of the framework's dialects; not supported.
    """
    if instance.machine.name != GRAFT:
        found = _row(instance, framework)
        if found is None:
            reason = f"no optimizer of {framework.rstrip(':')} is {instance.machine.name} with these options"
            raise CandidateError(Verdict.NOT_SUPPORTED, reason)
        return Part(prefix, instance, found)
    made = {role: part(child, framework, f"{prefix}{role}.") for role, child in instance.children.items()}
    return Part(prefix, instance, None, tuple(made[role] for role in ROLES))


def _row(instance: Instance, framework: str) -> Row | None:
    """The row of a machine: one that leaves as much open as there is."""
    among = [row for row in rows() if row.target.startswith(framework)]
    found = [row for row in among if golden.skeleton(row.instance) == golden.skeleton(instance)]
    return min(found, key=lambda row: len(fixed(row.instance)), default=None)


def profiles(framework: str) -> Mapping[str, Sequence[str]]:
    """What the platform of a framework is known to do otherwise, by dtype, as its dialects say."""
    return next(row.profiles for row in rows() if row.target.startswith(framework))


def grafts(framework: str, among: tuple[str, ...]) -> tuple[str, ...]:
    """The golden grafts that a framework has the optimizers of; what these have fixed is written in.

    Without those over explicit sets, which cut through tensors as the groups of no adapter's graft do.
    """
    return tuple(graft for graft in _grafts(framework, among) if "partition=sets" not in graft)


def _grafts(framework: str, among: tuple[str, ...]) -> Iterator[str]:
    for machine in among:
        instance = notation.parse(machine)
        if instance.machine.name != GRAFT:
            continue
        try:
            yield _text(part(instance, framework))
        except CandidateError:
            continue


def _text(of: Part) -> str:
    if of.row is not None:
        return of.row.machine
    children = ", ".join(map(_text, of.children))
    return f"graft({children}, partition={of.instance.partition})"
