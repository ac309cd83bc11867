"""The expressions of the language: text to tree, through a whitelist. Nothing is ever evaluated by Python.

A tree has three kinds of node: a number, a name (``m``, ``magnitude.delta``), and an operator applied to
arguments. ``spec/language.md`` is the normative text.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from graftsim.errors import GraftsimError, nearest

LENGTH = 2000
DEPTH = 50
WHOLE = "global_"
"""What the partition ``global`` is called on its way through Python's grammar."""


@dataclass(frozen=True, slots=True)
class Number:
    """A literal; a decimal stands for its nearest float64."""

    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """A name, dotted where it belongs to a child."""

    path: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator and its arguments, in written order. ``over`` is the partition that a reduction names, if any."""

    operator: str
    arguments: tuple[Expression, ...]
    over: str = ""


Expression = Number | Name | Apply

FUNCTIONS = {
    **{"sqrt": 1, "abs": 1, "sign": 1, "exp": 1},
    **{"max": 2, "min": 2, "quotient": 2, "cospi": 2, "rpow": 2},
    "where": 3,
    **{"norm": 1, "sum": 1, "dot": 2},
    **{"flat": 1, "transpose": 1, "identity": 1, "matrix_power": 3},
}
"""The functions that may be called, with their number of arguments."""

REDUCTIONS = ("norm", "sum", "dot")
MATRICES = ("matmul", "flat", "transpose", "identity", "matrix_power")
"""Operators that take or give whole matrices, one a tensor."""

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")

_BINARY = {
    **{ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow"},
    **{ast.FloorDiv: "floordiv", ast.MatMult: "matmul"},
}
_COMPARE = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}


Calls = Mapping[str, Callable[[ast.Call, str], Expression]]
"""What may be called beside the functions: name to the expression that a call, at a place, stands for."""

NO_CALLS: Calls = MappingProxyType({})


def parse(text: str, where: str) -> Expression:
    """The tree of an expression. ``where`` names the place in an error, which is one line."""
    return from_ast(python_ast(text, where), text, where)


def python_ast(text: str, where: str) -> ast.expr:
    """Python's own syntax tree of one expression; bounded in length, one line for an error."""
    text = re.sub(r"\bover\s*=\s*global\b", f"over={WHOLE}", text)  # a keyword of Python
    if len(text) > LENGTH:
        raise GraftsimError(f"{where}: an expression must have at most {LENGTH} characters; this has {len(text)}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        problem = getattr(error, "msg", None) or "it is nested too deeply"
        raise GraftsimError(f"{where}: {text.strip()[:80]!r} is not an expression: {problem}") from None


def from_ast(tree: ast.expr, text: str, where: str, depth: int = 0, calls: Calls = NO_CALLS) -> Expression:
    """Translate a Python syntax tree; whatever is not on the whitelist or among ``calls`` is an error."""

    def refuse(problem: str) -> GraftsimError:
        return GraftsimError(f"{where}: in {text.strip()[:120]!r}: {problem}")

    if depth > DEPTH:
        raise refuse(f"at most {DEPTH} levels of nesting are allowed")

    def inner(part: ast.expr) -> Expression:
        return from_ast(part, text, where, depth + 1, calls)

    match tree:
        case ast.Constant(value=bool() | None | str() | bytes() | complex()):
            raise refuse(f"{ast.unparse(tree)[:40]} is not a number")
        case ast.Constant(value=int() | float() as value):
            try:
                return Number(float(value))
            except OverflowError:
                raise refuse("an integer literal is too large for float64") from None
        case ast.Name(id=name):
            return Name(name)
        case ast.Attribute(value=ast.Name(id=child), attr=name):
            return Name(f"{child}.{name}")
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return inner(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return applied("neg", (inner(operand),))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _BINARY:
            return applied(_BINARY[type(op)], (inner(left), inner(right)))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return Apply(_COMPARE[type(op)], (inner(left), inner(right)))
        case ast.Compare(ops=[_, _, *_]):
            raise refuse("a comparison must have two sides; nest 'where' instead of chaining")
        case ast.Call(func=ast.Name(id=name)) if name in calls:
            return calls[name](tree, where)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            if name not in FUNCTIONS:
                known = nearest(name, [*FUNCTIONS, *calls])
                raise refuse(f"{name!r} is not a function of the language{' or a schedule' if calls else ''}{known}")
            over = _over(name, keywords)
            if over is None:
                raise refuse(f"{name} takes its arguments by position, and a reduction 'over', a partition")
            if len(arguments) != FUNCTIONS[name]:
                raise refuse(f"{name} takes {FUNCTIONS[name]} argument(s), received {len(arguments)}")
            return Apply(name, tuple(inner(argument) for argument in arguments), over)
    raise refuse(
        f"{ast.unparse(tree)[:60]!r} is not allowed; an expression has numbers, names, child.name, "
        f"+ - * / // ** @, comparisons, and {', '.join(FUNCTIONS)}"
    )


def _over(name: str, keywords: list[ast.keyword]) -> str | None:
    """The partition that a reduction names; empty without one, None where the keywords are something else."""
    match keywords:
        case []:
            return ""
        case [ast.keyword(arg="over", value=value)] if name in REDUCTIONS:
            found = ast.unparse(value)
            return "global" if found == WHOLE else found
    return None


def applied(operator: str, arguments: tuple[Expression, ...]) -> Expression:
    """The tree of an operator and its arguments, as the parser makes it: a sign before a number is part of it, and
    ``1 - b ** t`` is one primitive with one rounding (GS-scalar-one-minus-power)."""
    match operator, arguments:
        case "neg", (Number(value),):
            return Number(-value)
        case "sub", (Number(1.0), Apply("pow", powers)):
            return Apply("one_minus_pow", powers)
    return Apply(operator, arguments)


def names(expression: Expression) -> Iterator[str]:
    """Every name that an expression reads, with repetitions, from left to right."""
    if isinstance(expression, Name):
        yield expression.path
    elif isinstance(expression, Apply):
        for argument in expression.arguments:
            yield from names(argument)


def renamed(expression: Expression, names: Mapping[str, str]) -> Expression:
    """The tree with some names replaced."""
    match expression:
        case Name(path):
            return Name(names.get(path, path))
        case Apply(operator, arguments, over):
            return Apply(operator, tuple(renamed(argument, names) for argument in arguments), over)
    return expression


def operators(expression: Expression) -> Iterator[str]:
    """Every operator of an expression, with repetitions, outermost first."""
    if isinstance(expression, Apply):
        yield expression.operator
        for argument in expression.arguments:
            yield from operators(argument)


_SYMBOLS = {
    **{"add": ("+", 4), "sub": ("-", 4), "mul": ("*", 5), "div": ("/", 5), "floordiv": ("//", 5), "matmul": ("@", 5)},
    "pow": ("**", 7),
    **{"eq": ("==", 3), "ne": ("!=", 3), "lt": ("<", 3), "le": ("<=", 3), "gt": (">", 3), "ge": (">=", 3)},
}


def unparse(expression: Expression, strength: int = 0) -> str:
    """The text of a tree, with only the parentheses that the order of operations needs.

    >>> unparse(parse("-(lr * (m / (1 - beta ** t)))", "here"))
    '-(lr * (m / (1 - beta ** t)))'
    """
    match expression:
        case Number(value):
            negative = math.copysign(1, value) < 0
            whole = abs(value) < 1e15 and value == int(value) and (value != 0 or not negative)
            text = repr(int(value)) if whole else repr(value)
            return f"({text})" if negative and strength else text
        case Name(path):
            return path
        case Apply("one_minus_pow", arguments):
            return unparse(Apply("sub", (Number(1.0), Apply("pow", arguments))), strength)
        case Apply("neg", (argument,)):
            text = f"-{unparse(argument, 6)}"
            return f"({text})" if strength > 4 else text
        case Apply(operator, (left, right)) if operator in _SYMBOLS:
            symbol, own = _SYMBOLS[operator]
            first, second = (own + 1, own) if operator == "pow" else (own, own + 1)
            text = f"{unparse(left, first)} {symbol} {unparse(right, second)}"
            return f"({text})" if own < strength else text
        case Apply(operator, arguments):
            listed = [unparse(argument) for argument in arguments]
            listed += [f"over={expression.over}"] if isinstance(expression, Apply) and expression.over else []
            return f"{operator}({', '.join(listed)})"
    raise AssertionError(expression)
