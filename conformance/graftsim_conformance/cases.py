"""Golden trajectories as files: one case, one JSON file, exact floats, a digest (``spec/trajectories.md``).

A file is UTF-8 with LF, keys sorted, one tensor (flat, in C order) a line. ``sha256`` is the SHA-256 of the file's
bytes with the 64 digits of the digest itself replaced by zeros.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import compiler, documents, notation
from graftsim.errors import GraftsimError
from graftsim.expressions import Number
from graftsim.layouts import Layout
from graftsim.notation import Instance
from graftsim.program import Kind, Program, Rank
from graftsim_conformance.hexfloat import from_hex, to_hex

Array = NDArray[Any]
BYTES = 60_000
COORDINATES = 64
ZEROS = "0" * 64


@dataclass(frozen=True)
class After:
    """What stands after a step: flat weights, and path to array for state and info."""

    weights: Array
    state: Mapping[str, Array]
    info: Mapping[str, Array]


@dataclass(frozen=True)
class Case:
    """A golden trajectory.

    ``machine`` is an expression with options only; ``hyperparameters`` has, for each step, every value that the
    machine reads, by path. Arrays are flat, in the layout's order.
    """

    name: str
    machine: str
    dtype: str
    layout: Layout
    weights: Array
    hyperparameters: Sequence[Mapping[str, float]]
    gradients: Sequence[Array]
    after: Sequence[After] = ()

    @cached_property
    def program(self) -> Program:
        """The program, with the first step's hyperparameters in it: the initial state is made of them."""
        return compiler.build(settled(notation.parse(self.machine), self.hyperparameters[0]), self.layout, self.dtype)


def settled(instance: Instance, values: Mapping[str, float], prefix: str = "") -> Instance:
    """The instance with hyperparameters set, by path (``inner.lr``), where it has them."""
    own = {name: Number(values[prefix + name]) for name in instance.machine.hyperparameters if prefix + name in values}
    children = {name: settled(child, values, f"{prefix}{name}.") for name, child in instance.children.items()}
    return dataclasses.replace(instance, settings={**instance.settings, **own}, children=children)


def in_dtype(case: Case, dtype: str) -> Case:
    """The case posed in another dtype, without its answer. The streams' numbers are exact in float32 too."""
    if dtype == case.dtype:
        return case
    gradients = [row.astype(dtype) for row in case.gradients]
    return dataclasses.replace(case, dtype=dtype, weights=case.weights.astype(dtype), gradients=gradients, after=())


def read_parameters(program: Program) -> list[str]:
    """The paths of the hyperparameters that some equation or initial value reads, in the program's order."""
    nodes = [statement.node for statement in program.statements]
    nodes += [operand for reduction in program.reductions for operand in reduction.operands]
    nodes += [slot.initial for slot in program.slots.values()]
    read = {name for node in nodes for name in node.reads()}
    return [path for path in program.parameters if path in read]


# -- writing -----------------------------------------------------------------------------------------------------------


def text(case: Case) -> str:
    """The file of a case."""
    layout, program = case.layout, case.program
    content = {
        "schema": "golden/1",
        "name": case.name,
        "machine": case.machine,
        "dtype": case.dtype,
        "tensors": [{"name": name, "shape": list(shape)} for name, shape in layout.tensors],
        "weights": _tensors(layout, case.weights),
        "steps": [
            {
                "hyperparameters": {path: to_hex(value) for path, value in hyperparameters.items()},
                "gradients": _tensors(layout, gradients),
                "weights": _tensors(layout, after.weights),
                "state": {path: _values(program, program.slots[path].kind, path, x) for path, x in after.state.items()},
                "info": {
                    path: _values(program, program.kinds[program.info[path]], path, x) for path, x in after.info.items()
                },
            }
            for hyperparameters, gradients, after in zip(case.hyperparameters, case.gradients, case.after, strict=True)
        ],
        "sha256": ZEROS,
    }
    plain = _dump(content, "") + "\n"
    return plain.replace(f'"sha256": "{ZEROS}"', f'"sha256": "{hashlib.sha256(plain.encode()).hexdigest()}"')


def _tensors(layout: Layout, flat: Array) -> dict[str, list[str]]:
    return {name: [to_hex(x) for x in flat[place].tolist()] for name, _, place in layout.slices()}


def _values(program: Program, kind: Kind, path: str, values: Array) -> dict[str, Any]:
    """One list a tensor for coordinates, else one value a group; a counter is an integer."""
    if kind.rank is Rank.COORDINATE:
        return _tensors(program.layout, values)
    counter = path in program.slots and program.slots[path].counter
    numbers = [int(x) if counter else to_hex(x) for x in values.tolist()]
    return dict(zip(kind.partition.names, numbers, strict=True))


def _dump(value: Any, indent: str) -> str:
    """JSON with sorted keys, where a list or mapping of plain values is one line."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    if not any(isinstance(item, dict | list) for item in inner):
        return json.dumps(value, sort_keys=True)
    deeper = indent + "  "
    if isinstance(value, dict):
        rows = [f"{deeper}{json.dumps(key)}: {_dump(value[key], deeper)}" for key in sorted(value)]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return "[\n" + ",\n".join(f"{deeper}{_dump(item, deeper)}" for item in value) + f"\n{indent}]"


# -- reading -----------------------------------------------------------------------------------------------------------


def read(path: Path | Traversable) -> Case:
    """Read a case, and believe nothing of it: size, JSON, schema, digest, floats, shapes, machine.

    Raises:
        GraftsimError: one line with the file and the place in it.
    """
    where = str(path)
    raw = documents.read_text(path, BYTES)
    content = documents.read_json(path)
    documents.validate(content, "golden", where)
    _check_digest(raw, content["sha256"], where)
    layout = Layout.of({row["name"]: row["shape"] for row in content["tensors"]})
    if len(layout.tensors) != len(content["tensors"]):
        raise GraftsimError(f"{where}: tensors must have different names")
    if layout.size > COORDINATES:
        raise GraftsimError(f"{where}: a case must have at most {COORDINATES} coordinates; received {layout.size}")
    reader = _Reader(where, layout, content["dtype"])
    case = Case(
        name=content["name"],
        machine=content["machine"],
        dtype=content["dtype"],
        layout=layout,
        weights=reader.tensors(content["weights"], "weights"),
        hyperparameters=[
            {path: from_hex(x, "float64", f"{where}, {path}") for path, x in step["hyperparameters"].items()}
            for step in content["steps"]
        ],
        gradients=[reader.tensors(step["gradients"], "gradients") for step in content["steps"]],
    )
    try:
        needed = set(read_parameters(case.program))
    except GraftsimError as error:
        raise GraftsimError(f"{where}: {error}") from None
    for values in case.hyperparameters:
        if set(values) != needed:
            odd = sorted(needed.symmetric_difference(values))[0]
            raise GraftsimError(f"{where}: each step must have the values of {sorted(needed)}; {odd!r} differs")
    after = [reader.after(step, case.program) for step in content["steps"]]
    return dataclasses.replace(case, after=after)


def _check_digest(raw: str, stated: str, where: str) -> None:
    found = hashlib.sha256(raw.replace(stated, ZEROS).encode()).hexdigest()
    if found != stated:
        raise GraftsimError(
            f"{where}: the content must have the digest that it states ({stated[:12]}...); "
            f"it has {found[:12]}...: the file was altered, take it from the release again"
        )


@dataclass(frozen=True)
class _Reader:
    where: str
    layout: Layout
    dtype: str

    def tensors(self, rows: Mapping[str, Any], place: str) -> Array:
        self.same_names(rows, self.layout.names, place)
        parts = []
        for name, size in zip(self.layout.names, self.layout.sizes, strict=True):
            if not isinstance(rows[name], list) or len(rows[name]) != size:
                raise GraftsimError(f"{self.where}: {place}, {name} must be a list of {size} values")
            parts.append([from_hex(x, self.dtype, f"{self.where}, {place}, {name}") for x in rows[name]])
        return np.array([x for part in parts for x in part], self.dtype)

    def after(self, step: Mapping[str, Any], program: Program) -> After:
        self.same_names(step["state"], program.slots, "state")
        self.same_names(step["info"], program.info, "info")
        slots, kinds = program.slots, program.kinds
        return After(
            self.tensors(step["weights"], "weights"),
            {path: self.values(step["state"][path], slot.kind, path) for path, slot in slots.items()},
            {path: self.values(step["info"][path], kinds[name], path) for path, name in program.info.items()},
        )

    def values(self, rows: Mapping[str, Any], kind: Kind, place: str) -> Array:
        if kind.rank is Rank.COORDINATE:
            return self.tensors(rows, place)
        self.same_names(rows, kind.partition.names, place)
        values = [rows[name] for name in kind.partition.names]
        return np.array(
            [float(x) if type(x) is int else from_hex(x, "float64", f"{self.where}, {place}") for x in values]
        )

    def same_names(self, rows: Mapping[str, Any], names: Any, place: str) -> None:
        if set(rows) != set(names):
            odd = sorted(set(rows).symmetric_difference(names))[0]
            raise GraftsimError(f"{self.where}: {place} must have {', '.join(names) or 'nothing'}; {odd!r} differs")
