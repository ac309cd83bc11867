"""Trials: the runs that a law compares. Machines get their hyperparameters written out, and steps their bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from graftsim import compiler, expressions, notation
from graftsim.bounds import Bounded, Bounds
from graftsim.engine import Engine
from graftsim.errors import GraftsimError
from graftsim.expressions import Number
from graftsim.interpreter import Outcome
from graftsim.layouts import Layout
from graftsim.notation import Instance, Setting
from graftsim.program import Program
from graftsim_conformance import edge_streams, edges, probes
from graftsim_conformance.candidates import Candidate
from graftsim_conformance.cases import Array, Case, Gradients, given_parameters, parts
from graftsim_conformance.dialects import Row, fixed
from graftsim_conformance.recording import OWN, Recorded, record, record_restored
from graftsim_conformance.verdicts import CandidateError, Verdict

SELF = "{self}"
LAYOUT = Layout.of({"c": (2, 2, 2), "w": (3, 2), "one": (1,), "s": (), "b": (3,)})
"""Without an empty tensor, which some natives refuse: laws are about ordinary numbers, and edges are golden cases."""
LAYOUTS = (LAYOUT, edge_streams.LAYOUT, probes.LAYOUT)
STEPS = 4
SPREAD = (1.0, 0.75, 1.25, 0.625, 1.5)
"""Factors between the learning rates of the machines in an expression, so that none is taken for another."""


@dataclass(frozen=True)
class Trial:
    """A candidate as a law tries it.

    ``instance`` has a value for every hyperparameter: its own where it was given one, else one that makes it matter.
    ``held`` are those that a native has as its defaults, and is not told.
    """

    factory: Callable[[], Candidate]
    family: Callable[[Instance], Candidate] | None
    given: Instance
    dtype: str
    row: Row
    values: Mapping[str, float]

    @cached_property
    def instance(self) -> Instance:
        return written_out(self.given, self.values)

    @cached_property
    def layout(self) -> Layout:
        """The first layout over which the machine can be built: partitions and tables name tensors."""
        return next((layout for layout in LAYOUTS[:-1] if _builds(self.instance, layout)), LAYOUTS[-1])

    @cached_property
    def program(self) -> Program:
        return self.built(SELF)

    def built(self, template: str) -> Program:
        return compiler.build(self.machine(template), self.layout, self.dtype)

    def machine(self, template: str) -> Instance:
        """The machine of a law's expression."""
        children = {name: str(child) for name, child in self.instance.children.items()}
        partition = self.instance.partition or ""
        return notation.parse(template.format(self=str(self.instance), partition=partition, **children))

    @cached_property
    def reads_weights(self) -> bool:
        """Whether the weights enter into some equation."""
        nodes = [row.node for row in self.program.statements]
        nodes += [operand for row in self.program.reductions for operand in row.operands]
        return any(name == "w" for node in nodes for name in node.reads())

    @cached_property
    def fused(self) -> bool:
        """Whether the candidate says that a compiler fuses its products and sums, otherwise in every program."""
        return bool(getattr(self.factory(), "fused", False))

    def case(self, template: str = SELF, steps: int = STEPS, zeros: bool = False) -> Case:
        """The machine over ordinary gradients. It starts at zero, which hides nothing, unless it reads its weights."""
        program, layout = self.built(template), self.layout
        gradients = ordinary(layout, steps)
        if zeros:
            for step, row in enumerate(gradients):
                row[step % 2 :: 3] = 0.0
        weights = small_weights(layout) if self.reads_weights else np.zeros(layout.size)
        return Case(
            name=template,
            machine=str(program.instance),
            dtype=self.dtype,
            layout=layout,
            weights=weights.astype(self.dtype),
            hyperparameters=hyperparameters(program, steps),
            gradients=[row.astype(self.dtype) for row in gradients],
        )

    def candidate(self, template: str) -> Candidate:
        if template == SELF:
            return self.factory()
        if self.family is None:
            raise CandidateError(Verdict.NOT_SUPPORTED, "the law is about two machines, and only one is given")
        return self.family(self.machine(template))

    def run(self, case: Case) -> list[Recorded]:
        """A record of a case that :meth:`case` posed, in whatever way it was changed since."""
        return self._asked(lambda: record(self.candidate(case.name), self.row, case, self.held))

    def restored(self, case: Case, begun: list[Recorded]) -> list[Recorded]:
        return self._asked(lambda: record_restored(self.factory(), self.row, case, self.held, begun))

    @cached_property
    def held(self) -> dict[str, float]:
        return {} if self.row is OWN else fixed(self.given)

    @staticmethod
    def _asked(run: Callable[[], list[Recorded]]) -> list[Recorded]:
        """What an adapter refuses to do with its native, or a family has no candidate for, is not supported."""
        try:
            return run()
        except (GraftsimError, NotImplementedError) as error:
            raise CandidateError(Verdict.NOT_SUPPORTED, str(error) or "it gives no reason") from None


# -- machines ----------------------------------------------------------------------------------------------------------


def written_out(instance: Instance, values: Mapping[str, float], seen: list[str] | None = None) -> Instance:
    """The instance with a value for each hyperparameter, learning rates as schedules."""
    seen = [] if seen is None else seen
    settings: dict[str, Setting] = {**instance.settings}
    for name, row in instance.machine.hyperparameters.items():
        if name not in settings:
            found = _value(instance.machine.name, name, row.default, values)
            settings[name] = _schedule(found, len(seen)) if isinstance(found, list) else Number(found)
            seen += [name] if isinstance(found, list) else []
    children = {name: written_out(child, values, seen) for name, child in instance.children.items()}
    return dataclasses.replace(instance, settings=settings, children=children)


def _value(machine: str, name: str, default: float | None, values: Mapping[str, float]) -> Any:
    if name in values:
        return values[name]
    return edges.VALUES.get(f"{machine}.{name}", edges.VALUES.get(name, 0.5 if default is None else default))


def _schedule(values: Sequence[float], number: int) -> Setting:
    """These values one after another, in the scale of the rate of this number, all dyadic; the last one stays."""
    *first, text = [repr(value * SPREAD[number % len(SPREAD)]) for value in values]
    for step in range(len(first), 0, -1):
        text = f"where(step == {step}, {first[step - 1]}, {text})"
    return expressions.parse(text, "a law")


def _builds(instance: Instance, layout: Layout) -> bool:
    try:
        compiler.build(instance, layout)
    except GraftsimError:
        return False
    return True


# -- inputs ------------------------------------------------------------------------------------------------------------


def ordinary(layout: Layout, steps: int) -> list[Array]:
    """Gradients of three binades without a zero."""
    return probes.rows(probes.dyadic(23, -2, 0), steps, layout.size)


def small_weights(layout: Layout) -> Array:
    return probes.rows(probes.dyadic(29, -6, -4), 1, layout.size)[0]


def hyperparameters(program: Program, steps: int) -> list[dict[str, float]]:
    """What a case tells of a program's hyperparameters at each step."""
    engine, paths = Engine(program), given_parameters(program)
    return [
        {path: float(engine.scalar(program.parameters[path].node, step).reshape(-1)[0]) for path in paths}
        for step in range(1, steps + 1)
    ]


def changed(case: Case, **changes: Any) -> Case:
    """The case with other inputs, of the same program."""
    return dataclasses.replace(case, **changes)


def each(gradients: Sequence[Gradients], change: Callable[[Array], Array]) -> list[Gradients]:
    """Flat gradients, each changed."""
    return [change(np.asarray(row)) for row in gradients]


# -- bounds ------------------------------------------------------------------------------------------------------------


def bounded(case: Case) -> Iterator[tuple[Bounded, Outcome]]:
    """Weights and outcome after each step with their bounds, which are carried along over these few steps."""
    bounds = Bounds(case.program)
    weights, state = bounds.exact(case.weights), {path: bounds.exact(value) for path, value in case.start.items()}
    for step, (gradients, settings) in enumerate(zip(case.gradients, case.hyperparameters, strict=True), 1):
        weights, outcome = bounds.step(weights, parts(case.layout, gradients), state, step, settings)
        state = outcome.state
        yield weights, outcome
