"""Dialects: which machine a framework's optimizer is, and how its arguments and state are named."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from typing import Any

from graftsim import compiler, documents, notation
from graftsim.errors import GraftsimError, nearest
from graftsim.notation import Instance
from graftsim_conformance import cases
from graftsim_conformance.probes import LAYOUT


@dataclass(frozen=True)
class Row:
    """One way to use a target: a machine, the native's keywords, and where its state lies."""

    target: str
    variant: str
    machine: str
    arguments: Mapping[str, Any]
    state: Mapping[str, str]
    float32: tuple[str, ...] = ()
    """Slots that the native keeps in float32 whatever the dtype of the weights."""
    through_float32: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Backend to the hyperparameters that the native rounds to float32 there, whatever the dtype of the weights."""
    not_expressible: Mapping[str, str] = field(default_factory=dict)
    """Backend to the reason why the machine cannot give what the native computes there."""
    profiles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Backend or dtype to what the platform is known to do otherwise (:mod:`graftsim.profiles`)."""

    @property
    def instance(self) -> Instance:
        return notation.parse(self.machine)

    def native(self, hyperparameters: Mapping[str, float], fixed: Mapping[str, float]) -> dict[str, Any]:
        """The native's keyword arguments. One that only reads fixed values is left out: the native has its default."""

        def value(source: Any) -> Any:
            if isinstance(source, list):
                return tuple(value(item) for item in source)
            return hyperparameters[source] if isinstance(source, str) else source

        return {
            keyword: value(source)
            for keyword, source in self.arguments.items()
            if not paths(source) or not paths(source) <= set(fixed)
        }


def told(by_backend: Mapping[str, Any], backend: str, dtype: str) -> Any:
    """What a row says of a backend and a dtype, under a key of both or of one of them; None if nothing."""
    keys = (f"{backend} {dtype}", backend, dtype)
    return next((by_backend[key] for key in keys if key in by_backend), None)


def signed(source: str) -> tuple[str, float]:
    """The native name and the sign of a state source: ``-TraceState.trace`` holds the slot times -1."""
    return (source[1:], -1.0) if source.startswith("-") else (source, 1.0)


def paths(source: Any) -> set[str]:
    """The hyperparameters that an argument is made of; literals have none."""
    return {part for part in (source if isinstance(source, list) else [source]) if isinstance(part, str)}


@dataclass(frozen=True)
class Target:
    """A native optimizer, by import path ``module:attribute``, and its rows."""

    path: str
    framework: str
    distributions: tuple[str, ...]
    rows: tuple[Row, ...]
    defaults: Mapping[str, Any]
    notes: tuple[str, ...]


def fixed(instance: Instance, prefix: str = "") -> dict[str, float]:
    """The hyperparameters that are written in an expression, by path."""
    found: dict[str, float] = {}
    for name, setting in instance.settings.items():
        value = None if isinstance(setting, Mapping | list) else notation.constant_value(setting)
        if value is None:
            raise GraftsimError(
                f"{prefix + name}: in a check a hyperparameter must be a number, or be left to the cases"
            )
        found[prefix + name] = value
    for child, inner in instance.children.items():
        found |= fixed(inner, f"{prefix}{child}.")
    return found


@functools.cache
def targets() -> Mapping[str, Target]:
    """All targets of the spec's dialects, by import path."""
    found: dict[str, Target] = {}
    for file in _files():
        found |= read(documents.read_yaml(file), str(file))
    return found


def _files() -> list[Traversable]:
    folder = documents.spec() / "dialects"
    return sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)


@functools.cache
def absent() -> Mapping[str, Mapping[str, str]]:
    """Optimizers that no row describes: package to name to reason."""
    read_all = [documents.read_yaml(file) for file in _files()]
    return {re.split("[.:]", next(iter(document["targets"])))[0]: document.get("absent", {}) for document in read_all}


def rows() -> list[Row]:
    """All rows of all targets."""
    return [row for target in targets().values() for row in target.rows]


def read(document: Any, where: str) -> dict[str, Target]:
    """The targets of one dialect file.

    Raises:
        GraftsimError: not of the schema; an argument or state slot that its machine does not have; a hyperparameter
            that the machine reads and that is neither an argument nor fixed.
    """
    documents.validate(document, "dialect", where)
    found = {}
    for path, target in document["targets"].items():
        rows = [
            Row(
                path,
                variant,
                row["machine"],
                row["arguments"],
                row.get("state", {}),
                tuple(row.get("float32", [])),
                row.get("through_float32", {}),
                row.get("not_expressible", {}),
                document.get("profiles", {}),
            )
            for variant, row in target["rows"].items()
        ]
        for row in rows:
            _check(row, f"{where}, {path}, {row.variant}")
        found[path] = Target(
            path,
            document["framework"],
            tuple(document["distributions"]),
            tuple(rows),
            target.get("defaults", {}),
            tuple(target.get("notes", [])),
        )
    return found


def _check(row: Row, where: str) -> None:
    try:
        program = compiler.build(row.instance, LAYOUT)
    except GraftsimError as error:
        raise GraftsimError(f"{where}: {error}") from None
    needed = set(cases.read_parameters(program)) - set(fixed(row.instance))
    named = set().union(*map(paths, row.arguments.values()))
    if named != needed:
        odd = sorted(needed.symmetric_difference(named))[0]
        raise GraftsimError(f"{where}: the arguments must name {', '.join(sorted(needed))}; {odd!r} differs")
    for name in itertools.chain.from_iterable(row.through_float32.values()):
        if name not in named:
            raise GraftsimError(
                f"{where}: through_float32 must name hyperparameters of the arguments; {name!r} is none"
                f"{nearest(name, named)}"
            )
    for slot in row.state:
        if slot not in program.slots:
            raise GraftsimError(f"{where}: the machine has no state {slot!r}{nearest(slot, program.slots)}")
    for slot in row.float32:
        if slot not in row.state:
            raise GraftsimError(
                f"{where}: float32 must name slots under state; {slot!r} is none{nearest(slot, row.state)}"
            )
