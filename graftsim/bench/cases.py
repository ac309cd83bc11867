"""Which cases there are, from ``cases.yaml`` or from a file of the same form (schema ``bench.json``)."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graftsim import documents
from graftsim.errors import GraftsimError, nearest

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A kind of measurement, and its sizes and settings by name."""

    kind: str
    values: Values

    def __str__(self) -> str:
        return ", ".join(f"{name} = {_text(value)}" for name, value in self.values.items())

    def resized(self, size: int | None) -> Case:
        """With ``size`` coordinates where it has its own number of them, and no more tensors than that."""
        if size is None:
            return self
        new: dict[str, Any] = {}
        for name, value in self.values.items():
            match name:
                case "size":
                    new[name] = size
                case "sizes":
                    new[name] = [size]
                case "tensors" if isinstance(value, list):
                    new[name] = sorted({min(count, size) for count in value})
                case "tensors" if "size" in self.values or "sizes" in self.values:
                    new[name] = min(value, size)
                case _:
                    new[name] = value
        return Case(self.kind, new)


@dataclass(frozen=True)
class Goal:
    """A ratio of two contestants' times, and what it should be; None where it is only reported."""

    of: str
    to: str
    at_most: float | None
    at_least: float | None
    only: Values
    """The cases it is for, by the values that they must have."""
    least_size: int = 0
    """Cases with fewer coordinates show the ratio without the goal."""

    def concerns(self, case: Case) -> bool:
        return all(case.values.get(name) == value for name, value in self.only.items())

    def within(self, case: Case) -> Goal:
        """This ratio, without its goal where the case is too small for that."""
        small = case.values.get("size", self.least_size) < self.least_size
        return replace(self, at_most=None, at_least=None) if small else self

    def met(self, ratio: float) -> bool | None:
        if self.at_most is None and self.at_least is None:
            return None
        return (self.at_most is None or ratio <= self.at_most) and (self.at_least is None or ratio >= self.at_least)

    def __str__(self) -> str:
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "" if self.at_least is None else f"at least {self.at_least:g}"


@dataclass(frozen=True)
class Group:
    """Cases that are asked for by one name."""

    name: str
    about: str
    cases: tuple[Case, ...]
    goals: tuple[Goal, ...]
    left_out: tuple[str, ...]


def load(path: Path | None = None) -> tuple[Group, ...]:
    """The groups of a file; of the one that comes with graftsim where none is given.

    Raises:
        GraftsimError: the file cannot be read, or has anything that the schema ``bench.json`` does not allow.
    """
    where = path or importlib.resources.files("graftsim.bench") / "cases.yaml"
    document = documents.read_yaml(where)
    documents.validate(document, "bench", str(where))
    return tuple(_group(row) for row in document["groups"])


def choose(groups: Sequence[Group], names: Sequence[str], size: int | None) -> list[Group]:
    """The groups of these names, in this order (all, where there are none), with ``size`` coordinates if given.

    Raises:
        GraftsimError: an unknown name.
    """
    known = {group.name: group for group in groups}
    for name in names:
        if name not in known:
            raise GraftsimError(f"unknown benchmark {name!r}{nearest(name, known)}")
    chosen = [known[name] for name in dict.fromkeys(names)] or list(groups)
    return [replace(group, cases=_distinct(case.resized(size) for case in group.cases)) for group in chosen]


def _distinct(cases: Any) -> tuple[Case, ...]:
    found: list[Case] = []
    for case in cases:
        if case not in found:
            found.append(case)
    return tuple(found)


def _group(row: Values) -> Group:
    cases = tuple(Case(each["kind"], {k: _whole(v) for k, v in each.items() if k != "kind"}) for each in row["cases"])
    goals = tuple(_goal(each) for each in row.get("goals", []))
    return Group(row["name"], " ".join(row["about"].split()), cases, goals, tuple(row.get("left_out", [])))


def _goal(row: Values) -> Goal:
    only = {name: _whole(value) for name, value in row.items() if name in ("dimension", "dtype")}
    return Goal(row["of"], row["to"], row.get("at_most"), row.get("at_least"), only, _whole(row.get("least_size", 0)))


def _whole(value: Any) -> Any:
    """1e6 in YAML is a float; sizes are integers."""
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value == int(value) else value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(_text(each) for each in value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)
