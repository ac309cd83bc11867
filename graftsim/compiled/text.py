"""Expressions of a lowered program as Python text, typed so that Numba rounds as NumPy does."""

from __future__ import annotations

from collections.abc import Callable

from graftsim.program import Node, Rank

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_STRENGTH = {"add": 1, "sub": 1, "mul": 2, "div": 2, "neg": 3}
_FUNCTIONS = {"max": "larger", "min": "smaller", "quotient": "quotient", "sqrt": "sqrt", "abs": "abs"}


def _no_lift(node: Node) -> str:
    raise AssertionError(node)


class Text:
    """``read`` gives the text of a name; ``lifted`` that of a value read through an index.

    Numba computes ``x * 0.1`` in float64 whatever x is, so that a number that meets a coordinate is written ``T(0.1)``.
    """

    def __init__(self, read: Callable[[str], str], lifted: Callable[[Node], str] = _no_lift) -> None:
        self.read, self.lifted = read, lifted

    def of(self, node: Node, strength: int = 0) -> str:
        """The text, in parentheses where its operator binds less than ``strength``."""
        arguments = node.arguments
        match node.operator:
            case "number":
                return repr(node.data)
            case "read":
                return self.read(node.data)
            case "lift":
                return self.lifted(node)
            case "round":
                return f"T({self.of(arguments[0])})"
            case "widen":
                return self.of(arguments[0], strength)
            case "mul_wide" | "div_wide":
                left, right = (self.wide(argument) for argument in arguments)
                return f"T({left} {_INFIX[node.operator.removesuffix('_wide')]} {right})"
            case "quotient_wide":
                return f"T(quotient({self.wide(arguments[0])}, {self.wide(arguments[1])}))"
            case "where":
                condition, yes, no = (self.of(argument) for argument in arguments)
                test = condition if arguments[0].operator in _COMPARE else f"{condition} != 0"
                return f"({yes} if {test} else {no})"
            case "neg":
                text = f"-{self.of(arguments[0], _STRENGTH['neg'])}"
                return f"({text})" if strength > 1 else text
            case "sign":
                one = "T(1)" if node.kind.rank is Rank.COORDINATE else "1.0"
                return f"sign({self.of(arguments[0])}, {one})"
            case operator if operator in _COMPARE:
                return f"{self.of(arguments[0], 1)} {_COMPARE[operator]} {self.of(arguments[1], 1)}"
            case operator if operator in _INFIX:
                own = _STRENGTH[operator]
                text = f"{self.of(arguments[0], own)} {_INFIX[operator]} {self.of(arguments[1], own + 1)}"
                return f"({text})" if own < strength else text
            case operator:
                return f"{_FUNCTIONS.get(operator, operator)}({', '.join(self.of(argument) for argument in arguments)})"

    def wide(self, node: Node) -> str:
        """A factor of a product that is formed in float64."""
        return self.of(node, 3) if node.operator == "widen" else f"float64({self.of(node)})"
