"""The reference engine: NumPy on whole arrays, every bit as ``spec/arithmetic.md`` defines it.

Short and obvious rather than fast. A scalar or group value is a float64 array with one element for each group of its
partition; a coordinate value is an array of the program's dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import matrices, scalars, sums
from graftsim.errors import GraftsimError, nearest
from graftsim.interpreter import check_settings, evaluate, initial_state, interpret
from graftsim.layouts import Array
from graftsim.program import Kind, Node, Program, Reduction

MATRICES = "machines with matrices are not compiled"

Exchange = Callable[[list[sums.Rows]], list[sums.Rows]]
"""Adds rows of exact sums over all ranks. One call a level."""


def alone(rows: list[sums.Rows]) -> list[sums.Rows]:
    """The exchange of a run on one rank."""
    return rows


@dataclass(frozen=True)
class Step:
    """What :meth:`Engine.step` returns. All arrays are new."""

    weights: Array
    delta: Array
    state: dict[str, Array]
    info: dict[str, Array]


class Engine:
    """Runs a program step by step on flat arrays.

    Args:
        program: what :func:`graftsim.build` returned.
        exchange: how exact sums are added over ranks; alone by default.
    """

    def __init__(self, program: Program, exchange: Exchange = alone) -> None:
        self.program = program
        self.arithmetic = _Bits(program, exchange)

    def initial_state(self, settings: Mapping[str, float] | None = None) -> dict[str, Array]:
        """The state before the first step: path to array, shape (coordinates,) or (groups,).

        ``settings`` overrule hyperparameters by path, as in :meth:`step`; an accumulator may start at one.
        """
        with np.errstate(all="ignore"):
            found = initial_state(self.program, self.arithmetic, settings or {})
        return {
            path: np.array(np.broadcast_to(value, self.program.slots[path].shape(self.program.layout)))
            for path, value in found.items()
        }

    def step(
        self,
        weights: Array,
        gradients: Array | Sequence[Any],
        state: Mapping[str, Array],
        step: int,
        settings: Mapping[str, float] | None = None,
    ) -> Step:
        """One step of the machine: w' = w + delta.

        Args:
            weights: flat, shape (coordinates,), of the program's dtype.
            gradients: flat like the weights, or one array a tensor, where ``None`` means that the tensor has no
                gradient and takes no part in the step (GS-missing-gradient).
            state: what :meth:`initial_state` or the last step returned.
            step: the number of this step, 1 for the first.
            settings: values of hyperparameters by path (``"magnitude.lr"``) that overrule the program's.

        Raises:
            GraftsimError: a shape or dtype that differs, state that is not this program's, a hyperparameter outside
                its domain, a step below 1.
        """
        program, settings = self.program, dict(settings or {})
        gradient, present = self.gradient(gradients)
        self.check(weights, state, step)
        with np.errstate(all="ignore"):
            check_settings(program, lambda node: self.scalar(node, step), settings, step)
            found = interpret(program, self.arithmetic, weights, gradient, state, step, present, settings)
            moved = weights + found.delta
        mask = np.repeat(present, program.layout.sizes)
        return Step(
            weights=np.where(mask, moved, weights),
            delta=np.where(mask, found.delta, np.zeros_like(weights)),
            state={path: np.array(np.broadcast_to(value, state[path].shape)) for path, value in found.state.items()},
            info={path: np.array(value) for path, value in found.info.items()},
        )

    def reduce(self, reduction: Reduction, operands: list[Array], present: NDArray[np.bool_]) -> NDArray[np.float64]:
        """One sum over the coordinates that take part, by the definition."""
        return self.arithmetic.reduce([(reduction, list(operands))], present)[0]

    def rows(self, reduction: Reduction, operands: list[Array], present: NDArray[np.bool_]) -> sums.Rows:
        """The exact sums of one reduction over the coordinates that take part, not rounded; shape (groups, width)."""
        return self.arithmetic.rows(reduction, operands, present)

    def scalar(self, node: Any, step: int) -> Any:
        """The value of a hyperparameter's node at a step."""
        if node.operator in ("number", "constant"):
            return np.asarray(node.data, np.float64)
        environment = {"step": np.array([float(step)])}
        return evaluate(node, environment, self.arithmetic)

    def gradient(self, gradients: Array | Sequence[Any]) -> tuple[Array, NDArray[np.bool_]]:
        """The flat gradient, and for each tensor whether it has one; checked."""
        layout, dtype = self.program.layout, self.program.dtype
        if isinstance(gradients, np.ndarray):
            if gradients.shape != (layout.size,) or gradients.dtype != dtype:
                raise GraftsimError(
                    f"the gradient must have shape {(layout.size,)} and dtype {dtype}; "
                    f"received {gradients.shape} and {gradients.dtype}"
                )
            return gradients, np.ones(len(layout.tensors), bool)
        present = np.array([gradient is not None for gradient in gradients], bool)
        filled = [
            np.zeros(shape, dtype) if gradient is None else gradient
            for gradient, shape in zip(gradients, layout.shapes, strict=False)
        ]
        return layout.flatten(filled + list(gradients)[len(filled) :], dtype), present

    def check(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        """Raise GraftsimError unless shapes, dtypes, state and step number are this program's."""
        program = self.program
        if step < 1:
            raise GraftsimError(f"steps are numbered from 1; received {step}")
        if weights.shape != (program.layout.size,) or weights.dtype != program.dtype:
            raise GraftsimError(
                f"the weights must have shape {(program.layout.size,)} and dtype {program.dtype}; "
                f"received {weights.shape} and {weights.dtype}"
            )
        if set(state) != set(program.slots):
            odd = sorted(set(state).symmetric_difference(program.slots))[0]
            raise GraftsimError(f"the state must have {sorted(program.slots)}; {odd!r} differs{nearest(odd, state)}")
        for path, slot in program.slots.items():
            dtype = slot.dtype(program)
            if state[path].shape != slot.shape(program.layout) or state[path].dtype != dtype:
                raise GraftsimError(
                    f"state {path} must have shape {slot.shape(program.layout)} and dtype {dtype}; "
                    f"received {state[path].shape} and {state[path].dtype}"
                )


class _Bits:
    """The arithmetic of the spec, bit by bit."""

    def __init__(self, program: Program, exchange: Exchange) -> None:
        self.layout, self.dtype, self.exchange = program.layout, program.dtype, exchange

    def constant(self, values: NDArray[Any], kind: Kind) -> NDArray[Any]:
        return values

    def apply(self, operator: str, arguments: list[NDArray[Any]], kind: Kind) -> NDArray[Any]:
        value = OPERATIONS[operator](*arguments)
        return value.astype(self.dtype) if operator.endswith("_wide") else value

    def lift(self, value: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
        return value[index]

    def expand(self, value: NDArray[Any], kind: Kind, rounded: bool) -> NDArray[Any]:
        value = value.astype(self.dtype) if rounded else value
        return value if kind.partition.key == "global" else value[kind.partition.group_of]

    def spread(self, value: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
        return value[index].astype(self.dtype)

    def matrix(self, node: Node, arguments: list[NDArray[Any]]) -> NDArray[Any]:
        kinds = [argument.kind for argument in node.arguments]
        wide = [value.astype(np.float64) for value in arguments]
        match node.operator:
            case "matmul":
                found = matrices.apply(self.layout, np.matmul, kinds, wide)
            case "transpose":
                found = matrices.apply(self.layout, np.transpose, kinds, wide)
            case _:
                exponent, cutoff = (float(value[0]) for value in wide[1:])
                found = matrices.apply(self.layout, lambda a: matrices.power(a, exponent, cutoff), kinds[:1], wide[:1])
        return found.astype(self.dtype)

    def reduce(
        self, asked: list[tuple[Reduction, list[NDArray[Any]]]], present: NDArray[np.bool_]
    ) -> list[NDArray[np.float64]]:
        """All sums of a level: rows of limbs, one exchange, one rounding each."""
        crossing = [i for i, (reduction, _) in enumerate(asked) if not reduction.partition.single]
        local = [self.rows(*asked[i], present) for i in crossing]
        total = dict(zip(crossing, self.exchange(local) if local else [], strict=True))
        return [
            sums.rounded(reduction.operator, total[i], self.dtype)
            if i in total
            else _of_one(reduction.operator, *self._operands(reduction, values, present)[:2])
            for i, (reduction, values) in enumerate(asked)
        ]

    def rows(self, reduction: Reduction, values: list[NDArray[Any]], present: NDArray[np.bool_]) -> sums.Rows:
        """The exact sums of one reduction, not rounded."""
        return sums.rows(*self._operands(reduction, values, present), reduction.partition.count)

    def _operands(
        self, reduction: Reduction, values: list[NDArray[Any]], present: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """The two factors of each term, without the coordinates that take no part."""
        first = np.broadcast_to(values[0], present.shape)
        second = np.ones_like(first) if reduction.operator == "sum" else np.broadcast_to(values[-1], present.shape)
        if reduction.partition.single:
            return np.where(present, first, 0), np.where(present, second, 0), reduction.partition.group_of
        return first[present], second[present], reduction.partition.group_of[present]

    def choose(self, mask: NDArray[np.bool_], new: NDArray[Any], old: NDArray[Any]) -> NDArray[Any]:
        return np.where(mask, new, old)


def _of_one(operator: str, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """The sums over groups of one coordinate: |x| or x y, rounded once; an exact zero is +0."""
    wide = x.astype(np.float64)
    return np.abs(wide) if operator == "norm" else wide * y.astype(np.float64) + 0.0


def _quotient(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    return np.where(b == 0, np.where(a - a == 0, a - a, np.nan).astype(a.dtype), a / b)


def _integer_function(function: Callable[..., float]) -> Callable[..., NDArray[np.float64]]:
    """A correctly rounded scalar function, element by element."""

    def over(*arguments: NDArray[np.float64]) -> NDArray[np.float64]:
        table = np.broadcast_arrays(*arguments)
        return np.array([function(*values) for values in zip(*(a.tolist() for a in table), strict=True)])

    return over


OPERATIONS: dict[str, Callable[..., NDArray[Any]]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "where": np.where,
    "max": lambda a, b: np.where(a < b, b, np.where(b != b, b, a)),
    "min": lambda a, b: np.where(b < a, b, np.where(b != b, b, a)),
    "sign": lambda x: np.where(x > 0, x.dtype.type(1), np.where(x < 0, x.dtype.type(-1), x)),
    "quotient": _quotient,
    "mul_wide": lambda a, b: a.astype(np.float64) * b.astype(np.float64),
    "div_wide": lambda a, b: a.astype(np.float64) / b.astype(np.float64),
    "quotient_wide": lambda a, b: _quotient(a.astype(np.float64), b.astype(np.float64)),
    "pow": _integer_function(lambda b, t: scalars.power(b, int(t))),
    "one_minus_pow": _integer_function(lambda b, t: scalars.one_minus_power(b, int(t))),
    "exp": _integer_function(scalars.exp),
    "cospi": _integer_function(lambda a, n: scalars.cospi(int(a), int(n))),
    "rpow": _integer_function(scalars.real_power),
    "floordiv": np.floor_divide,
}
"""What each operator of a program does, on arrays of one dtype; see ``spec/arithmetic.md``."""
