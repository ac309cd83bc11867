"""What adapters of frameworks are judged on: every machine of the golden cases, every graft of native optimizers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graftsim import notation
from graftsim.layouts import Array
from graftsim.notation import Instance
from graftsim_conformance import golden, posing
from graftsim_conformance.dialects import Row, fixed, rows
from graftsim_conformance.verdicts import CandidateError, Verdict

GRAFT = "graft"
ROLES = ("magnitude", "direction")
ONE_COUNT = ("keras.optimizers:",)
"""Frameworks that count steps for all tensors at once: where gradients lack their optimizers are ``missing=advance``
(GS-missing-counter), while their rows are about steps in which every tensor has one."""

FLUSHES: Mapping[str, Sequence[str]] = {"float32": ("flush-to-zero",), "float64": ("flush-to-zero",)}
"""What XLA and TensorFlow's kernels do on a CPU with subnormal numbers, by dtype."""

Values = Mapping[str, Any]
"""Hyperparameters by path."""


@functools.cache
def machines() -> tuple[str, ...]:
    """One expression of each machine that golden cases are of."""
    found = {golden.skeleton(notation.parse(machine)): machine for machine in posing.names().values()}
    return tuple(found.values())


@functools.cache
def with_all_gradients() -> tuple[str, ...]:
    """Those of them that have a case in which no gradient is missing."""
    lacking = posing.with_missing()
    return tuple(machine for machine in machines() if set(golden.names_of(notation.parse(machine))) - lacking)


@functools.cache
def firsts(among: tuple[str, ...]) -> frozenset[str]:
    """Of some expressions the first of each machine and partition, whatever its options and children."""
    found: dict[tuple[str, str], str] = {}
    for machine in among:
        instance = notation.parse(machine)
        found.setdefault((instance.machine.name, str(instance.partition)), machine)
    return frozenset(found.values())


def lawful(among: tuple[str, ...], compiled: bool) -> Callable[[str, str], bool]:
    """Where laws are tried, each of which compiles steps of its own: on the first expression of each machine and
    partition, and in the modes that compile only where ``compiled``."""
    return lambda machine, mode: (compiled or not mode) and machine in firsts(among)


def shared(slot: str, values: Array) -> Any:
    """What all tensors have in common, out of one number for each.

    Raises:
        CandidateError: they differ; not supported.
    """
    if (values != values[0]).any():
        raise CandidateError(Verdict.NOT_SUPPORTED, f"its {slot} is one number for all tensors")
    return values[0]


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

    def beside(self, held: Any) -> Iterator[tuple[Part, Any]]:
        """This part and all within it, each with what stands for it: a child is the attribute of its role."""
        yield self, held
        for role, child in zip(ROLES, self.children, strict=False):
            yield from child.beside(getattr(held, role))

    def leaves(self) -> Iterator[Part]:
        """The optimizers in it."""
        if self.row is not None:
            yield self
        for child in self.children:
            yield from child.leaves()

    @property
    def counts_missing(self) -> bool:
        """Whether every counter in it advances at the steps at which a tensor has no gradient."""
        return all(leaf.row is not None and _advances(leaf.row.instance) for leaf in self.leaves())


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
    found = _rows(framework).get(golden.skeleton(instance), [])
    return min(found, key=lambda row: len(fixed(row.instance)), default=None)


@functools.cache
def _rows(framework: str) -> dict[tuple[Any, ...], list[Row]]:
    """The rows of a framework, by the machine that they say its optimizers are."""
    among = [row for row in rows() if row.target.startswith(framework)]
    among += list(map(_advancing, among)) if framework in ONE_COUNT else []
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in among:
        found.setdefault(golden.skeleton(row.instance), []).append(row)
    return found


def _advancing(row: Row) -> Row:
    """The row of the same optimizer where gradients lack."""
    if "missing" not in row.instance.machine.options:
        return row
    name, _, given = row.machine.removesuffix(")").partition("(")
    return replace(row, machine=f"{name}({', '.join([*filter(None, [given]), 'missing=advance'])})")


def _advances(instance: Instance) -> bool:
    """Whether a machine's counters advance at the steps at which a tensor has no gradient; where it has none, yes."""
    own = "missing" not in instance.machine.options or instance.option("missing") == "advance"
    return own and all(map(_advances, instance.children.values()))


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
