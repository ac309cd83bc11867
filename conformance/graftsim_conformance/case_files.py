"""Golden cases as files: one case, one JSON file, exact floats, a digest (``spec/trajectories.md``).

A file is UTF-8 with LF, keys sorted, one tensor (flat, in C order) a line. ``sha256`` is the SHA-256 of the file's
bytes with the 64 digits of the digest itself replaced by zeros.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from graftsim import documents
from graftsim.errors import GraftsimError
from graftsim.layouts import Layout
from graftsim.program import Kind, Program, Rank
from graftsim_conformance.cases import After, Array, Case, Gradients, given_parameters, parts, sizes
from graftsim_conformance.hexfloat import from_hex, to_hex

SCHEMA = "golden/2"
BYTES = 60_000
COORDINATES = 64
ZEROS = "0" * 64


# -- writing -----------------------------------------------------------------------------------------------------------


def text(case: Case) -> str:
    """The file of a case."""
    layout, program = case.layout, case.program
    content = {
        "schema": SCHEMA,
        "name": case.name,
        "about": case.about,
        "rules": sorted(case.rules),
        "machine": case.machine,
        "dtype": case.dtype,
        "tensors": [{"name": name, "shape": list(shape)} for name, shape in layout.tensors],
        "start": {
            "step": case.taken,
            "weights": _tensors(layout, case.weights),
            "state": _state(program, case.start),
        },
        "steps": [
            {
                "hyperparameters": {path: to_hex(value) for path, value in hyperparameters.items()},
                "gradients": _gradients(layout, gradients),
                "weights": _tensors(layout, after.weights),
                "state": _state(program, after.state),
                "info": {
                    path: _values(program, program.kinds[program.info[path]], path, x) for path, x in after.info.items()
                },
            }
            for hyperparameters, gradients, after in zip(case.hyperparameters, case.gradients, case.after, strict=True)
        ],
        "sha256": ZEROS,
    }
    plain = _dump(content, "") + "\n"
    return plain.replace(f'"sha256":"{ZEROS}"', f'"sha256":"{hashlib.sha256(plain.encode()).hexdigest()}"')


def _tensors(layout: Layout, flat: Array) -> dict[str, list[str]]:
    return {name: [to_hex(x) for x in flat[place].tolist()] for name, _, place in layout.slices()}


def _gradients(layout: Layout, gradients: Gradients) -> dict[str, list[str] | None]:
    rows = zip(layout.names, parts(layout, gradients), strict=True)
    return {name: None if part is None else [to_hex(x) for x in part.reshape(-1).tolist()] for name, part in rows}


def _state(program: Program, state: Mapping[str, Array]) -> dict[str, Any]:
    return {path: _values(program, program.slots[path].kind, path, values) for path, values in state.items()}


def _values(program: Program, kind: Kind, path: str, values: Array) -> dict[str, Any]:
    """One list a tensor for coordinates and matrices, else one value a group; a counter is an integer."""
    if kind.rank >= Rank.COORDINATE:
        places = pairwise(accumulate(sizes(program.layout, kind), initial=0))
        rows = ([to_hex(x) for x in values[start:stop].tolist()] for start, stop in places)
        return dict(zip(program.layout.names, rows, strict=True))
    counter = path in program.slots and program.slots[path].counter
    numbers = [int(x) if counter else to_hex(x) for x in values.tolist()]
    return dict(zip(kind.partition.names, numbers, strict=True))


def _dump(value: Any, indent: str) -> str:
    """JSON with sorted keys, one space a level, where a list or mapping of plain values is one line."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    if not any(isinstance(item, dict | list) for item in inner):
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    deeper = indent + " "
    if isinstance(value, dict):
        rows = [f"{deeper}{json.dumps(key)}:{_dump(value[key], deeper)}" for key in sorted(value)]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return "[\n" + ",\n".join(f"{deeper}{_dump(item, deeper)}" for item in value) + f"\n{indent}]"


# -- reading -----------------------------------------------------------------------------------------------------------


def read(path: Path | Traversable) -> Case:
    """Read a case, and believe nothing of it: size, JSON, schema, digest, floats, shapes, machine.

    Raises:
        GraftsimError: one line with the file and the place in it.
    """
    raw = documents.read_text(path, BYTES)
    content = documents.read_json(path)
    documents.validate(content, "golden", str(path))
    return _case(raw, content, str(path))


def read_own(path: Path | Traversable) -> Case:
    """Read a case that comes with this package, whose files ``python -m graftsim_conformance.golden`` compares with
    what it computes: all is checked but the schema, which takes most of the time."""
    return _case(documents.read_text(path, BYTES), documents.read_json(path), str(path))


def _case(raw: str, content: Any, where: str) -> Case:
    _check_digest(raw, content["sha256"], where)
    layout = Layout.of({row["name"]: row["shape"] for row in content["tensors"]})
    if len(layout.tensors) != len(content["tensors"]):
        raise GraftsimError(f"{where}: tensors must have different names")
    if layout.size > COORDINATES:
        raise GraftsimError(f"{where}: a case must have at most {COORDINATES} coordinates; received {layout.size}")
    reader = _Reader(where, layout, content["dtype"])
    start = content["start"]
    case = Case(
        name=content["name"],
        machine=content["machine"],
        dtype=content["dtype"],
        layout=layout,
        weights=reader.tensors(start["weights"], "weights"),
        hyperparameters=[
            {path: from_hex(x, "float64", f"{where}, {path}") for path, x in step["hyperparameters"].items()}
            for step in content["steps"]
        ],
        gradients=[reader.gradients(step["gradients"]) for step in content["steps"]],
        rules=tuple(content["rules"]),
        about=content["about"],
        taken=start["step"],
    )
    try:
        needed = set(given_parameters(case.program))
    except GraftsimError as error:
        raise GraftsimError(f"{where}: {error}") from None
    for values in case.hyperparameters:
        if set(values) != needed:
            odd = sorted(needed.symmetric_difference(values))[0]
            raise GraftsimError(f"{where}: each step must have the values of {sorted(needed)}; {odd!r} differs")
    after = [reader.after(step, case.program) for step in content["steps"]]
    state = reader.state(start["state"], case.program)
    return dataclasses.replace(case, state=None if _same(state, case.start) else state).answered(after)


def _same(first: Mapping[str, Array], second: Mapping[str, Array]) -> bool:
    return all(first[path].tobytes() == second[path].tobytes() for path in second)


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

    def tensors(self, rows: Mapping[str, Any], place: str, sizes: tuple[int, ...] | None = None) -> Array:
        self.same_names(rows, self.layout.names, place)
        found = [
            self.row(rows[name], size, f"{place}, {name}")
            for name, size in zip(self.layout.names, self.layout.sizes if sizes is None else sizes, strict=True)
        ]
        return np.array([x for row in found for x in row], self.dtype)

    def row(self, values: Any, size: int, place: str) -> list[float]:
        if not isinstance(values, list) or len(values) != size:
            raise GraftsimError(f"{self.where}: {place} must be a list of {size} values")
        return [from_hex(x, self.dtype, f"{self.where}, {place}") for x in values]

    def gradients(self, rows: Mapping[str, Any]) -> Gradients:
        self.same_names(rows, self.layout.names, "gradients")
        if not any(row is None for row in rows.values()):
            return self.tensors(rows, "gradients")
        shapes = zip(self.layout.tensors, self.layout.sizes, strict=True)
        return [
            None
            if rows[name] is None
            else np.array(self.row(rows[name], size, f"gradients, {name}"), self.dtype).reshape(shape)
            for (name, shape), size in shapes
        ]

    def after(self, step: Mapping[str, Any], program: Program) -> After:
        self.same_names(step["info"], program.info, "info")
        return After(
            self.tensors(step["weights"], "weights"),
            self.state(step["state"], program),
            {path: self.values(step["info"][path], program.kinds[name], path) for path, name in program.info.items()},
        )

    def state(self, rows: Mapping[str, Any], program: Program) -> dict[str, Array]:
        self.same_names(rows, program.slots, "state")
        return {path: self.values(rows[path], slot.kind, path) for path, slot in program.slots.items()}

    def values(self, rows: Mapping[str, Any], kind: Kind, place: str) -> Array:
        if kind.rank >= Rank.COORDINATE:
            return self.tensors(rows, place, sizes(self.layout, kind))
        self.same_names(rows, kind.partition.names, place)
        values = [rows[name] for name in kind.partition.names]
        return np.array(
            [float(x) if type(x) is int else from_hex(x, "float64", f"{self.where}, {place}") for x in values]
        )

    def same_names(self, rows: Mapping[str, Any], names: Any, place: str) -> None:
        if set(rows) != set(names):
            odd = sorted(set(rows).symmetric_difference(names))[0]
            raise GraftsimError(f"{self.where}: {place} must have {', '.join(names) or 'nothing'}; {odd!r} differs")
