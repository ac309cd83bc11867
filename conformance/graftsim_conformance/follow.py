"""Follow mode: the reference takes each step from the candidate's own weights and state, and the two are compared.

A candidate runs once over a case and is written down; any machine can then be held against the record. The
tolerance of a value is ``BUDGET`` times the first-order error bound that :class:`graftsim.bounds.Bounds` derives
from the machine's own equations at that very step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftsim import expressions
from graftsim.bounds import Bounded, Bounds
from graftsim.engine import Engine
from graftsim.errors import GraftsimError
from graftsim.layouts import Array
from graftsim.machines import Machine
from graftsim.profiles import PLAIN, Profile
from graftsim.program import Kind, Node, Program, Rank
from graftsim_conformance.cases import Case, parts
from graftsim_conformance.recording import Recorded, record
from graftsim_conformance.report import Failure

__all__ = ["BUDGET", "Comparison", "Recorded", "failure", "follow", "given", "record", "ulps"]

BUDGET = 4.0
"""How many of the reference's own first-order bounds a correct candidate may be away.

The bound counts one rounding for each operation of the machine's equations, so the reference itself lies within 1 of
the real result. A candidate that forms the same real number by other operations lies, in the dialects here, within 3.
The worst is a mean as ``m + (1 - beta) (g - m)`` (or ``g - beta (g - m)`` where beta <= 1/2, as torch does): three
roundings of size min(beta, 1 - beta) (|g| + |m|) where the equation grants beta |m| + 2 (1 - beta) |g|. Others have
less: ``p - (lr / c1) (m / d)``, ``sqrt(v) / sqrt(c2)``, a product with ``1 / sqrt(v)``, a fused multiply-add. That is
3 + 1. A power of a C library is within the bound already, which grants it two units. The factor counts roundings; it
is not taken from results.
"""


@dataclass(frozen=True)
class Comparison:
    """Values of one place (``weights`` or a state slot) after one step, against the reference."""

    step: int
    place: str
    got: Array
    want: Array
    error: Array

    @property
    def units(self) -> Array:
        """How far off, in error bounds; 0 where equal or without a bound, infinite where one side alone is finite."""
        with np.errstate(all="ignore"):
            distance = np.abs(self.got - self.want) / self.error
        faults = np.isnan(self.got) & ~np.isfinite(self.want) | np.isnan(self.want) & ~np.isfinite(self.got)
        same = (self.got == self.want) | faults | np.isinf(self.error)
        return np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))

    @property
    def decided(self) -> NDArray[np.bool_]:
        """Where the comparison says something: the bound is finite, or NaN where only a NaN will do."""
        return ~np.isinf(self.error)


def follow(
    program: Program,
    steps: Sequence[Recorded],
    float32: Iterable[str] = (),
    taken: int = 0,
    initial: Mapping[str, Array] | None = None,
    profile: Profile = PLAIN,
) -> Iterator[Comparison]:
    """Hold a machine against a record, one step at a time: state slots, then what else was shown, weights last.

    State that the record lacks is carried along by the reference, with its growing bound. Slots that the candidate
    keeps in float32 are compared to a rounding of float32; then the step is computed from the candidate's values.
    ``taken`` steps came before the first one, which starts from ``initial``. Bounds grant what the ``profile`` names.
    """
    program = showing(program, steps)
    engine, bounds = Engine(program), Bounds(program, profile=profile)
    carried = dict(engine.initial_state() if initial is None else initial)
    bounded = {path: bounds.exact(value) for path, value in carried.items()}
    names = set(program.parameters)
    for number, step in enumerate((in_dtypes(program, step) for step in steps), 1):
        if number == 1:
            yield from _compared(program, 0, carried, bounded, step.state)
        carried |= {path: value for path, value in step.state.items() if path in carried}
        bounded |= {path: bounds.exact(value) for path, value in step.state.items() if path in bounded}
        settings = {path: value for path, value in step.settings.items() if path in names}
        want = engine.step(step.weights, step.gradients, carried, taken + number, settings)
        gradients = parts(program.layout, step.gradients)
        narrow = {path: step.new_state[path] for path in float32 if path in carried and path in step.new_state}
        if narrow:
            yield from _narrow(number, narrow, want.state)
            followed = given(program, narrow)
            want = Engine(followed).step(step.weights, step.gradients, carried, taken + number, settings)
            bounds = Bounds(followed, profile=profile)
        weights, outcome = bounds.step(bounds.exact(step.weights), gradients, bounded, taken + number, settings)
        carried, bounded = dict(want.state), dict(outcome.state)
        yield from _compared(program, number, carried, bounded, step.new_state)
        yield from _shown(program, number, want.info, outcome.info, step)
        yield Comparison(number, "weights", step.new_weights, want.weights, weights.error)


def showing(program: Program, steps: Sequence[Recorded]) -> Program:
    """The program with everything as info that a candidate shows and the program computes, such as children's deltas.

    The order is that of the equations, so that the first difference is where the mistake was made.
    """
    shown = {path for step in steps for path in step.info}
    names = {**{name: name for name in program.kinds}, "delta": program.delta, **program.info}
    targets = [reduction.target for reduction in program.reductions]
    targets += [statement.target for statement in program.statements]
    place = {name: (program.levels[name], number) for number, name in enumerate(targets)}
    found = sorted((path for path in shown if names.get(path) in place), key=lambda path: place[names[path]])
    return dataclasses.replace(program, info={path: names[path] for path in found})


def _shown(
    program: Program, number: int, want: Mapping[str, Array], bounded: Mapping[str, Bounded], step: Recorded
) -> Iterator[Comparison]:
    """What a candidate shows beside its state; where a gradient is missing there is no step to compare."""
    absent = np.repeat([part is None for part in parts(program.layout, step.gradients)], program.layout.sizes)
    for path in program.info:
        if path not in step.info:
            continue
        kind, got = program.kinds[program.info[path]], step.info[path]
        size = kind.count(program.layout)
        if got.shape != (size,):
            raise GraftsimError(f"{path} of the candidate must be {size} numbers; received shape {got.shape}")
        error = np.broadcast_to(bounded[path].error, size)
        if kind.rank is Rank.COORDINATE:
            error = np.where(absent, np.inf, error)
        yield Comparison(number, path, got, np.broadcast_to(want[path], size), error)


def in_dtypes(program: Program, step: Recorded) -> Recorded:
    """The record with each slot in the dtype that the program keeps it in; a candidate's own may be another."""

    def cast(state: Mapping[str, Array]) -> dict[str, Array]:
        found = dict(state)
        for path, slot in program.slots.items():
            if path in found:
                found[path] = found[path].astype(slot.dtype(program))
        return found

    return dataclasses.replace(step, state=cast(step.state), new_state=cast(step.new_state))


def given(program: Program, values: Mapping[str, Array]) -> Program:
    """The program with the next values of some state slots given, in place of their equations."""
    new = {program.slots[path].new: value for path, value in values.items()}
    statements = tuple(
        dataclasses.replace(each, node=Node("constant", (), each.node.kind, new[each.target]))
        if each.target in new
        else each
        for each in program.statements
    )
    return dataclasses.replace(program, statements=statements)


def _narrow(step: int, got: Mapping[str, Array], want: Mapping[str, Array]) -> Iterator[Comparison]:
    """The bound is one rounding to float32; a product of two rounded factors has three (BUDGET)."""
    for path, value in got.items():
        yield Comparison(step, path, value, want[path], 2.0**-24 * np.abs(want[path]))


def _compared(
    program: Program, step: int, want: Mapping[str, Array], bounded: Mapping[str, Bounded], got: Mapping[str, Array]
) -> Iterator[Comparison]:
    for path, slot in program.slots.items():
        if path in got:
            _same_shape(f"state {path}", got[path], want[path])
            error = np.zeros_like(want[path]) if slot.counter else bounded[path].error
            yield Comparison(step, path, got[path], want[path], error)


def _same_shape(what: str, got: Array, want: Array) -> None:
    if got.shape != want.shape:
        raise GraftsimError(f"{what} of the candidate must be {want.size} numbers; received shape {got.shape}")


def failure(case: Case, program: Program, comparison: Comparison) -> Failure | None:
    """What is wrong in a comparison: the coordinate that is farthest off, or None if all is within the budget."""
    units = comparison.units
    if not (units > BUDGET).any():
        return None
    place, step = comparison.place, comparison.step
    worst = int(np.argmax(units))
    slot = program.slots.get(place)
    kind = slot.kind if slot else program.kinds[_name(program, place)]
    where = program.layout.where(worst) if kind.rank is Rank.COORDINATE else _place(kind, worst)
    got, want = float(comparison.got[worst]), float(comparison.want[worst])
    equation, through = equations(program, place, initial=step == 0)
    return Failure(
        case=case.name,
        step=step,
        place=place,
        where=where,
        got=got,
        want=want,
        ulps=ulps(got, want),
        bound=float(comparison.error[worst]),
        units=float(units[worst]),
        equation=equation,
        through=through,
    )


def _place(kind: Kind, number: int) -> str:
    return f"number {number}" if kind.rank is Rank.MATRIX else kind.partition.label(number)


def _name(program: Program, place: str) -> str:
    """The name of a value that a candidate shows, or of the step for the weights."""
    return program.delta if place in ("weights", "delta") else program.info.get(place, place)


def ulps(a: float, b: float) -> int | None:
    """How many float64 numbers lie from a to b; None where one is NaN."""
    if a != a or b != b:
        return None
    first, second = (int(np.float64(x).view(np.int64)) for x in (a, b))
    return abs(sum(sign * (n if n >= 0 else -(2**63) - n) for sign, n in ((1, first), (-1, second))))


def equations(program: Program, place: str, initial: bool = False) -> tuple[str, tuple[str, ...]]:
    """The equation that gives a place its value, and those that it goes through before it comes to state.

    State is compared for itself, so a mistake that is seen first in the weights lies in one of these.
    """
    if initial:
        machine, name = _owner(program, place), place.split(".")[-1]
        return f"{machine.name}: {name} starts at {expressions.unparse(machine.state[name].initial)}", ()
    texts = {statement.target: statement.text for statement in program.statements}
    nodes: dict[str, tuple[Node, ...]] = {statement.target: (statement.node,) for statement in program.statements}
    texts |= {reduction.target: reduction.text for reduction in program.reductions}
    nodes |= {reduction.target: reduction.operands for reduction in program.reductions}
    kept = {slot.new for slot in program.slots.values()}
    target = program.slots[place].new if place in program.slots else _name(program, place)
    while target == program.delta and nodes[target][0].operator == "read" and nodes[target][0].data in nodes:
        if nodes[target][0].data in kept:
            break
        target = nodes[target][0].data  # a wrapper's "delta = inner.delta" says nothing

    def before(name: str) -> set[str]:
        read = {part for node in nodes[name] for part in node.reads() if part in nodes and part not in kept}
        return read.union(*map(before, read))

    def said(name: str) -> str:
        written = texts[name].partition(" = ")[0]  # a wrapper writes "inner.g", and that line is the wrapper's
        prefix = name.rstrip("'").removesuffix(written)
        return f"{_owner(program, prefix).name}: {texts[name]}"

    through = before(target)
    return said(target), tuple(said(name) for name in nodes if name in through)


def _owner(program: Program, path: str) -> Machine:
    """The machine of a path such as ``inner.m`` or a prefix such as ``inner.``."""
    instance = program.instance
    for child in path.split(".")[:-1]:
        instance = instance.children[child]
    return instance.machine
