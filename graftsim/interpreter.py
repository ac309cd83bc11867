"""One step of a program, level by level, over any arithmetic.

The interpreter knows levels, state and missing gradients; what a value is and how an operation is done is the
affair of the arithmetic: bits in :mod:`graftsim.engine`, values with error bounds in :mod:`graftsim.bounds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.program import Kind, Node, Program, Rank, Reduction, StateSlot, blocks

Value = Any
Mask = NDArray[np.bool_]


class Arithmetic(Protocol):
    """What an interpreter needs to know of values."""

    def constant(self, values: NDArray[Any], kind: Kind) -> Value: ...
    def apply(self, operator: str, arguments: list[Value], kind: Kind) -> Value: ...
    def lift(self, value: Value, index: NDArray[np.int64]) -> Value: ...
    def expand(self, value: Value, kind: Kind, rounded: bool) -> Value: ...
    def spread(self, value: Value, index: NDArray[np.int64]) -> Value: ...
    def matrix(self, node: Node, arguments: list[Value]) -> Value: ...
    def reduce(self, asked: list[tuple[Reduction, list[Value]]], present: Mask) -> list[Value]: ...
    def choose(self, mask: Mask, new: Value, old: Value) -> Value: ...


@dataclass(frozen=True)
class Outcome:
    """What a step gives: the delta, the state after it, and the info (recorded norms, ratios)."""

    delta: Value
    state: dict[str, Value]
    info: dict[str, Value]


def interpret(
    program: Program,
    arithmetic: Arithmetic,
    w: Value,
    g: Value,
    state: Mapping[str, Value],
    step: int,
    present: NDArray[np.bool_],
    settings: Mapping[str, float],
) -> Outcome:
    """One step. ``present`` tells for each tensor whether it has a gradient; ``settings`` overrule hyperparameters."""
    environment: dict[str, Value] = {"w": w, "g": g, **state}
    whole = program.kinds["step"]
    environment["step"] = arithmetic.constant(np.array([float(step)]), whole)
    coordinates = np.repeat(present, program.layout.sizes)
    for path, parameter in program.parameters.items():
        node = Node("number", (), whole, settings[path]) if path in settings else parameter.node
        environment[path] = evaluate(node, environment, arithmetic)
    for statements, reductions in program.by_level:
        for statement in statements:
            environment[statement.target] = evaluate(statement.node, environment, arithmetic)
        asked = [(r, [evaluate(operand, environment, arithmetic) for operand in r.operands]) for r in reductions]
        found = arithmetic.reduce(asked, coordinates) if asked else []
        environment |= {r.target: value for r, value in zip(reductions, found, strict=True)}

    def kept(slot: StateSlot) -> Value:
        if slot.advance_missing or present.all():
            return environment[slot.new]
        return arithmetic.choose(taking_part(program, slot.kind, present), environment[slot.new], environment[slot.old])

    return Outcome(
        environment[program.delta],
        {path: kept(slot) for path, slot in program.slots.items()},
        {path: environment[name] for path, name in program.info.items()},
    )


def taking_part(program: Program, kind: Kind, present: Mask) -> Mask:
    """Which numbers of a value of this kind belong to a tensor that has a gradient."""
    match kind.rank:
        case Rank.COORDINATE:
            return np.repeat(present, program.layout.sizes)
        case Rank.MATRIX:
            return np.repeat(present, [a * b for a, b in blocks(program.layout, kind.shape)])
    return kind.partition.touched(present)


def evaluate(node: Node, environment: Mapping[str, Value], arithmetic: Arithmetic) -> Value:
    """The value of a node."""
    match node.operator:
        case "number":
            return arithmetic.constant(np.array([node.data]), node.kind)
        case "constant":
            return arithmetic.constant(node.data, node.kind)
        case "read":
            return environment[node.data]
    arguments = [evaluate(argument, environment, arithmetic) for argument in node.arguments]
    match node.operator:
        case "lift":
            return arithmetic.lift(arguments[0], node.data)
        case "round" | "widen":
            return arithmetic.expand(arguments[0], node.arguments[0].kind, node.operator == "round")
        case "view":
            return arguments[0]
        case "spread":
            return arithmetic.spread(arguments[0], node.data)
        case "matmul" | "transpose" | "matrix_power":
            return arithmetic.matrix(node, arguments)
    return arithmetic.apply(node.operator, arguments, node.kind)


def initial_state(
    program: Program, arithmetic: Arithmetic, settings: Mapping[str, float] = MappingProxyType({})
) -> dict[str, Value]:
    """The state before the first step, from the hyperparameters, which ``settings`` overrule."""
    whole = program.kinds["step"]
    environment: dict[str, Value] = {"step": arithmetic.constant(np.array([1.0]), whole)}
    for path, parameter in program.parameters.items():
        node = Node("number", (), whole, settings[path]) if path in settings else parameter.node
        environment[path] = evaluate(node, environment, arithmetic)
    return {path: evaluate(slot.initial, environment, arithmetic) for path, slot in program.slots.items()}


def check_settings(
    program: Program, value: Callable[[Node], NDArray[np.float64]], settings: Mapping[str, float], step: int
) -> None:
    """Every hyperparameter's value at this step must lie in its domain (GS-language-domain)."""
    for path in settings:
        program.parameter(path)
    for path, parameter in program.parameters.items():
        table = parameter.node.operator == "constant"
        if path in settings and table:
            raise GraftsimError(f"{path} must stay the table of values that it was given; received one number for it")
        if path not in settings and (table or parameter.node.operator == "number"):
            continue  # checked when it was written
        values = np.array([settings[path]]) if path in settings else value(parameter.node)
        odd = next((one for one in values.reshape(-1).tolist() if one not in parameter.domain), None)
        if odd is not None:
            raise GraftsimError(f"{path} must lie in {parameter.domain.text}; at step {step} it is {odd:g}")
