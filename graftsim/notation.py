"""The notation of composed machines: ``adam(lr=1e-3)#(sgd#adagrad(eps=0))``.

``a#b`` is sugar for ``graft(a, b)``, left-associative. ``#`` begins a comment in Python and in YAML, silently, so
a scanner of our own replaces it before the syntax is read; text between quotes is left alone.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graftsim import expressions, partitions, schedules
from graftsim.errors import GraftsimError, nearest
from graftsim.expressions import Expression, Number
from graftsim.machines import Library, Machine, library

Setting = Expression | Mapping[str, Any] | list[Any]
"""A hyperparameter's value: a number or schedule (an expression in ``step``), a number per group, or per coordinate."""


@dataclass(frozen=True)
class Instance:
    """A machine with its settings and children: what an expression denotes."""

    machine: Machine
    settings: Mapping[str, Setting]
    options: Mapping[str, str]
    partition: str | None
    children: Mapping[str, Instance]

    def setting(self, name: str) -> Setting | None:
        """The value that the user gave, else the default, else None."""
        default = self.machine.hyperparameters[name].default
        return self.settings.get(name, None if default is None else Number(default))

    def option(self, name: str) -> str:
        """The value that the user gave, else the first, which is the default."""
        return self.options.get(name, self.machine.options[name][0])

    def __str__(self) -> str:
        """The expression with every setting, in the form that is always accepted."""
        parts = [str(child) for child in self.children.values()]
        parts += [f"{name}={_setting_text(self.setting(name))}" for name in self.machine.hyperparameters]
        parts += [f"{name}={self.option(name)}" for name in self.machine.options]
        parts += [f"partition={self.partition}"] if self.partition else []
        return f"{self.machine.name}({', '.join(parts)})"


def _setting_text(setting: Setting | None) -> str:
    if setting is None:
        return "?"
    return repr(setting) if isinstance(setting, Mapping | list) else expressions.unparse(setting)


def scan(text: str) -> str:
    """Put what Python's grammar can read in place of ``#`` (as ``@``) and of the word ``global``, outside quotes."""
    parts = re.split(r"('[^']*'|\"[^\"]*\")", text)
    for place in range(0, len(parts), 2):
        if "@" in parts[place]:
            raise GraftsimError(f"a graft is written with '#'; received '@' in {text.strip()[:120]!r}")
        parts[place] = re.sub(r"\bglobal\b", _GLOBAL, parts[place].replace("#", "@"))
    return "".join(parts)


_GLOBAL = "global_"


def parse(text: str, machines: Library | None = None) -> Instance:
    """The instance that an expression denotes.

    Raises:
        GraftsimError: unknown machine, hyperparameter or option; missing or surplus children; cyclic children; a
            value outside its domain; anything that is not of the grammar.
    """
    if not isinstance(text, str) or not text.strip():
        raise GraftsimError(f"a machine expression must be text such as 'adam(lr=1e-3)#sgd'; received {text!r}")
    tree = _tree(text, "a machine expression")
    return _Parser(text, machines or library()).instance(tree, ())


def _tree(text: str, where: str) -> ast.expr:
    try:
        return expressions.python_ast(scan(text).strip(), where)
    except GraftsimError as error:
        raise GraftsimError(str(error).replace("@", "#").replace(_GLOBAL, "global")) from None


class _Parser:
    def __init__(self, text: str, machines: Library) -> None:
        self.text, self.machines = text, machines

    def refuse(self, problem: str) -> GraftsimError:
        return GraftsimError(f"in {self.text.strip()[:120]!r}: {problem}")

    def instance(self, tree: ast.expr, within: tuple[str, ...]) -> Instance:
        if len(within) > 30:
            raise self.refuse("at most 30 levels of children are allowed")
        match tree:
            case ast.BinOp(op=ast.MatMult(), left=left, right=right):
                return self.build("graft", [left, right], [], within)
            case ast.Name(id=name):
                return self.build(name, [], [], within)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                return self.build(name, arguments, keywords, within)
        raise self.refuse(
            f"{ast.unparse(tree).replace('@', '#')[:60]!r} is not a machine, such as adam(lr=1e-3) or a#b"
        )

    def build(
        self, name: str, arguments: list[ast.expr], keywords: list[ast.keyword], within: tuple[str, ...]
    ) -> Instance:
        try:
            machine = self.machines[name]
        except GraftsimError as error:
            raise (self.refuse(str(error)) if name not in self.machines else error) from None
        named = [keyword.arg for keyword in keywords]
        if twice := next((one for one in named if named.count(one) > 1), None):
            raise self.refuse(f"{name} was given its {twice} twice")
        given = self.children(machine, arguments, keywords, within)
        settings: dict[str, Setting] = {}
        options: dict[str, str] = {}
        partition = machine.partition
        for keyword in keywords:
            match keyword:
                case ast.keyword(arg=None):
                    raise self.refuse("'**' is not allowed")
                case ast.keyword(arg=str(key)) if key in machine.children:
                    pass
                case ast.keyword(arg=str(key), value=value) if key in machine.hyperparameters:
                    settings[key] = self.setting(machine, key, value)
                case ast.keyword(arg=str(key), value=value) if key in machine.options:
                    options[key] = self.choice(machine, key, value)
                case ast.keyword(arg="partition", value=value) if machine.partition:
                    partition = ast.unparse(value).replace(_GLOBAL, "global")
                    partitions.call(partition)
                case ast.keyword(arg=key):
                    known = [*machine.children, *machine.hyperparameters, *machine.options]
                    known += ["partition"] if machine.partition else []
                    raise self.refuse(f"{name} has no {key!r}{nearest(str(key), known)}")
        return Instance(machine, settings, options, partition, given)

    def children(
        self, machine: Machine, arguments: list[ast.expr], keywords: list[ast.keyword], within: tuple[str, ...]
    ) -> dict[str, Instance]:
        if len(arguments) > len(machine.children):
            takes = f"the children {', '.join(machine.children)}" if machine.children else "no children"
            raise self.refuse(f"{machine.name} takes {takes} by position, received {len(arguments)} values")
        trees = dict(zip(machine.children, arguments, strict=False))
        for keyword in keywords:
            if keyword.arg and keyword.arg in machine.children:
                if keyword.arg in trees:
                    raise self.refuse(f"{machine.name} was given its {keyword.arg} twice")
                trees[keyword.arg] = keyword.value
        children = {}
        for child, default in machine.children.items():
            if child in trees:
                children[child] = self.instance(trees[child], (*within, ""))
            elif default is not None:
                if machine.name in within:
                    loop = " -> ".join([*within[within.index(machine.name) :], machine.name])
                    raise self.refuse(f"the children of a machine must not be cyclic: {loop}")
                tree = _tree(default, f"{machine.path}, child {child}")
                children[child] = _Parser(default, self.machines).instance(tree, (*within, machine.name))
            else:
                raise self.refuse(f"{machine.name} needs its {child}: {machine.name}({', '.join(machine.children)})")
        return children

    def setting(self, machine: Machine, name: str, tree: ast.expr) -> Setting:
        row = machine.hyperparameters[name]
        place = f"in {self.text.strip()[:120]!r}: {machine.name}, {name}"
        if isinstance(tree, ast.List | ast.Dict):
            try:
                value: list[Any] | dict[str, Any] = ast.literal_eval(tree)
            except (ValueError, TypeError, MemoryError, RecursionError):
                raise GraftsimError(f"{place}: a list or mapping must hold numbers") from None
            for number in _numbers(value, place):
                self.check(row.domain, number, place)
            return value
        expression = expressions.from_ast(tree, self.text, place, calls=schedules.calls())
        expressions.parse(expressions.unparse(expression), place)  # with its schedules written out it is bounded too
        constant = constant_value(expression)
        if constant is not None:
            self.check(row.domain, constant, place)
            return Number(constant)
        if set(expressions.operators(expression)) & {*expressions.REDUCTIONS, *expressions.MATRICES}:
            raise GraftsimError(f"{place}: a schedule is a scalar; it has no norm, sum, dot or matrix")
        if isinstance(expression, expressions.Apply) and expression.operator in expressions.COMPARISONS:
            raise GraftsimError(f"{place}: a comparison is no number; write where(comparison, a, b)")
        reads = set(expressions.names(expression))
        if reads - {"step"}:
            unknown = min(reads - {"step"})
            hint = f"; call it, {unknown}(...)" if unknown in schedules.library() else ""
            problem = f"a value is a number, a list, or a schedule in 'step'; unknown {unknown!r}{hint}"
            raise GraftsimError(f"{place}: {problem}")
        if reads and not row.schedulable:
            raise GraftsimError(f"{place}: must be a number; it is not schedulable")
        return expression

    @staticmethod
    def check(domain: Any, value: float, place: str) -> None:
        if value not in domain:
            raise GraftsimError(f"{place}: must lie in {domain.text}; received {value:g}")

    def choice(self, machine: Machine, name: str, tree: ast.expr) -> str:
        value = tree.id if isinstance(tree, ast.Name) else str(getattr(tree, "value", ast.unparse(tree)))
        if value not in machine.options[name]:
            allowed = ", ".join(machine.options[name])
            raise self.refuse(f"{machine.name}, {name}: must be one of {allowed}; received {value}")
        return value


def constant_value(expression: Expression) -> float | None:
    """The number that a literal is; None for anything else (a schedule, an arithmetic expression)."""
    return expression.value if isinstance(expression, Number) else None


def _numbers(value: Any, place: str) -> list[float]:
    """The numbers in nested lists, or in a mapping of names to numbers or nested lists."""
    if isinstance(value, bool) or not isinstance(value, int | float | list | dict):
        raise GraftsimError(f"{place}: must hold numbers; received {value!r}")
    if isinstance(value, int | float):
        return [float(value)]
    parts = value.values() if isinstance(value, dict) else value
    return [number for part in parts for number in _numbers(part, place)]


def with_number(instance: Instance, path: str, number: float | None) -> Instance:
    """The instance with a hyperparameter set to a number; for None it is checked to exist, and has some number.

    Args:
        instance: any.
        path: of the hyperparameter, such as ``lr`` or ``magnitude.lr``.
        number: within its domain.

    Raises:
        ValueError: no such hyperparameter, or a number outside its domain.
    """
    return _with_number(instance, path.split("."), number, path)


def _with_number(instance: Instance, path: list[str], number: float | None, whole: str) -> Instance:
    first, *rest = path
    known = instance.children if rest else instance.machine.hyperparameters
    if first not in known:
        raise ValueError(f"{instance.machine.name} has no {first!r} (in {whole!r}){nearest(first, known)}")
    if rest:
        child = _with_number(instance.children[first], rest, number, whole)
        return dataclasses.replace(instance, children={**instance.children, first: child})
    row = instance.machine.hyperparameters[first]
    if number is None:
        number = row.default if row.default is not None else 1.0  # never read: a schedule stands in its place
    elif number not in row.domain:
        raise ValueError(f"{whole} must lie in {row.domain.text}; received {number:g}")
    return dataclasses.replace(instance, settings={**instance.settings, first: Number(number)})
