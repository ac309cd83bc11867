"""What generated modules import: compiled helpers whose bits are those of :data:`graftsim.engine.OPERATIONS`."""

from __future__ import annotations

from typing import Any

from graftsim.fast_rounding import add_row, compiled, inlined, root, total
from graftsim.sums import Rows


@compiled
def quotient(a, b):
    """a / b; where b is zero, 0 for finite a and NaN otherwise, both of which a - a is."""
    return a / b if b != 0 else a - a


@compiled
def larger(a, b):
    """The larger one, a on a tie; NaN if either is."""
    return b if a < b or b != b else a


@compiled
def smaller(a, b):
    """The smaller one, a on a tie; NaN if either is."""
    return b if b < a or b != b else a


@compiled
def sign(x, one):
    """1, -1, or x itself where it is a zero or NaN; ``one`` is 1 in x's type."""
    return one if x > 0 else (-one if x < 0 else x)


@inlined
def write(record: Any, row: int, values: Any) -> None:
    """record[row] = values, as a loop, which for a few numbers is quicker than an assignment of arrays."""
    for i in range(values.size):
        record[row, i] = values[i]


@compiled
def gathered(rows: Rows, group_of_slot: Rows, out: Any) -> None:
    """out[group] += the rows of the group's slots."""
    for slot in range(group_of_slot.size):
        add_row(out[group_of_slot[slot]], rows[slot])


@compiled
def finish(rows: Rows, group_of_slot: Rows, out: Any, squares: bool) -> None:
    """out[group] = the rounded sum of its slots' rows, or its root for ``squares``; a group's slots are neighbours."""
    slot = 0
    while slot < group_of_slot.size:
        group, first = group_of_slot[slot], slot
        slot += 1
        while slot < group_of_slot.size and group_of_slot[slot] == group:
            add_row(rows[first], rows[slot])
            slot += 1
        out[group] = root(rows[first]) if squares else total(rows[first])
