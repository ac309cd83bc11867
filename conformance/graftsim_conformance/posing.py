"""Posing: from the tables of streams and edges to cases without their answers."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from graftsim import compiler, notation
from graftsim.engine import Engine
from graftsim.layouts import Layout
from graftsim.machines import Machine, library
from graftsim.notation import Instance
from graftsim.program import Program
from graftsim_conformance import cases, edge_machines, edge_streams, edges, exercised, probes
from graftsim_conformance.cases import Array, Case, Gradients
from graftsim_conformance.edges import Edge
from graftsim_conformance.probes import Probe

STREAM_RULES = ("GS-trajectory-golden", "GS-trajectory-floats", "GS-language-hyperparameter", "GS-arithmetic-literal")
OPTIONS = Probe(probes.options, probes.PROBES["mixed"].values, "an option that is ignored, or taken for another")
CHILDREN = {"inner": "adam", "magnitude": "adam", "direction": "momentum(first_step=copy)"}
"""What stands in a machine with children where a case is about the machine's own options."""


def streams() -> Iterator[tuple[str, str, str]]:
    """Name, machine and stream of every case that is not an edge."""
    for table, names in (
        (probes.NATIVE, probes.EVERY),
        (probes.REFERENCE, probes.SOME),
        (edge_machines.TABLES, probes.SOME),
    ):
        for name, machine in table.items():
            for stream in names:
                yield f"{name}.{stream}", machine, stream
    for name in probes.FLOAT32:
        yield f"{name}.mixed-float32", {**probes.NATIVE, **probes.REFERENCE}[name], "mixed"
    for name, machine in other_options().items():
        for stream in ("options", "options-zero"):
            yield f"{name}.{stream}", machine, stream


def names() -> dict[str, str]:
    """The machine of every golden case, by the case's name."""
    found = {name: machine for name, machine, _ in streams()}
    return found | {edges.name_of(*row): edge_machines.MACHINES[row[1]] for row in edges.posed()}


@functools.cache
def with_missing() -> frozenset[str]:
    """The names of the golden cases in which a gradient is missing, as the tables say; no file is read."""

    def lacks(stream: Sequence[Gradients]) -> bool:
        return any(not isinstance(row, np.ndarray) for row in stream)

    probed = {stream: lacks(_probe(stream).gradients()) for stream in {stream for _, _, stream in streams()}}
    found = {name for name, _, stream in streams() if probed[stream]}
    return frozenset(found | {edges.name_of(*row) for row in edges.posed() if lacks(row[0].stream)})


@functools.cache
def unanswered() -> dict[str, tuple[str, str]]:
    """Machine and stream of the cases without a file, by name: machines with matrices (GS-matrix-equivalent).

    A check needs none, since the reference steps from the candidate's own state.
    """
    return {
        f"{name}.{stream}": (machine, stream) for name, machine in probes.MATRICES.items() for stream in probes.EVERY
    }


def every() -> Iterator[Case]:
    """All cases, without their answers."""
    for name, machine, stream in streams():
        yield of_stream(name, machine, stream)
    for edge, machine, dtype, twin in edges.posed():
        yield of_edge(edge, machine, dtype, twin)


def of_stream(name: str, machine: str, stream: str) -> Case:
    """A machine over a stream; ``-zero`` starts it at zero weights."""
    probe = _probe(stream)
    dtype = "float32" if name.endswith("-float32") else "float64"
    weights = probes.start(stream.endswith("-zero"))
    program = compiler.build(notation.parse(machine), probes.LAYOUT, dtype)
    rules = {*STREAM_RULES, *exercised.rules(program)}
    return pose(name, machine, program, probe, probe.gradients(), weights, rules)


def _probe(stream: str) -> Probe:
    base = stream.removesuffix("-zero")
    return OPTIONS if base == "options" else probes.PROBES[base]


def of_edge(edge: Edge, machine: str, dtype: str = "float64", twin: bool = False) -> Case:
    """A machine over an edge's stream; its twin starts at zero weights."""
    probe = Probe(list, {**edges.VALUES, **edge.values}, edge.about)
    weights = edge_streams.start(edge_streams.LAYOUT.names if twin else edge.zero or ())
    name = edges.name_of(edge, machine, dtype, twin)
    expression = edge_machines.MACHINES[machine]
    program = compiler.build(notation.parse(expression), edge_streams.LAYOUT, dtype)
    instance = program.instance
    rules = {*edge.rules, *exercised.of_partitions(instance), *exercised.of_wrappers(instance)}
    return pose(name, expression, program, probe, edge.stream, weights, rules, edge.taken)


def pose(
    name: str,
    machine: str,
    program: Program,
    probe: Probe,
    stream: Sequence[Gradients],
    weights: Array,
    rules: Collection[str],
    taken: int = 0,
) -> Case:
    """A case without its answer."""
    layout, dtype = program.layout, str(program.dtype)
    given = cases.given_parameters(program)
    values = {path: _values(probe, path, program, len(stream), taken) for path in given}
    with np.errstate(over="ignore"):
        gradients = [_cast(row, layout, dtype) for row in stream]
    case = Case(
        name=name,
        machine=machine,
        dtype=dtype,
        layout=layout,
        weights=weights.astype(dtype),
        hyperparameters=[{path: row[step] for path, row in values.items()} for step in range(len(stream))],
        gradients=gradients,
        rules=tuple(sorted(rules)),
        about=probe.about,
        taken=taken,
    )
    return _late(case) if taken else case


def _cast(row: Gradients, layout: Layout, dtype: str) -> Gradients:
    if isinstance(row, np.ndarray):
        return row.astype(dtype)
    pairs = zip(row, layout.shapes, strict=True)
    return [None if part is None else part.astype(dtype).reshape(shape) for part, shape in pairs]


def _values(probe: Probe, path: str, program: Program, steps: int, taken: int) -> list[float]:
    """A hyperparameter at each step; a schedule is evaluated."""
    instance = program.instance
    for child in path.split(".")[:-1]:
        instance = instance.children[child]
    found = probes.value(probe, path, instance.machine.name)
    if isinstance(found, str):
        scheduled = Engine(compiler.build(notation.parse(f"sgd(lr={found})"), probes.LAYOUT))
        node = scheduled.program.parameters["lr"].node
        return [float(scheduled.scalar(node, taken + step).reshape(-1)[0]) for step in range(1, steps + 1)]
    default = instance.machine.hyperparameters[path.split(".")[-1]].default
    return probes.schedule(probe, path, instance.machine.name, steps, default)


def _late(case: Case) -> Case:
    """The case from a state such as a long run leaves: that after the case's own steps, with counters set on."""
    engine = Engine(case.program)
    weights, state = case.weights, engine.initial_state()
    for step, (gradients, settings) in enumerate(zip(case.gradients, case.hyperparameters, strict=True), 1):
        found = engine.step(weights, gradients, state, step, settings)
        weights, state = found.weights, found.state
    counters = {path for path, slot in case.program.slots.items() if slot.counter}
    late = {path: np.full_like(values, case.taken) if path in counters else values for path, values in state.items()}
    return dataclasses.replace(case, state=late)


# -- options that no table has -----------------------------------------------------------------------------------------


def other_options() -> dict[str, str]:
    """Expressions of every machine, and of every value of its options, that the tables leave out.

    Machines with matrices have none: their last bits are those of a library (GS-matrix-equivalent).
    """
    tables = {**probes.NATIVE, **probes.REFERENCE, **edge_machines.TABLES, **edge_machines.MACHINES}
    covered = set(itertools.chain.from_iterable(chosen_options(notation.parse(machine)) for machine in tables.values()))
    found: dict[str, str] = {}
    for name in library().names():
        machine = library()[name]
        if has_matrix(machine):
            continue
        left = {
            option: [value for value in values if (name, option, value) not in covered]
            for option, values in machine.options.items()
        }
        count = max(map(len, left.values()), default=0) or int((name, "", "") not in covered)
        for number in range(count):
            parts = [CHILDREN[child] for child in machine.children]
            parts += [f"{option}={values[number]}" for option, values in left.items() if number < len(values)]
            chosen = [f"{option}_{values[number]}" for option, values in left.items() if number < len(values)]
            found["-".join(["options", name, *chosen])] = f"{name}({', '.join(parts)})"
    return found


def has_matrix(machine: Machine) -> bool:
    """Whether a machine keeps matrices."""
    return any(slot.kind == "matrix" for slot in machine.state.values())


def chosen_options(instance: Instance) -> Iterator[tuple[str, str, str]]:
    """Machine, option and value of all that is in an instance; a machine by itself has empty ones."""
    yield instance.machine.name, "", ""
    for option in instance.machine.options:
        yield instance.machine.name, option, instance.option(option)
    for child in instance.children.values():
        yield from chosen_options(child)
