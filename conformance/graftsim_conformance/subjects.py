"""Subjects: what ``graftsim check`` was asked to judge, as a list of claims and a way to make candidates.

A target is one of

- a native of a dialect (``torch.optim:Adam``), or a class with the interface of one (``--like``);
- a Python object with ``init`` and ``step``, or one that makes such objects (``mymodule:MyAdam``), with ``--as``;
- a program, by its path (``./adam --fast``), with ``--as``;
- an adapter: something callable that has ``machines``, a list of expressions, and makes a candidate of each of them.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graftsim import notation, rules
from graftsim.errors import GraftsimError, nearest
from graftsim.notation import Instance
from graftsim_conformance import candidates, check, claim, golden, neighbours
from graftsim_conformance.candidates import Candidate
from graftsim_conformance.cases import Case, in_dtype
from graftsim_conformance.channel import Limits
from graftsim_conformance.dialects import Row, Target, targets, told
from graftsim_conformance.executable import ExecutableCandidate
from graftsim_conformance.python_candidate import PythonCandidate
from graftsim_conformance.recording import OWN

EAGER = ("torch.optim:",)
"""Natives that need not compile anything for another layout; they are judged on all edges by default."""


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
    """One machine that a target is held to, and the golden cases for it; ``left`` more were not asked for."""

    label: str
    instance: Instance
    cases: tuple[str, ...]
    row: Row = OWN
    dtype: str | None = None
    through_float32: tuple[str, ...] = ()
    known: str = ""
    left: int = 0
    profiles: tuple[str, ...] = ()

    @property
    def machine(self) -> str:
        return neighbours.short(self.instance)

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


def subject(asked: Asked) -> Subject:
    """The subject of a request.

    Raises:
        GraftsimError: the target cannot be found or is none of the kinds; a machine must be claimed, or does not fit;
            no case is left.
    """
    known = rules.load()
    for rule in asked.rules:
        if rule not in known:
            raise GraftsimError(f"there is no rule {rule!r}{nearest(rule, known)}")
    if os.sep in asked.target.partition(" ")[0]:
        found = _program(asked)
    elif (asked.like or asked.target) in targets():
        found = _native(asked)
    elif asked.like is not None or ":" not in asked.target:
        raise _unknown(asked)
    else:
        found = _object(asked)
    if not any(claim.cases for claim in found.claims):
        raise GraftsimError(
            f"none of the chosen cases is of {asked.target}; graftsim check {asked.target} --list shows what is"
        )
    return found


# -- the kinds ---------------------------------------------------------------------------------------------------------


def _native(asked: Asked) -> Subject:
    asked = dataclasses.replace(asked, dtype=asked.dtype or "float64")
    dialect = targets()[asked.like or asked.target]
    native = candidates.load(asked.target)
    if len(asked.machines) > 1:
        raise GraftsimError(f"{asked.target} can be held to one machine at a time; received {len(asked.machines)}")
    claims = [(row, row.instance) for row in dialect.rows]
    if asked.machines:
        claims = [check.claimed(dialect, asked.machines[0])]
    name, version = candidates.backend(dialect.framework) or ("", "")
    made = tuple(_of_row(asked, dialect, row, instance, name) for row, instance in claims)
    return Subject(
        asked,
        "native",
        made,
        lambda claim: candidates.wrap(dialect.framework, native, asked.mode),
        {**check.versions_of(dialect), **({name: version} if name else {})},
        name,
        dialect.framework,
        dialect,
        _sources(native),
    )


def _of_row(asked: Asked, dialect: Target, row: Row, instance: Instance, backend: str) -> Claim:
    cases = asked.picks(golden.names_of(row.instance))
    names = cases
    if asked.whole and not asked.every and not dialect.path.startswith(EAGER):
        names = [name for name in cases if golden.is_stream(name)]
    return Claim(
        row.variant,
        instance,
        tuple(names),
        row,
        asked.dtype,
        tuple(told(row.through_float32, backend, asked.dtype or "") or ()),
        told(row.not_expressible, backend, asked.dtype or "") or "",
        len(cases) - len(names),
        tuple(told(row.profiles, backend, asked.dtype or "float64") or ()),
    )


def _own(asked: Asked, machine: str) -> Claim:
    """A claim in the spec's own names, under its most exact text."""
    instance = notation.parse(machine)
    return Claim(claim.text(instance), instance, tuple(asked.picks(golden.names_of(instance))), dtype=asked.dtype)


def _claimed(asked: Asked) -> tuple[str, ...]:
    if not asked.machines:
        raise GraftsimError(
            f"there is no dialect of {asked.target}{check.why_not(asked.target)}, so say what it is: --as MACHINE "
            "(graftsim list names them), or --like TARGET where it has the interface of a known one"
        )
    return asked.machines


def _program(asked: Asked) -> Subject:
    try:
        command = shlex.split(asked.target)
    except ValueError as error:
        raise GraftsimError(f"{asked.target!r} must be a path and its arguments: {error}") from None
    if not os.access(command[0], os.X_OK) or Path(command[0]).is_dir():
        raise GraftsimError(f"{command[0]} must be a program that can be run; there is none")
    open_now: dict[str, ExecutableCandidate] = {}

    def fresh(of: Claim) -> Candidate:
        if of.label not in open_now:
            open_now[of.label] = ExecutableCandidate(command, str(of.instance), Limits(reply_seconds=asked.seconds))
        return open_now[of.label]

    def close() -> None:
        for candidate in open_now.values():
            candidate.close()

    claims = tuple(_own(asked, machine) for machine in _claimed(asked))
    files = tuple(word for word in command if Path(word).is_file())
    return Subject(asked, "program", claims, fresh, _own_versions(), sources=files, close=close)


def _object(asked: Asked) -> Subject:
    found = candidates.load(asked.target)
    recipes = getattr(found, "machines", None)
    adapter = isinstance(recipes, list | tuple) and callable(found)
    if isinstance(recipes, list | tuple) and adapter:
        machines = asked.machines or tuple(map(str, recipes))
        made: Callable[[str], Any] = found
    else:
        machines = _claimed(asked)
        made = lambda machine: _made(found, asked.target)  # noqa: E731
    claims = tuple(_own(asked, machine) for machine in machines)
    if not adapter:
        as_candidate(made(machines[0]), machines[0])  # what is no candidate at all is a mistake of the call
    text = {one.label: machine for one, machine in zip(claims, machines, strict=True)}
    return Subject(
        asked,
        "adapter" if adapter else "object",
        claims,
        lambda one: as_candidate(made(text[one.label]), str(one.instance), asked.seconds),
        _own_versions(*_distribution(asked.target), *getattr(found, "distributions", ())),
        sources=_sources(found),
        family=(lambda one: as_candidate(made(claim.text(one)), str(one), asked.seconds)) if adapter else None,
    )


def _made(found: Any, target: str) -> Any:
    """What a target names, or what it makes where it is a class or a function."""
    if _steps(found) and not isinstance(found, type):
        return found
    if not callable(found):
        raise GraftsimError(f"{target} must have init and step, or make something that has; it is a {_kind(found)}")
    try:
        return found()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise GraftsimError(f"{target} must make a candidate when it is called without arguments; {reason}") from None


def as_candidate(made: Any, machine: str, seconds: float = 10.0) -> Candidate:
    """A candidate as it is, or one of an object with ``init`` and ``step``."""
    return made if callable(getattr(made, "start", None)) else PythonCandidate(made, machine, seconds)


def _steps(found: Any) -> bool:
    return callable(getattr(found, "start", None)) or all(callable(getattr(found, name, None)) for name in INTERFACE)


INTERFACE = ("init", "step")


def _kind(found: Any) -> str:
    return type(found).__name__


def _distribution(target: str) -> Iterator[str]:
    """The installed distribution that a module belongs to, where there is one."""
    package = target.partition(":")[0].partition(".")[0]
    names = importlib.metadata.packages_distributions().get(package, [])
    yield from (name for name in dict.fromkeys(names) if name != "graftsim")


def _own_versions(*distributions: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("graftsim", *distributions, "numpy")}


def _unknown(asked: Asked) -> GraftsimError:
    if asked.like is not None:
        return GraftsimError(f"there is no dialect of {asked.like!r}{nearest(asked.like, targets())}")
    return GraftsimError(
        "a target must be written as module:attribute, such as torch.optim:Adam, or be the path of a program; "
        f"received {asked.target!r}"
    )


def _sources(found: Any) -> tuple[str, ...]:
    """The file in which something stands."""
    module = sys.modules.get(getattr(found, "__module__", "") or type(found).__module__)
    place = getattr(found, "__file__", None) or getattr(module, "__file__", None)
    return (place,) if place else ()


# -- what a result depends on ------------------------------------------------------------------------------------------


def digest(found: Subject) -> str:
    """A digest of all that the results depend on: request, versions, the files of the candidate, suite and cases."""
    sha = hashlib.sha256(repr((found.asked, sorted(found.versions.items()), found.backend, found.device)).encode())
    for folder in (Path(__file__).parent, Path(notation.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            sha.update(path.read_bytes())
    for path in map(Path, found.sources):
        sha.update(path.read_bytes())
    for name in sorted({name for one in found.claims for name in one.cases}):
        sha.update((golden.folder() / f"{name}.json").read_bytes())
    return sha.hexdigest()
