"""What speaks the spec's own names: programs, Python objects, and adapters, which make a candidate of any machine."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from graftsim import notation
from graftsim.errors import GraftsimError
from graftsim.notation import Instance
from graftsim_conformance import candidates, check, claim, golden
from graftsim_conformance.asked import Asked, Claim, Subject, sources
from graftsim_conformance.candidates import Candidate
from graftsim_conformance.cases import without_tables
from graftsim_conformance.channel import Limits
from graftsim_conformance.executable import ExecutableCandidate
from graftsim_conformance.python_candidate import PythonCandidate


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


def program(asked: Asked) -> Subject:
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


def python_object(asked: Asked) -> Subject:
    """A Python object as what it is claimed to be, or an adapter as each of its ``machines``.

    An adapter may have ``modes``, one of which it is then given beside an expression; ``profiles`` of its platform by
    dtype; ``float32``, which tells the slots of a machine that are kept in float32; ``lawful``, which tells of a
    machine and a mode whether the laws are tried there; ``distributions`` whose versions are reported, and the
    ``backend`` that it runs on.
    """
    found = candidates.load(asked.target)
    recipes = getattr(found, "machines", None)
    adapter = isinstance(recipes, list | tuple) and callable(found)
    if isinstance(recipes, list | tuple) and adapter:
        machines, make = asked.machines or tuple(map(str, recipes)), _family(found, asked)
    else:
        machines, make = _claimed(asked), lambda machine: _made(found, asked.target)
    claims = tuple(_own(asked, machine) for machine in machines)
    if adapter:
        claims = tuple(
            _described(one, found, machine, asked.mode) for one, machine in zip(claims, machines, strict=True)
        )
    else:
        as_candidate(make(machines[0]), machines[0])  # what is no candidate at all is a mistake of the call
    text = {one.label: machine for one, machine in zip(claims, machines, strict=True)}
    return Subject(
        asked,
        "adapter" if adapter else "object",
        claims,
        lambda one: as_candidate(make(text[one.label]), str(one.instance), asked.seconds),
        _own_versions(*_distribution(asked.target), *getattr(found, "distributions", ())),
        backend=getattr(found, "backend", ""),
        sources=sources(found),
        family=(lambda one: as_candidate(make(_expression(one)), str(one), asked.seconds)) if adapter else None,
    )


def _described(one: Claim, adapter: Any, machine: str, mode: str) -> Claim:
    """A claim with what an adapter says of itself."""
    profiles = getattr(adapter, "profiles", {}).get(one.dtype or "float64", ())
    float32 = getattr(adapter, "float32", lambda of: ())(machine)
    lawful = getattr(adapter, "lawful", lambda of, mode: True)(machine, mode)
    return dataclasses.replace(one, profiles=tuple(profiles), float32=tuple(float32), lawful=lawful)


def _family(found: Callable[..., Any], asked: Asked) -> Callable[[str], Any]:
    """What makes an adapter's candidates in the mode that was asked for."""
    modes = getattr(found, "modes", ("",))
    if asked.mode not in modes:
        raise GraftsimError(
            f"{asked.target} must be asked for a mode that it has ({', '.join(filter(None, modes)) or 'it has none'}); "
            f"received {asked.mode!r}"
        )
    return functools.partial(found, mode=asked.mode) if asked.mode else found


def _expression(instance: Instance) -> str:
    """The machine with its options, and with tables, which no step's hyperparameters give."""
    tables = _only_tables(instance)
    return claim.text(instance) if without_tables(tables) == tables else str(tables)


def _only_tables(instance: Instance) -> Instance:
    """The instance without the hyperparameters that have one value."""
    settings = {name: value for name, value in instance.settings.items() if isinstance(value, Mapping | list)}
    children = {name: _only_tables(child) for name, child in instance.children.items()}
    return dataclasses.replace(instance, settings=settings, children=children)


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
