"""The problems by name, and the reading of expressions such as ``wilson(positives=26, negatives=14)``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping

from graftsim import expressions
from graftsim.errors import GraftsimError, nearest
from graftsim.problems.averaged import averaged
from graftsim.problems.classifiers import conv, digits, images, softmax
from graftsim.problems.counterexamples import divergent, not_descent
from graftsim.problems.least_squares import least_squares
from graftsim.problems.logistic import logistic
from graftsim.problems.masked_text import masked_text
from graftsim.problems.next_word import next_word
from graftsim.problems.problem import Problem
from graftsim.problems.quadratic import quadratic
from graftsim.problems.rare import rare
from graftsim.problems.recorded import recorded
from graftsim.problems.wilson import wilson

CONSTRUCTORS: Mapping[str, Callable[..., Problem]] = {
    "quadratic": quadratic,
    "wilson": wilson,
    "rare": rare,
    "not_descent": not_descent,
    "divergent": divergent,
    "least_squares": least_squares,
    "logistic": logistic,
    "recorded": recorded,
    "digits": digits,
    "softmax": softmax,
    "images": images,
    "conv": conv,
    "next_word": next_word,
    "masked_text": masked_text,
    "averaged": averaged,
}
NAMES = tuple(CONSTRUCTORS)


def parse(text: str) -> Problem:
    """The problem that an expression denotes: a name, or a name with literals by keyword.

    >>> str(parse("wilson(positives=3, negatives=2)"))
    'wilson(positives=3, negatives=2, batch=5, reflected=False)'

    Raises:
        GraftsimError: unknown problem or argument, a value that does not fit, anything that is not of the grammar.
    """
    if not isinstance(text, str) or not text.strip():
        raise GraftsimError(f"a problem must be text such as 'wilson(positives=26, negatives=14)'; received {text!r}")
    match expressions.python_ast(text, "a problem"):
        case ast.Name(id=name):
            return _build(name, [], text)
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
            return _build(name, keywords, text)
        case ast.Call(func=ast.Name(id=name)):
            raise GraftsimError(f"in {text.strip()[:120]!r}: arguments are given by name, as in wilson(positives=26)")
    raise GraftsimError(f"{text.strip()[:120]!r} is not a problem, such as wilson(positives=26, negatives=14)")


def _build(name: str, keywords: list[ast.keyword], text: str) -> Problem:
    if name not in CONSTRUCTORS:
        raise GraftsimError(f"unknown problem {name!r}{nearest(name, CONSTRUCTORS)}")
    known = list(inspect.signature(CONSTRUCTORS[name]).parameters)
    values = {}
    for keyword in keywords:
        if keyword.arg is None:
            raise GraftsimError(f"in {text.strip()[:120]!r}: '**' is not allowed")
        if keyword.arg not in known:
            hint = nearest(keyword.arg, known) if known else "; it takes no arguments"
            raise GraftsimError(f"{name} has no argument {keyword.arg!r}{hint}")
        try:
            values[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise GraftsimError(
                f"{name}, {keyword.arg}: must be a literal such as 3, 0.5, True or [1, 2]; "
                f"received {ast.unparse(keyword.value)[:60]}"
            ) from None
    return CONSTRUCTORS[name](**values)
