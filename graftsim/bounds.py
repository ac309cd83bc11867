"""Values with error bounds: the same program, each value beside a bound on how far rounding may move it.

The bound is first order and follows the program's own operations: one unit u of rounding for each of them, carried
through the later ones, ``1 + log2 n`` for a reduction of n terms (GS-budget-first-order and its neighbours). Where a
condition or the argument of a root lies within its bound, the bound covers both branches. Over float64 numbers this is
what conformance compares with; over mpmath numbers it is the *oracle*, whose values are exact to hundreds of digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import matrices, scalars
from graftsim.interpreter import Outcome, initial_state, interpret
from graftsim.profiles import PLAIN, Profile
from graftsim.program import Kind, Node, Program, Rank, Reduction

Array = NDArray[Any]


@dataclass(frozen=True)
class Bounded:
    """``value`` and ``error`` of one shape; the real number lies within ``error`` of what a rounded run computes."""

    value: Array
    error: Array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return np.asarray(self.value, dtype)


@dataclass(frozen=True)
class Condition:
    """The outcome of a comparison, and where the bounds leave it open."""

    value: Array
    open: Array


@dataclass(frozen=True)
class Numbers:
    """The numbers that values are made of."""

    make: Callable[[Array], Array]
    sqrt: Callable[[Array], Array]
    matrix_power: Callable[[Array, float, float], Array]
    power: Callable[[Any, int], Any]
    exp: Callable[[Any], Any]
    cospi: Callable[[int, int], Any]
    real_power: Callable[[Any, Any], Any]


FLOAT64 = Numbers(
    lambda x: np.asarray(x, np.float64),
    np.sqrt,
    matrices.power,
    scalars.power,
    scalars.exp,
    lambda a, n: scalars.cospi(a, n),
    scalars.real_power,
)


def arbitrary(digits: int) -> Numbers:
    """Numbers of mpmath with a precision of their own."""
    import mpmath

    context = mpmath.mp.clone()
    context.dps = digits

    def real_power(x: Any, y: Any) -> Any:
        plain = context.isfinite(y) and (x > 0 or (x < 0 and y == context.floor(y)))
        return x**y if plain else context.mpf(scalars.real_power(float(x), float(y)))

    def matrix_power(matrix: Array, exponent: float, cutoff: float) -> Array:
        """As :func:`matrices.power`."""
        n = len(matrix)
        if n == 0:
            return matrix
        values, vectors = context.eigsy(context.matrix(matrix.tolist()))
        limit = max(cutoff * max(values), 0)
        powers = np.array([x**exponent if x > limit else context.mpf(0) for x in values], object)
        columns = np.array(vectors.tolist(), object).reshape(n, n)
        found: Array = (columns * powers) @ columns.T
        return found

    make = np.frompyfunc(lambda x: x if isinstance(x, context.mpf) else context.mpf(float(x)), 1, 1)
    return Numbers(
        lambda x: np.asarray(make(x), object),
        np.frompyfunc(context.sqrt, 1, 1),
        matrix_power,
        lambda b, t: b**t,
        context.exp,
        lambda a, n: context.cospi(context.mpf(a) / n),
        real_power,
    )


class Bounds:
    """Steps of a program over bounded values.

    Args:
        program: the program.
        numbers: :data:`FLOAT64`, or :func:`arbitrary` precision for the oracle.
        profile: what a platform is known to do otherwise, which the bounds then grant.
    """

    def __init__(self, program: Program, numbers: Numbers = FLOAT64, profile: Profile = PLAIN) -> None:
        self.program = program
        self._arithmetic = _Arithmetic(program, numbers, profile)

    def exact(self, values: Any) -> Bounded:
        """Values that carry no error: weights, gradients and state as they are stored."""
        made = self._arithmetic.numbers.make(np.asarray(values))
        return Bounded(made, self._arithmetic.lost(made))

    def initial_state(self) -> dict[str, Bounded]:
        with np.errstate(all="ignore"):
            found = initial_state(self.program, self._arithmetic)
        return {
            path: self._full(found[path], slot.shape(self.program.layout)) for path, slot in self.program.slots.items()
        }

    def step(
        self,
        weights: Bounded,
        gradients: Sequence[Any],
        state: Mapping[str, Bounded],
        step: int,
        settings: Mapping[str, float] | None = None,
    ) -> tuple[Bounded, Outcome]:
        """The weights after the step, and the step's outcome, all bounded. Arguments as of ``Engine.step``."""
        program, arithmetic = self.program, self._arithmetic
        present = np.array([gradient is not None for gradient in gradients], bool)
        parts = [
            np.zeros(shape, program.dtype) if gradient is None else np.asarray(gradient)
            for gradient, shape in zip(gradients, program.layout.shapes, strict=True)
        ]
        g = self.exact(program.layout.flatten(parts, program.dtype))
        with np.errstate(all="ignore"):
            found = interpret(program, arithmetic, weights, g, state, step, present, settings or {})
            moved = arithmetic.apply("add", [weights, found.delta], program.kinds["w"])
        mask = np.repeat(present, program.layout.sizes)
        full = {path: self._full(found.state[path], slot.shape(program.layout)) for path, slot in program.slots.items()}
        return arithmetic.choose(mask, moved, weights), Outcome(found.delta, full, found.info)

    @staticmethod
    def _full(value: Bounded, shape: tuple[int, ...]) -> Bounded:
        return Bounded(np.broadcast_to(value.value, shape).copy(), np.broadcast_to(value.error, shape).copy())


class _Arithmetic:
    """First-order error propagation; ``_float`` of a value is used in bounds, where 1e-15 more or less is nothing."""

    def __init__(self, program: Program, numbers: Numbers, profile: Profile = PLAIN) -> None:
        self.program, self.numbers, self.profile = program, numbers, profile
        dtypes = {rank: np.dtype(np.float64) if rank is Rank.SCALAR else program.dtype for rank in Rank}
        self.unit = {rank: _unit(dtype) for rank, dtype in dtypes.items()}
        self.unit[Rank.SCALAR] = profile.scalars
        self.least = {rank: _least(dtype) for rank, dtype in dtypes.items()}
        if profile.flush:
            self.least |= {rank: float(np.finfo(program.dtype).tiny) for rank in Rank if rank is not Rank.SCALAR}

    def constant(self, values: Array, kind: Kind) -> Bounded:
        """A number of a file or a setting, which under a narrow unit of scalars is rounded to it first."""
        made = self.numbers.make(values)
        narrow = kind.rank is Rank.SCALAR and self.profile.scalars > PLAIN.scalars
        size = _float(made)
        return Bounded(made, np.abs(size - size.astype(np.float32)) if narrow else np.zeros(np.shape(values)))

    def lost(self, values: Array) -> Array:
        """What a platform that flushes subnormal numbers loses of stored ones."""
        size = np.abs(_float(values))
        small = self.profile.flush & (size < np.finfo(self.program.dtype).tiny)
        return np.where(small, size, 0.0)

    def lift(self, value: Any, index: NDArray[np.int64]) -> Any:
        if isinstance(value, Condition):
            return Condition(value.value[index], value.open[index])
        return Bounded(value.value[index], value.error[index])

    def expand(self, value: Any, kind: Kind, rounded: bool) -> Any:
        spread = value if kind.partition.key == "global" else self.lift(value, kind.partition.group_of)
        if not rounded or self.program.dtype == np.float64 or isinstance(value, Condition):
            return spread
        return self._rounded(spread.value, spread.error, Rank.COORDINATE)

    def spread(self, value: Any, index: NDArray[np.int64]) -> Any:
        spread = self.lift(value, index)
        if self.program.dtype == np.float64 or isinstance(value, Condition):
            return spread
        return self._rounded(spread.value, spread.error, Rank.MATRIX)

    def matrix(self, node: Node, arguments: list[Bounded]) -> Bounded:
        """Sums of n products count n units of their size: BLAS takes them in an order of its own."""
        layout, kinds = self.program.layout, [argument.kind for argument in node.arguments]
        unit = self.unit[Rank.MATRIX]
        values, errors = [a.value for a in arguments], [a.error for a in arguments]
        if node.operator == "transpose":
            return Bounded(*(matrices.apply(layout, np.transpose, kinds, [part]) for part in (values[0], errors[0])))
        if node.operator == "matmul":

            def moved(a: Array, b: Array, of_a: Array, of_b: Array) -> Array:
                size_a, size_b = np.abs(_float(a)), np.abs(_float(b))
                error = size_a @ of_b + of_a @ (size_b + of_b) + a.shape[1] * unit * (size_a @ size_b)
                return np.where(np.isnan(error), np.inf, error)

            error = matrices.apply(layout, moved, [*kinds, *kinds], [*values, *errors])
            return self._rounded(matrices.apply(layout, np.matmul, kinds, values), error, Rank.MATRIX)
        exponent, cutoff = (float(_float(value).reshape(-1)[0]) for value in values[1:])

        def moved_power(a: Array, of_a: Array) -> Array:
            return np.full(a.shape, matrices.movement(_float(a), of_a, exponent, cutoff, unit))

        value = matrices.apply(layout, lambda a: self.numbers.matrix_power(a, exponent, cutoff), kinds[:1], values[:1])
        error = matrices.apply(layout, moved_power, [kinds[0], kinds[0]], [values[0], errors[0]])
        return self._rounded(value, error, Rank.MATRIX)

    def choose(self, mask: NDArray[np.bool_], new: Bounded, old: Bounded) -> Bounded:
        return Bounded(np.where(mask, new.value, old.value), np.where(mask, new.error, old.error))

    def apply(self, operator: str, arguments: list[Any], kind: Kind) -> Any:
        method = getattr(self, f"_{operator.removesuffix('_wide')}")
        result = method(*arguments)
        if not isinstance(result, Bounded) or operator in _UNROUNDED or (operator in _COUNTING and _whole(*arguments)):
            return result
        return self._rounded(result.value, result.error, kind.rank)

    def _rounded(self, value: Array, error: Array, rank: Rank) -> Bounded:
        size = np.abs(_float(value))
        own = np.where(np.isinf(size), 0, self.unit[rank] * size) + np.where(value == 0, 0, self.least[rank])
        return Bounded(value, error + own)

    def reduce(self, asked: list[tuple[Reduction, list[Bounded]]], present: NDArray[np.bool_]) -> list[Bounded]:
        return [self._reduced(reduction, values, present) for reduction, values in asked]

    def _reduced(self, reduction: Reduction, values: list[Bounded], present: NDArray[np.bool_]) -> Bounded:
        spread = [Bounds._full(value, present.shape) for value in values]
        x = spread[0]
        y = spread[-1] if reduction.operator == "dot" else x
        groups, count = reduction.partition.group_of[present], reduction.partition.count
        terms = np.bincount(groups, minlength=count)
        roundings = np.where(terms > 1, 1 + np.log2(np.maximum(terms, 1)), 1.0) * self.unit[Rank.GROUP]
        least = self.least[Rank.GROUP]

        def total(each: Array) -> Array:
            sums = self.numbers.make(np.zeros(count))
            np.add.at(sums, groups, each[present])
            return sums

        if reduction.operator == "sum":
            value, size = total(x.value), _float(total(np.abs(x.value)))
            return Bounded(value, _float(total(x.error)) + roundings * size + least * (size > 0))
        scale = self._scale(x, y, groups, count, present)
        a, b = x.value / scale[reduction.partition.group_of], y.value / scale[reduction.partition.group_of]
        products, wide = total(a * b), _float(scale)
        moved = _float(total(_times(np.abs(_float(a)), y.error / wide[reduction.partition.group_of])))
        if reduction.operator == "norm":
            root = self.numbers.sqrt(products)
            size = _float(root)
            error = np.where(
                size > 0, moved / np.where(size > 0, size, 1) * wide, _root_of_squares(x.error[present], groups, count)
            )
            return Bounded(root * scale, error + roundings * size * wide + least * (size > 0))
        moved = moved + _float(total(_times(np.abs(_float(b)), x.error / wide[reduction.partition.group_of])))
        size = _float(total(np.abs(a * b)))
        return Bounded(products * scale * scale, (moved + roundings * size) * wide * wide + least * (size > 0))

    def _scale(self, x: Bounded, y: Bounded, groups: Array, count: int, present: Array) -> Array:
        """A power of two near the largest element of each group, so that squares stay in range."""
        largest = np.zeros(count)
        both = np.maximum(np.abs(_float(x.value)), np.abs(_float(y.value)))[present]
        np.maximum.at(largest, groups, np.where(np.isfinite(both), both, 0))
        _, exponent = np.frexp(np.where(largest > 0, largest, 1.0))
        return self.numbers.make(np.ldexp(1.0, np.clip(exponent, -1021, 1023)))

    # -- one method an operator: value, and how errors of the arguments move it ----------------------------------------

    def _add(self, a: Bounded, b: Bounded) -> Bounded:
        return Bounded(a.value + b.value, a.error + b.error)

    def _sub(self, a: Bounded, b: Bounded) -> Bounded:
        return Bounded(a.value - b.value, a.error + b.error)

    def _mul(self, a: Bounded, b: Bounded) -> Bounded:
        error = _times(np.abs(_float(a.value)) + a.error, b.error) + _times(np.abs(_float(b.value)), a.error)
        return Bounded(a.value * b.value, np.where(_certainly_infinite(a, b), 0, error))

    def _div(self, a: Bounded, b: Bounded) -> Bounded:
        size = np.abs(_float(b.value))
        room = size - b.error
        value = _divide(a.value, b.value)
        error = (a.error + _times(np.abs(_float(value)), b.error)) / np.where(room > 0, room, 1)
        error = np.where(room > 0, error, np.where(b.error == 0, 0, np.inf))
        return Bounded(value, np.where(_certainly_infinite(a, b), 0, error))

    def _quotient(self, a: Bounded, b: Bounded) -> Bounded:
        found, zero = self._div(a, b), (b.value == 0) & (b.error == 0)
        fill = np.where(np.isfinite(_float(a.value)), 0.0, np.nan)
        error = np.where(self.profile.unguarded & (a.value == 0), np.inf, 0.0)
        return Bounded(np.where(zero, self.numbers.make(fill), found.value), np.where(zero, error, found.error))

    def _neg(self, a: Bounded) -> Bounded:
        return Bounded(-a.value, a.error)

    def _abs(self, a: Bounded) -> Bounded:
        return Bounded(np.abs(a.value), a.error)

    def _sqrt(self, a: Bounded) -> Bounded:
        x = _float(a.value)
        root = self.numbers.sqrt(np.where(a.value < 0, a.value * 0, a.value))
        below = np.sqrt(np.maximum(x - a.error, 0))
        near = a.error / np.where(below > 0, _float(root) + below, 1)  # root - below, without its cancellation
        error = np.where(below > 0, near, np.sqrt(np.maximum(x, 0) + a.error))
        error = np.where(a.error > 0, error, 0)
        certain = (x < 0) & (-x > a.error)
        return Bounded(np.where(certain, math.nan, root), error)

    def _compare(self, a: Bounded, b: Bounded, value: Array) -> Condition:
        room = a.error + b.error
        return Condition(value, (room > 0) & (np.abs(_float(a.value - b.value)) <= room))

    def _eq(self, a: Bounded, b: Bounded) -> Condition:
        return self._compare(a, b, a.value == b.value)

    def _ne(self, a: Bounded, b: Bounded) -> Condition:
        return self._compare(a, b, a.value != b.value)

    def _lt(self, a: Bounded, b: Bounded) -> Condition:
        return self._compare(a, b, a.value < b.value)

    def _le(self, a: Bounded, b: Bounded) -> Condition:
        return self._compare(a, b, a.value <= b.value)

    def _gt(self, a: Bounded, b: Bounded) -> Condition:
        return self._compare(a, b, a.value > b.value)

    def _ge(self, a: Bounded, b: Bounded) -> Condition:
        return self._compare(a, b, a.value >= b.value)

    def _where(self, condition: Condition, a: Bounded, b: Bounded) -> Bounded:
        taken = condition.value.astype(bool)
        value, error = np.where(taken, a.value, b.value), np.where(taken, a.error, b.error)
        both = np.maximum(a.error, b.error) + np.abs(_float(a.value - b.value))
        both = np.where(np.isnan(both), np.inf, both)
        return Bounded(value, np.where(condition.open, both, error))

    def _max(self, a: Bounded, b: Bounded) -> Bounded:
        return Bounded(
            np.where((a.value < b.value) | (b.value != b.value), b.value, a.value), np.maximum(a.error, b.error)
        )

    def _min(self, a: Bounded, b: Bounded) -> Bounded:
        return Bounded(
            np.where((b.value < a.value) | (b.value != b.value), b.value, a.value), np.maximum(a.error, b.error)
        )

    def _sign(self, a: Bounded) -> Bounded:
        unsure = (a.error > 0) & (np.abs(_float(a.value)) <= a.error)
        value = np.where(a.value > 0, 1.0, np.where(a.value < 0, -1.0, _float(a.value)))
        return Bounded(self.numbers.make(value), np.where(unsure, 2.0, 0.0))

    def _pow(self, b: Bounded, t: Bounded) -> Bounded:
        return self._power(b, t, lambda value: (value, 2 * self.unit[Rank.SCALAR] * np.abs(_float(value))))

    def _one_minus_pow(self, b: Bounded, t: Bounded) -> Bounded:
        """1 - b ** t as two roundings, the first of a C library: what frameworks compute."""

        def less(value: Array) -> tuple[Array, Array]:
            return 1 - value, 2 * self.unit[Rank.SCALAR] * np.abs(_float(value))

        return self._power(b, t, less)

    def _power(self, b: Bounded, t: Bounded, finish: Callable[[Array], tuple[Array, Array]]) -> Bounded:
        base, exponent = np.broadcast_arrays(b.value, t.value)
        powers = [self.numbers.power(x, int(n)) for x, n in zip(base.tolist(), exponent.tolist(), strict=True)]
        value = self.numbers.make(np.array(powers, base.dtype))
        slope = np.abs(_float(exponent)) * _divide(np.abs(_float(value)), np.abs(_float(base)))
        found, own = finish(value)
        return Bounded(found, own + _times(np.broadcast_to(slope, own.shape), b.error))

    def _exp(self, a: Bounded) -> Bounded:
        value = self.numbers.make(np.array([self.numbers.exp(x) for x in a.value.tolist()], a.value.dtype))
        return Bounded(value, _times(np.abs(_float(value)), np.expm1(a.error) + 2 * self.unit[Rank.SCALAR]))

    def _cospi(self, a: Bounded, n: Bounded) -> Bounded:
        table = zip(*(x.tolist() for x in np.broadcast_arrays(a.value, n.value)), strict=True)
        value = self.numbers.make(np.array([self.numbers.cospi(int(x), int(y)) for x, y in table], a.value.dtype))
        return Bounded(value, np.full(value.shape, 8 * self.unit[Rank.SCALAR]))

    def _rpow(self, x: Bounded, y: Bounded) -> Bounded:
        """An error of x moves ln x by at most -ln(1 - e / x), and y ln x moves x^y as it moves an exponential."""
        base, exponent = np.broadcast_arrays(x.value, y.value)
        table = zip(base.tolist(), exponent.tolist(), strict=True)
        value = self.numbers.make(np.array([self.numbers.real_power(a, b) for a, b in table], base.dtype))
        relative = np.where(x.error == 0, 0.0, _float(x.error) / np.abs(_float(base)))
        of_log = np.where(relative < 1, -np.log1p(-np.minimum(relative, 1)), np.inf)
        moved = _times(np.abs(_float(exponent)) + y.error, of_log) + _times(
            np.abs(np.log(np.abs(_float(base)))), y.error
        )
        return Bounded(value, _times(np.abs(_float(value)), np.expm1(moved) + 2 * self.unit[Rank.SCALAR]))

    def _floordiv(self, a: Bounded, n: Bounded) -> Bounded:
        """Of integers, which carry no error."""
        return Bounded(
            self.numbers.make(np.floor_divide(_float(a.value), _float(n.value))), np.zeros(np.shape(a.value))
        )


_UNROUNDED = ("neg", "abs", "max", "min", "sign", "where")
_COUNTING = ("add", "sub", "mul", "floordiv")


def _whole(*arguments: Bounded) -> bool:
    """Whether all are integers without error, as counters are: their sums are exact."""
    return all((a.error == 0).all() and bool((a.value == np.rint(_float(a.value))).all()) for a in arguments)


def _unit(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype).eps) / 2


def _least(dtype: np.dtype[Any]) -> float:
    """The smallest subnormal number: the error of a rounding below the normal range."""
    return float(np.finfo(dtype).smallest_subnormal)


def _float(value: Array) -> Array:
    return np.asarray(value, np.float64)


def _certainly_infinite(a: Bounded, b: Bounded) -> Array:
    """Where one operand is infinite and the other cannot be zero: no rounding moves what comes of it."""
    p, q = np.abs(_float(a.value)), np.abs(_float(b.value))
    return np.asarray((np.isinf(p) & (b.error < q)) | (np.isinf(q) & (a.error < p)))


def _times(factor: Array, error: Array) -> Array:
    """factor * error, where no error is no movement, and an error without a bound has none whatever it is times."""
    return np.where(error == 0, 0.0, np.where(np.isinf(error), np.inf, factor * error))


def _divide(a: Array, b: Array) -> Array:
    """a / b with IEEE's infinities and NaN also for numbers of arbitrary precision."""
    if np.asarray(a).dtype != object and np.asarray(b).dtype != object:
        return np.asarray(np.asarray(a) / np.asarray(b))
    zero = np.asarray(b == 0, bool)
    limit = _float(a) / np.where(zero, 0.0, 1.0)
    return np.asarray(np.where(zero, limit, a / np.where(zero, 1, b)))


def _root_of_squares(errors: Array, groups: Array, count: int) -> Array:
    squares = np.zeros(count)
    np.add.at(squares, groups, errors * errors)
    return np.sqrt(squares)
