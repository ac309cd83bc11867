"""How a machine's step answers when what goes into it is multiplied: degrees of homogeneity, derived from the program.

If inputs are multiplied by s, each to a power of its own, a value of degree d is multiplied by s ** d. A zero has every
degree, and a value without a degree follows no such law. Degrees are an arithmetic over which the program is
interpreted, as bits and bounds are. With ``signs`` the factor is -1 and a degree is even (0) or odd (1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.interpreter import evaluate
from graftsim.program import Kind, Node, Program


class Special(Enum):
    """What is no number: the degree of a zero, and of what follows no law."""

    ANY = "any"
    NONE = "none"


ANY, NONE = Special.ANY, Special.NONE
Degree = Fraction | Special
EVEN = Fraction(0)


def of_weights(program: Program, scaled: Mapping[str, Fraction], weights: Degree = ANY, signs: bool = False) -> Degree:
    """The degree of the weights after any number of steps, in inputs by name: ``g``, or a hyperparameter's path.

    ``weights`` is the degree of the weights before the first step; ANY says that they are zero.

    >>> from graftsim import build
    >>> adam = build("adam(lr=0.1, eps=0)", {"w": (3,)})
    >>> of_weights(adam, {"g": Fraction(1)}), of_weights(adam, {"lr": Fraction(1)})
    (Fraction(0, 1), Fraction(1, 1))
    """
    arithmetic = _Degrees(signs)
    constants: dict[str, Degree] = {"g": EVEN, "step": EVEN, **scaled}
    for path, parameter in program.parameters.items():
        if path not in scaled:
            constants[path] = evaluate(parameter.node, constants, arithmetic)
    before: dict[str, Degree] = {
        path: evaluate(slot.initial, constants, arithmetic) for path, slot in program.slots.items()
    }
    before["w"] = weights
    while True:
        environment = {**constants, **before}
        for statements, reductions in program.by_level:
            for row in statements:
                environment[row.target] = evaluate(row.node, environment, arithmetic)
            for asked in reductions:
                degrees = [evaluate(operand, environment, arithmetic) for operand in asked.operands]
                environment[asked.target] = arithmetic.reduction(asked.operator, degrees)
        after = {path: _same(before[path], environment[slot.new]) for path, slot in program.slots.items()}
        after["w"] = _same(before["w"], environment[program.delta])
        if after == before:  # each pass goes from ANY to a number or from there to NONE, so there are few
            return after["w"]
        before = after


def _same(*degrees: Degree) -> Degree:
    """The one degree of terms of a sum."""
    known = {degree for degree in degrees if degree is not ANY}
    return ANY if not known else known.pop() if len(known) == 1 else NONE


@dataclass(frozen=True)
class _Degrees:
    """Degrees as values of the interpreter."""

    signs: bool

    def constant(self, values: NDArray[Any], kind: Kind) -> Degree:
        return EVEN if np.any(np.asarray(values) != 0) else ANY

    def lift(self, value: Degree, index: NDArray[np.int64]) -> Degree:
        return value

    def expand(self, value: Degree, kind: Kind, rounded: bool) -> Degree:
        return value

    def spread(self, value: Degree, index: NDArray[np.int64]) -> Degree:
        return value

    def matrix(self, node: Node, arguments: list[Degree]) -> Degree:
        """A power of a matrix is an eigensolver's, which keeps no bits when the matrix is scaled."""
        if node.operator == "transpose":
            return arguments[0]
        return self.product(arguments) if node.operator == "matmul" else NONE

    def choose(self, mask: NDArray[np.bool_], new: Degree, old: Degree) -> Degree:
        return _same(new, old)

    def reduce(self, asked: Any, present: Any) -> list[Degree]:
        return [self.reduction(row.operator, degrees) for row, degrees in asked]

    def reduction(self, operator: str, degrees: list[Degree]) -> Degree:
        match operator:
            case "norm":
                return self.size(degrees[0])
            case "dot":
                return self.product(degrees)
        return degrees[0]

    def apply(self, operator: str, arguments: list[Degree], kind: Kind) -> Degree:
        if NONE in arguments:
            return NONE
        match operator.removesuffix("_wide"):
            case "add" | "sub":
                return _same(*arguments)
            case "mul":
                return self.product(arguments)
            case "div" | "quotient":
                return self.ratio(*arguments)
            case "neg":
                return arguments[0]
            case "abs":
                return self.size(arguments[0])
            case "sqrt":
                return self.root(arguments[0])
            case "sign":
                return arguments[0] if self.signs or arguments[0] is ANY else EVEN
            case "eq" | "ne":
                return NONE if _same(*arguments) is NONE else EVEN
            case "lt" | "le" | "gt" | "ge":
                return NONE if self.ordered(arguments) is NONE else EVEN
            case "max" | "min":
                return self.ordered(arguments)
            case "where":
                return _same(*arguments[1:]) if arguments[0] in (EVEN, ANY) else NONE
        return EVEN if all(degree in (EVEN, ANY) for degree in arguments) else NONE

    def product(self, degrees: list[Degree]) -> Degree:
        total = EVEN
        for degree in degrees:
            if isinstance(degree, Special):
                return NONE if NONE in degrees else ANY
            total += degree
        return total % 2 if self.signs else total

    def ratio(self, over: Degree, under: Degree) -> Degree:
        if isinstance(under, Special):
            return NONE
        return self.product([over, under if self.signs else -under])

    def size(self, degree: Degree) -> Degree:
        return EVEN if self.signs and isinstance(degree, Fraction) else degree

    def root(self, degree: Degree) -> Degree:
        if isinstance(degree, Special):
            return degree
        return degree / 2 if not self.signs else EVEN if degree == EVEN else NONE

    def ordered(self, degrees: list[Degree]) -> Degree:
        """Of values that are compared by size: a factor of -1 would turn them round."""
        found = _same(*degrees)
        return NONE if self.signs and found not in (EVEN, ANY) else found
