"""Named schedules: functions of the step as data, written out where a hyperparameter's value calls them.

A call such as ``linear_warmup(steps=5)`` stands for the plain expression that one gets by putting the arguments into
the schedule's equations. Engines, bounds and tables see that expression only. ``spec/schedules.md`` is normative.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from graftsim import documents, expressions
from graftsim.errors import GraftsimError, nearest
from graftsim.expressions import Apply, Calls, Expression, Name, Number
from graftsim.machines import Domain

CLOCK = "t"
"""The name of a schedule's own clock in its equations."""

NODES = 2000
"""The most numbers, names and operators that one call may come to."""


@dataclass(frozen=True)
class Argument:
    """A number that a call gives. ``default`` is None where it must."""

    default: float | None
    domain: Domain
    integer: bool
    about: str

    def check(self, value: float, place: str) -> None:
        if value not in self.domain:
            raise GraftsimError(f"{place}: must lie in {self.domain.text}; received {value:g}")
        if self.integer and not value.is_integer():
            raise GraftsimError(f"{place}: must be an integer; received {value:g}")


BEGIN = Argument(0.0, Domain.parse("[0, 1e15]", "begin"), True, "steps before the schedule's own first step")
"""The argument of every schedule that shifts its clock."""


@dataclass(frozen=True)
class Example:
    """A call and its exact values at some steps."""

    call: str
    values: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Schedule:
    """A schedule as its file has it; the texts of ``let`` and ``value`` are expressions in ``t`` and the arguments."""

    name: str
    title: str
    source: str
    arguments: Mapping[str, Argument]
    let: Mapping[str, str]
    value: str
    notes: tuple[str, ...]
    examples: tuple[Example, ...]
    path: str


def read(path: Path | Traversable) -> Schedule:
    """Read and check one schedule file."""
    return from_document(documents.read_yaml(path), str(path))


def from_document(document: Any, where: str) -> Schedule:
    """A schedule from the value of its YAML document; ``where`` names the file in errors.

    Raises:
        GraftsimError: the document does not follow its schema, or a name has two meanings.
    """
    documents.validate(document, "schedule", where)
    arguments = {name: _argument(row, f"{where}, {name}") for name, row in document.get("arguments", {}).items()}
    let = document.get("let", {})
    taken = {"step", CLOCK, "begin", *expressions.FUNCTIONS}
    for name in [*arguments, *let, document["schedule"]]:
        if name in taken:
            raise GraftsimError(f"{where}: {name!r} has another meaning already; choose another name")
        taken.add(name)
    return Schedule(
        name=document["schedule"],
        title=document["title"],
        source=document["source"],
        arguments={**arguments, "begin": BEGIN},
        let=let,
        value=document["value"],
        notes=tuple(document.get("notes", [])),
        examples=tuple(
            Example(row["call"], tuple((int(step), float(value)) for step, value in row["values"]))
            for row in document["examples"]
        ),
        path=where,
    )


def _argument(row: Mapping[str, Any], place: str) -> Argument:
    domain = Domain.parse(row.get("domain", "(-inf, inf)"), place)
    default = float(row["default"]) if "default" in row else None
    argument = Argument(default, domain, row.get("integer", False), row["about"])
    if default is not None:
        argument.check(default, f"{place}, default")
    return argument


@functools.cache
def library() -> Mapping[str, Schedule]:
    """The schedules of the spec, by name."""
    found = {}
    for file in sorted((documents.spec() / "schedules").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            schedule = read(file)
            if f"{schedule.name}.yaml" != file.name:
                raise GraftsimError(f"{file}: the schedule must be named {file.name.removesuffix('.yaml')!r}")
            found[schedule.name] = schedule
    return found


def calls(known: Mapping[str, Schedule] | None = None) -> Calls:
    """What a hyperparameter's value may call: each schedule on the run's clock."""
    return _calls(library() if known is None else known, Name("step"), {}, ())


def _calls(
    known: Mapping[str, Schedule], clock: Expression, values: Mapping[str, Expression], within: tuple[str, ...]
) -> Calls:
    def call(name: str) -> Callable[[ast.Call, str], Expression]:
        return lambda tree, where: _Expansion(known, clock, values, within).of(known[name], tree, where)

    return {name: call(name) for name in known}


@dataclass(frozen=True)
class _Expansion:
    """A call seen from where it stands: the clock there, and the values of the names that its arguments may use."""

    known: Mapping[str, Schedule]
    clock: Expression
    values: Mapping[str, Expression]
    within: tuple[str, ...]

    def of(self, schedule: Schedule, tree: ast.Call, where: str) -> Expression:
        """The expression that a call stands for (GS-schedule-expansion)."""
        if schedule.name in self.within:
            loop = " -> ".join([*self.within[self.within.index(schedule.name) :], schedule.name])
            raise GraftsimError(f"{where}: a schedule must not call itself: {loop}")
        given = self.arguments(schedule, tree, where)
        begin = given.pop("begin").value
        clock = Apply("max", (Apply("sub", (self.clock, Number(begin))), Number(1.0))) if begin else self.clock
        names: dict[str, Expression] = {CLOCK: clock, **given}
        for name, text in {**schedule.let, "": schedule.value}.items():
            place = f"{schedule.path}, {name or 'value'}"
            inner = _calls(self.known, Name(CLOCK), names, (*self.within, schedule.name))
            body = expressions.from_ast(expressions.python_ast(text, place), text, place, calls=inner)
            names[name] = _substituted(body, names, place)
            if _size(names[name]) > NODES:
                raise GraftsimError(f"{where}: {schedule.name} comes to more than {NODES} numbers, names and operators")
        return names[""]

    def arguments(self, schedule: Schedule, tree: ast.Call, where: str) -> dict[str, Number]:
        """The number for each argument, given or by default, checked (GS-schedule-arguments)."""
        named = [keyword.arg or "**" for keyword in tree.keywords]
        if tree.args or "**" in named:
            takes = ", ".join(schedule.arguments)
            raise GraftsimError(f"{where}: {schedule.name} takes its arguments by name: {takes}")
        found: dict[str, Number] = {}
        for keyword in tree.keywords:
            name = str(keyword.arg)
            if name not in schedule.arguments:
                hint = nearest(name, schedule.arguments)
                raise GraftsimError(f"{where}: {schedule.name} has no argument {name!r}{hint}")
            if name in found:
                raise GraftsimError(f"{where}: {schedule.name} was given its {name} twice")
            place = f"{where}: {schedule.name}, {name}"
            found[name] = self.constant(keyword.value, place)
            schedule.arguments[name].check(found[name].value, place)
        for name, argument in schedule.arguments.items():
            if name not in found:
                if argument.default is None:
                    raise GraftsimError(f"{where}: {schedule.name} needs its {name}: {schedule.name}({name}=...)")
                found[name] = Number(argument.default)
        return found

    def constant(self, tree: ast.expr, place: str) -> Number:
        text = ast.unparse(tree)
        value = _constant(_substituted(expressions.from_ast(tree, text, place), self.values, place))
        if value is None:
            raise GraftsimError(f"{place}: must be a number, or + - * / of numbers; received {text[:60]!r}")
        return Number(value)


_EXACT: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
}


def _constant(expression: Expression) -> float | None:
    """The value of + - * / of numbers, each rounded to float64 once; None for anything else, or beyond the range."""
    match expression:
        case Number(value):
            return value
        case Apply("neg", (one,)):
            inner = _constant(one)
            return None if inner is None else -inner
        case Apply("add" | "sub" | "mul" | "div" as operator, (left, right)):
            a, b = _constant(left), _constant(right)
            if a is None or b is None or (operator == "div" and b == 0):
                return None
            found = a / b if operator == "div" else _EXACT[operator](a, b)
            return found if math.isfinite(found) else None
    return None


def _substituted(expression: Expression, values: Mapping[str, Expression], place: str) -> Expression:
    """The expression with values in place of names, in the form in which the parser would make it."""
    match expression:
        case Name(path):
            if path not in values:
                raise GraftsimError(f"{place}: unknown name {path!r}{nearest(path, values)}")
            return values[path]
        case Apply(operator, arguments):
            return _applied(operator, tuple(_substituted(argument, values, place) for argument in arguments))
    return expression


def _applied(operator: str, arguments: tuple[Expression, ...]) -> Expression:
    """Sums, differences and products of two integers are worked out, and x - 0 is x (GS-schedule-folding)."""
    match arguments:
        case (Number(a), Number(b)) if operator in _EXACT and a.is_integer() and b.is_integer():
            whole = _EXACT[operator](a, b)
            if abs(whole) < 2**53:
                return Number(whole)
        case (other, Number(zero)) if operator == "sub" and zero == 0 and math.copysign(1, zero) > 0:
            return other
    return expressions.applied(operator, arguments)


def _size(expression: Expression) -> int:
    return 1 + sum(map(_size, expression.arguments)) if isinstance(expression, Apply) else 1
