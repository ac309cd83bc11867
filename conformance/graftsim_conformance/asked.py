"""What was asked for, and what is judged of it: plain data, a list of claims and a way to make candidates."""

from __future__ import annotations

import fnmatch
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graftsim.notation import Instance
from graftsim_conformance import golden, neighbours
from graftsim_conformance.candidates import Candidate
from graftsim_conformance.cases import Case, in_dtype, without_tables
from graftsim_conformance.dialects import Row, Target
from graftsim_conformance.recording import OWN


@dataclass(frozen=True)
class Asked:
    """What was asked for; plain values, so that another process can be asked the same.

    Args:
        target: see above.
        machines: expressions that it is claimed to be.
        like: the target of the dialects whose arguments and state names it has.
        mode: a framework's own way to run a step.
        dtype: float64 or float32; a native runs in float64 by default, what speaks the spec's names in that of a case.
        only, rules, quick: which cases; see :func:`graftsim_conformance.golden.chosen`.
        every: all edges too, of natives.
        seconds: how long a call into a Python object, or a reply of a program, may take.
    """

    target: str
    machines: tuple[str, ...] = ()
    like: str | None = None
    mode: str = ""
    dtype: str | None = None
    only: str = "*"
    rules: tuple[str, ...] = ()
    quick: bool = False
    every: bool = False
    seconds: float = 10.0

    @property
    def whole(self) -> bool:
        """Whether nothing was left out on purpose."""
        return self.only == "*" and not self.rules and not self.quick

    def picks(self, names: Iterable[str]) -> list[str]:
        """Those of these golden cases that were asked for."""
        found = [name for name in names if fnmatch.fnmatchcase(name, self.only)]
        found = [name for name in found if not self.quick or golden.is_quick(name)]
        if self.dtype == "float64":
            found = [name for name in found if not is_float32(name)]
        elif self.dtype == "float32":
            found = [name for name in found if is_float32(name) or golden.is_stream(name)]
        return [name for name in found if not self.rules or set(self.rules) & set(golden.stored(name).rules)]


def is_float32(name: str) -> bool:
    """Whether a golden case is one in float32."""
    return "float32" in name.partition(".")[2].split("-")


@dataclass(frozen=True)
class Claim:
    """One machine that a target is held to, and the golden cases for it; ``left`` more were not asked for.

    ``float32`` are slots that are kept in float32 whatever the weights are. ``lawful`` is False where an adapter says
    that laws are tried elsewhere: on another expression of the machine, or in another mode.
    """

    label: str
    instance: Instance
    cases: tuple[str, ...]
    row: Row = OWN
    dtype: str | None = None
    through_float32: tuple[str, ...] = ()
    known: str = ""
    left: int = 0
    profiles: tuple[str, ...] = ()
    float32: tuple[str, ...] = ()
    lawful: bool = True

    @property
    def machine(self) -> str:
        return neighbours.short(without_tables(self.instance))

    def case(self, name: str) -> Case:
        """A golden case, in the dtype that was asked for."""
        case = golden.stored(name)
        return case if self.dtype is None else in_dtype(case, self.dtype)


@dataclass(frozen=True)
class Subject:
    """A target that can be judged. ``fresh`` makes a candidate for a claim."""

    asked: Asked
    kind: str
    claims: tuple[Claim, ...]
    fresh: Callable[[Claim], Candidate]
    versions: Mapping[str, str] = field(default_factory=dict)
    backend: str = ""
    framework: str = ""
    dialect: Target | None = None
    sources: tuple[str, ...] = ()
    close: Callable[[], None] = lambda: None
    family: Callable[[Instance], Candidate] | None = None

    @property
    def lawful(self) -> bool:
        """Whether the laws are tried: they are no single case, and cost a framework that compiles much."""
        return (self.kind != "native" or self.asked.every) and self.asked.only == "*" and not self.asked.rules

    @property
    def device(self) -> str:
        """What it ran on."""
        return f"{platform.machine()} {platform.system()}"


def sources(found: Any) -> tuple[str, ...]:
    """The file in which something stands."""
    module = sys.modules.get(getattr(found, "__module__", "") or type(found).__module__)
    place = getattr(found, "__file__", None) or getattr(module, "__file__", None)
    return (place,) if place else ()
