"""Scalars as tables over steps: learning rates, bias corrections, whatever depends on clocks alone.

A scalar never depends on a gradient, so that a run's scalars are known before it starts: one row a step, one column
for each group of the scalar's partition. The compiled loops read them by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import scalars
from graftsim.compiled.lowering import Lowered
from graftsim.engine import OPERATIONS
from graftsim.errors import GraftsimError
from graftsim.fast_rounding import compiled
from graftsim.interpreter import evaluate
from graftsim.program import Kind, Node, Program, Rank, StateSlot

Table = NDArray[np.float64]


def make(
    lowered: Lowered, state: Mapping[str, NDArray[Any]], first: int, steps: int, settings: Mapping[str, float]
) -> dict[str, Table]:
    """The tables of ``steps`` steps from step number ``first``: name to array of shape (steps, groups or 1).

    Slots of scalar state appear under their old and their new name; the last row of the new one is the state after.
    """
    slots = [slot for slot in lowered.program.slots.values() if slot.kind.rank is Rank.SCALAR]
    clock = np.arange(first, first + steps, dtype=np.float64)[:, None]
    known: dict[str, Table] = {"step": clock}
    recurrent = [slot for slot in slots if not _counted(slot, lowered, state, known, steps)]
    with np.errstate(all="ignore"):
        if not recurrent:
            return _filled(lowered, known, settings)
        return _row_by_row(lowered, recurrent, state, known, steps, settings)


def check(program: Program, known: Mapping[str, Table], first: int) -> None:
    """Every hyperparameter lies in its domain at every step of the tables (GS-language-domain)."""
    for path, parameter in program.parameters.items():
        table = known.get(path)
        if table is None or len(table) == 1 or "step" not in parameter.node.reads():
            continue
        with np.errstate(invalid="ignore"):
            odd = np.flatnonzero(~parameter.domain.covers(table).all(axis=1))
        if odd.size:
            value = table[odd[0], 0]
            raise GraftsimError(f"{path} must lie in {parameter.domain.text}; at step {first + odd[0]} it is {value:g}")


def _counted(
    slot: StateSlot, lowered: Lowered, state: Mapping[str, NDArray[Any]], known: dict[str, Table], steps: int
) -> bool:
    """A slot that adds a constant each step, or never changes, is known in closed form."""
    made = {row.target: row.node for row in lowered.scalars}
    grows = 0.0
    if slot.new != slot.old:
        match made[slot.new]:
            case Node("add", (Node("read", (), _, name), Node("lift", (Node("number", (), _, value),)))) if (
                name == slot.old and value == int(value)
            ):
                grows = float(value)
            case _:
                return False
    known[slot.old] = state[slot.path][None, :] + grows * np.arange(steps)[:, None]
    return True


def _filled(lowered: Lowered, known: dict[str, Table], settings: Mapping[str, float]) -> dict[str, Table]:
    """Evaluate the scalar statements on whole columns."""
    for row in lowered.scalars:
        if row.target in settings:
            known[row.target] = np.full((1, 1), settings[row.target])
        else:
            known[row.target] = evaluate(row.node, known, _COLUMNS)
    return known


def _row_by_row(
    lowered: Lowered,
    recurrent: list[StateSlot],
    state: Mapping[str, NDArray[Any]],
    known: dict[str, Table],
    steps: int,
    settings: Mapping[str, float],
) -> dict[str, Table]:
    """Where a scalar's next value depends on its last (NAdam's product of momenta), steps follow one another."""
    current = {slot.old: state[slot.path][None, :] for slot in recurrent}
    rows: list[dict[str, Table]] = []
    for k in range(steps):
        begun = {name: table[k : k + 1] if len(table) > 1 else table for name, table in known.items()}
        row = _filled(lowered, {**begun, **current}, settings)
        current = {slot.old: row[slot.new] for slot in recurrent}
        rows.append(row)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


class _Columns:
    """The arithmetic of tables: axis 0 is the step, axis 1 the group."""

    def constant(self, values: NDArray[Any], kind: Kind) -> Table:
        return np.asarray(values, np.float64)[None, :]

    def apply(self, operator: str, arguments: list[Table], kind: Kind) -> Table:
        function = _POWERS.get(operator)
        return function(*arguments) if function else OPERATIONS[operator](*arguments)

    def lift(self, value: Table, index: NDArray[np.int64]) -> Table:
        return value if value.shape[1] == 1 and not index.any() else value[:, index]

    def expand(self, value: Table, kind: Kind, rounded: bool) -> Table:
        raise AssertionError("a scalar has no coordinates")

    def spread(self, value: Table, index: NDArray[np.int64]) -> Table:
        raise AssertionError("a scalar is no matrix")

    def matrix(self, node: Node, arguments: list[Table]) -> Table:
        raise AssertionError("a scalar is no matrix")

    def reduce(self, asked: Any, present: Any) -> Any:
        raise AssertionError("a scalar depends on no reduction")

    def choose(self, mask: Any, new: Table, old: Table) -> Table:
        return np.where(mask, new, old)


def _elementwise(function: Callable[..., float]) -> Callable[..., Table]:
    """A correctly rounded function on tables: each distinct argument once, and powers of one base in blocks."""

    def over(*arguments: Table) -> Table:
        columns = np.broadcast_arrays(*arguments)
        if columns[0].size <= 64:  # the functions remember what they were asked; sorting would cost more
            values = [function(*row) for row in zip(*(column.reshape(-1).tolist() for column in columns), strict=True)]
            return np.array(values).reshape(columns[0].shape)
        rows, index = np.unique(np.stack([column.reshape(-1) for column in columns]), axis=1, return_inverse=True)
        found = np.array([function(*row) for row in rows.T.tolist()])
        return found[index.reshape(-1)].reshape(columns[0].shape)

    return over


def _powers(minus: bool) -> Callable[[Table, Table], Table]:
    exact = scalars.one_minus_power if minus else scalars.power
    slow = _elementwise(lambda b, t: exact(b, int(t)))

    def over(base: Table, exponent: Table) -> Table:
        if exponent.size < 64:
            return slow(base, exponent)
        low = exponent.min() if exponent.size else 0.0
        high = exponent.max() if exponent.size else 0.0
        one_base = base.size and (base == base.flat[0]).all() and 0 < base.flat[0] < 1
        if not one_base or low < 1 or high - low > 4 * exponent.size + 64:
            return slow(base, exponent)
        run = _run_of_powers(float(base.flat[0]), int(low), int(high - low) + 1, minus)
        return run[(exponent - low).astype(np.int64)] + 0 * base

    return over


RUN = 1024
"""Powers between two restarts from an exact one: the error of a double-double product grows to 2^-93 in a run."""


def _run_of_powers(base: float, first: int, count: int, minus: bool) -> Table:
    """b^t or 1 - b^t for t = first, ..., first + count - 1, each correctly rounded."""
    exact = scalars.one_minus_power if minus else scalars.power
    out = np.empty(count)
    doubtful = np.empty(count, np.bool_)
    for begin in range(0, count, RUN):
        high = scalars.power(base, first + begin)
        low = scalars.power_remainder(base, first + begin)
        _fill(base, high, low, minus, out[begin : begin + RUN], doubtful[begin : begin + RUN])
    for place in np.flatnonzero(doubtful).tolist():
        out[place] = exact(base, first + place)
    return out


@compiled
def _fill(b, high, low, minus, out, doubtful):
    """Double-double powers by repeated products, and for each whether its rounding is certain.

    high + low starts within 2^-105 of b^t. A product loses at most 2^-104 of its value (the rounding of low b and of
    the sum of the small parts), so after 1024 of them the error is below 2^-93 of the value; ``slack`` is 2^-90 of it,
    and for 1 - b^t another 2^-105 for the roundings of that difference's small part, which is below 2^-53. A rounded
    value is certain if no number within the slack rounds otherwise. Splitting b is exact for b < 1, and below 1e-270
    nothing is certain, since small parts may be subnormal.
    """
    c = 134217729.0 * b
    b_high = c - (c - b)
    b_low = b - b_high
    for i in range(out.size):
        if minus and high < 2.0**-60:  # from here on 1 - b^t is nearer to 1 than a quarter of an ulp
            out[i:], doubtful[i:] = 1.0, False
            return
        slack = high * 2.0**-90
        value, rest = high, low
        if minus:
            value = 1.0 - high
            rest = ((1.0 - value) - high) - low
            total = value + rest
            rest = rest - (total - value)
            value, slack = total, slack + 2.0**-105
        out[i] = value
        doubtful[i] = high < 1e-270 or value + (rest + slack) != value or value + (rest - slack) != value
        c = 134217729.0 * high
        h = c - (c - high)
        l = high - h
        product = high * b
        error = ((h * b_high - product) + h * b_low + l * b_high) + l * b_low
        error = low * b + error
        high = product + error
        low = error - (high - product)


_POWERS = {
    "pow": _powers(minus=False),
    "one_minus_pow": _powers(minus=True),
    "exp": _elementwise(scalars.exp),
    "cospi": _elementwise(lambda a, n: scalars.cospi(int(a), int(n))),
    "rpow": _elementwise(scalars.real_power),
}
_COLUMNS = _Columns()
