"""Machines as they stand in their files: hyperparameters, options, state, children and equations.

A machine file is checked against its JSON Schema and against the rules of ``spec/language.md`` when it is
read, in every combination of its options; what comes out of here is well formed.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from graftsim import documents, expressions
from graftsim.errors import GraftsimError, nearest
from graftsim.expressions import Apply, Expression, Name


@dataclass(frozen=True)
class Domain:
    """The values that a hyperparameter may take: an interval of the reals, such as ``[0, 1)`` or ``>= 0``."""

    text: str
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    @staticmethod
    def parse(text: str, where: str) -> Domain:
        if match := re.fullmatch(r"(>=?)\s*(\S+)", text):
            return Domain(text, low=_number(match[2], where), low_open=match[1] == ">")
        if match := re.fullmatch(r"([\[(])\s*([^,\s]+)\s*,\s*([^,\s]+)\s*([\])])", text):
            low, high = _number(match[2], where), _number(match[3], where)
            return Domain(text, low, high, match[1] == "(", match[4] == ")")
        raise GraftsimError(f"{where}: a domain is '>= a', '> a' or an interval such as '[0, 1)'; received {text!r}")

    def covers(self, value: Any) -> Any:
        """Whether a number, or each of an array, lies in the domain; infinities and NaN do not."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above & below & (value - value == 0)

    def __contains__(self, value: float) -> bool:
        return bool(self.covers(value))


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise GraftsimError(f"{where}: {text!r} is not a number") from None


@dataclass(frozen=True)
class Hyperparameter:
    """A number that the user may set. ``default`` is None where the user must set it."""

    name: str
    default: float | None
    domain: Domain
    schedulable: bool
    about: str


@dataclass(frozen=True)
class Slot:
    """One piece of state. A ``counter`` is an integer per tensor, a ``scalar`` a float64 per tensor, a ``group``
    value a float64 per group of the machine's partition or of ``over``, a ``coordinate`` value has the shape of the
    weights, a ``matrix`` per tensor has ``shape``, two of ``rows``, ``cols`` and ``size``."""

    name: str
    kind: str
    initial: Expression
    about: str
    over: str = ""
    shape: tuple[str, ...] = ()


@dataclass(frozen=True)
class Equation:
    """``target = expression``, as written."""

    target: str
    expression: Expression
    text: str


@dataclass(frozen=True)
class Choice:
    """Equations that depend on the value of an option."""

    option: str
    cases: Mapping[str, tuple[Step, ...]]


@dataclass(frozen=True)
class Fork:
    """Two lists of equations, of which each tensor takes one by a condition on its rank and size."""

    condition: Expression
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...]


Step = Equation | Choice | Fork


@dataclass(frozen=True)
class Machine:
    """An optimizer as data; see ``spec/language.md``."""

    name: str
    title: str
    source: str
    hyperparameters: Mapping[str, Hyperparameter]
    options: Mapping[str, tuple[str, ...]]
    partition: str | None
    children: Mapping[str, str | None]
    inputs: Mapping[str, Mapping[str, Expression]]
    state: Mapping[str, Slot]
    step: tuple[Step, ...]
    info: tuple[str, ...]
    notes: tuple[str, ...] = ()
    path: str = field(default="", compare=False)

    def equations(self, options: Mapping[str, str]) -> tuple[Equation, ...]:
        """The equations in force under a full assignment of options, with no fork left."""
        return tuple(_resolve(self.step, options, set(self.state)))


def _resolve(steps: Iterable[Step], options: Mapping[str, str], state: set[str]) -> Iterator[Equation]:
    for item in steps:
        match item:
            case Equation():
                yield item
            case Choice(option, cases):
                yield from _resolve(cases[options[option]], options, state)
            case Fork(condition, then, otherwise):
                first, second = (list(_resolve(rows, options, state)) for rows in (then, otherwise))
                yield from _joined(condition, first, second, state)


def _joined(
    condition: Expression, then: list[Equation], otherwise: list[Equation], state: set[str]
) -> Iterator[Equation]:
    """A fork as plain equations (GS-language-when): both lists under names of their own, then the choice between
    what both assign; state that only one list assigns stays as it was in the other."""
    names = [
        {row.target: f"{row.target}|{side}" for row in rows} for rows, side in ((then, "then"), (otherwise, "else"))
    ]
    for rows, own in zip((then, otherwise), names, strict=True):
        made: dict[str, str] = {}
        for row in rows:
            yield Equation(own[row.target], expressions.renamed(row.expression, made), row.text)
            made[row.target] = own[row.target]
    first, second = names
    for name in [*first, *(name for name in second if name not in first)]:
        if "|" not in name and (name in state or (name in first and name in second)):
            sides = tuple(Name(own.get(name, name)) for own in names)
            chosen = Apply("where", (condition, *sides))
            yield Equation(name, chosen, f"{name} = {expressions.unparse(chosen)}")


def read(path: Path | Traversable) -> Machine:
    """Read and check one machine file."""
    return from_document(documents.read_yaml(path), str(path))


def from_document(document: Any, where: str) -> Machine:
    """Build a machine from the value of its YAML document; ``where`` names the file in errors."""
    documents.validate(document, "machine", where)
    machine = Machine(
        name=document["machine"],
        title=document["title"],
        source=document["source"],
        hyperparameters={
            name: _hyperparameter(name, row, where) for name, row in document.get("hyperparameters", {}).items()
        },
        options={name: tuple(values) for name, values in document.get("options", {}).items()},
        partition=document.get("partition"),
        children=_children(document.get("children", [])),
        inputs={
            child: {name: expressions.parse(text, f"{where}, inputs of {child}") for name, text in row.items()}
            for child, row in document.get("inputs", {}).items()
        },
        state={
            name: Slot(
                name,
                row["kind"],
                expressions.parse(str(row.get("initial", 0)), f"{where}, state {name}"),
                row.get("about", ""),
                row.get("over", ""),
                tuple(row.get("shape", ())),
            )
            for name, row in document.get("state", {}).items()
        },
        step=_steps(document["step"], document.get("options", {}), where),
        info=tuple(document.get("info", [])),
        notes=tuple(document.get("notes", [])),
        path=where,
    )
    _check(machine, where)
    return machine


def _hyperparameter(name: str, row: Mapping[str, Any], where: str) -> Hyperparameter:
    place = f"{where}, hyperparameter {name}"
    domain = Domain.parse(row.get("domain", "(-inf, inf)"), place)
    default = row.get("default")
    if default is not None and float(default) not in domain:
        raise GraftsimError(f"{place}: the default must lie in {domain.text}; received {default}")
    value = None if default is None else float(default)
    return Hyperparameter(name, value, domain, row.get("schedulable", False), row.get("about", ""))


def _children(rows: list[str] | Mapping[str, str]) -> dict[str, str | None]:
    return dict(rows) if isinstance(rows, Mapping) else dict.fromkeys(rows)


def _steps(items: list[Any], options: Mapping[str, Any], where: str) -> tuple[Step, ...]:
    return tuple(_step(item, options, f"{where}, step {number}") for number, item in enumerate(items, 1))


def _step(item: Any, options: Mapping[str, Any], where: str) -> Step:
    if isinstance(item, str):
        target, equals, text = item.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z]\w*", target.strip()) or text.startswith("="):
            raise GraftsimError(f"{where}: an equation must read 'name = expression'; received {item!r}")
        return Equation(target.strip(), expressions.parse(text, f"{where}, {target.strip()!r}"), item.strip())
    if "then" in item:
        condition = expressions.parse(item["when"], f"{where}, when")
        if not isinstance(condition, Apply) or condition.operator not in expressions.COMPARISONS:
            raise GraftsimError(f"{where}: 'when' must be a comparison; received {item['when']!r}")
        sides = (_steps(item[side], options, f"{where}, {side}") for side in ("then", "else"))
        return Fork(condition, *sides)
    ((option, cases),) = item.items()
    if option not in options:
        raise GraftsimError(f"{where}: {option!r} is not an option of this machine{nearest(option, options)}")
    if set(cases) != set(options[option]):
        raise GraftsimError(
            f"{where}: the cases of {option} must be {', '.join(options[option])}; received {', '.join(cases)}"
        )
    listed = {value: rows if isinstance(rows, list) else [rows] for value, rows in cases.items()}
    return Choice(option, {value: _steps(rows, options, f"{where}, {value}") for value, rows in listed.items()})


OF_EVERY_MACHINE = ("w", "g", "step")
TENSOR_CONSTANTS = ("rank", "size", "rows", "cols")


def _check(machine: Machine, where: str) -> None:
    """Names are known where they are read, assigned once, and ``delta`` comes out, in every choice of options."""
    reserved = {*OF_EVERY_MACHINE, *TENSOR_CONSTANTS, "delta"}
    given = [*machine.hyperparameters, *machine.state, *machine.options, *machine.children]
    for name in given:
        if name in reserved or given.count(name) > 1:
            raise GraftsimError(f"{where}: {name!r} has another meaning already; choose another name")
    for child in machine.inputs:
        if child not in machine.children:
            raise GraftsimError(f"{where}: inputs of {child!r}, which is no child{nearest(child, machine.children)}")
    known = {*OF_EVERY_MACHINE, *TENSOR_CONSTANTS, *machine.hyperparameters, *machine.state}
    for child, row in machine.inputs.items():
        for expression in row.values():
            _check_names(expression, known, {child: None}, f"{where}, inputs of {child}")
    for slot in machine.state.values():
        known_first = {*machine.hyperparameters, *TENSOR_CONSTANTS}
        _check_names(slot.initial, known_first, {}, f"{where}, initial value of {slot.name}")
        if bool(slot.shape) != (slot.kind == "matrix") or (slot.over and slot.kind != "group"):
            raise GraftsimError(
                f"{where}, state {slot.name}: a matrix has a shape, and nothing but a group is over one"
            )
    for condition in _conditions(machine.step):
        _check_names(condition, {*TENSOR_CONSTANTS, *machine.hyperparameters}, {}, f"{where}, when")
    for values in itertools.product(*machine.options.values()):
        _check_equations(machine, dict(zip(machine.options, values, strict=True)), known, where)


def _conditions(steps: Iterable[Step]) -> Iterator[Expression]:
    for item in steps:
        match item:
            case Choice(_, cases):
                for rows in cases.values():
                    yield from _conditions(rows)
            case Fork(condition, then, otherwise):
                yield condition
                yield from _conditions((*then, *otherwise))


def _check_equations(machine: Machine, options: Mapping[str, str], known: set[str], where: str) -> None:
    assigned: set[str] = set()
    for equation in machine.equations(options):
        place = f"{where}, {equation.text!r}"
        _check_names(equation.expression, known | assigned, machine.children, place)
        if equation.target in assigned:
            raise GraftsimError(f"{place}: {equation.target} must be assigned once in a step")
        if equation.target in known - set(machine.state):
            raise GraftsimError(f"{place}: {equation.target} is not state and cannot be assigned")
        assigned.add(equation.target)
    missing = {"delta", *machine.info} - assigned
    if missing:
        raise GraftsimError(f"{where}: {min(missing)} must be assigned under {dict(options) or 'the only choice'}")


def _check_names(expression: Expression, known: set[str], children: Mapping[str, Any], where: str) -> None:
    for name in expressions.names(expression):
        child, dot, _ = name.partition(".")
        if dot and child not in children:
            raise GraftsimError(f"{where}: {child!r} is not a child{nearest(child, children)}")
        if not dot and name not in known:
            raise GraftsimError(f"{where}: unknown name {name!r}{nearest(name, known)}")


class Library:
    """The machines that an expression may name: those of the spec, and files that the user adds."""

    def __init__(self, extra: Iterable[Path] = ()) -> None:
        folder = documents.spec() / "machines"
        self._files: dict[str, Path | Traversable] = {
            file.name.removesuffix(".yaml"): file
            for file in sorted(folder.iterdir(), key=lambda file: file.name)
            if file.name.endswith(".yaml")
        }
        self._read: dict[str, Machine] = {}
        for path in extra:
            machine = read(path)
            if machine.name in self._files:
                raise GraftsimError(f"{path}: the library has a machine {machine.name!r} already; choose another name")
            self._files[machine.name] = path
            self._read[machine.name] = machine

    def with_machine(self, machine: Machine) -> Library:
        """The same machines, with another definition of one of them."""
        found = Library()
        found._files = {**self._files, machine.name: Path(machine.path)}
        found._read = {**self._read, machine.name: machine}
        return found

    def names(self) -> list[str]:
        return sorted(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Machine:
        if name not in self._files:
            raise GraftsimError(f"unknown machine {name!r}{nearest(name, self._files)}")
        if name not in self._read:
            machine = read(self._files[name])
            if machine.name != name:
                raise GraftsimError(f"{self._files[name]}: the machine must be named {name!r} as its file is")
            self._read[name] = machine
        return self._read[name]


@functools.cache
def library() -> Library:
    """The machines of the spec."""
    return Library()
