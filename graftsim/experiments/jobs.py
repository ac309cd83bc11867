"""A job: a function of graftsim with its arguments, as data that can be sent, stored and compared."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from graftsim.errors import GraftsimError
from graftsim.versions import version

RESULT_BYTES = 1 << 24
"""A result may have so many bytes as JSON."""
SHOWN = 160
"""So many characters of a job are shown to people."""
_PATH = re.compile(r"(graftsim(?:\.[a-z][a-z0-9_]*)+):([a-z][a-z0-9_]*)")


@dataclass(frozen=True, eq=False)
class Job:
    """A call. Equal jobs have equal results, whoever does them.

    Args:
        function: ``package.module:name`` of a public function that a module below ``graftsim`` defines. No other can be
            named, so that jobs that come from a file or another process run nothing else.
        arguments: keyword arguments that JSON can hold; tuples become lists, and keys strings.

    Raises:
        GraftsimError: another path, or arguments that JSON cannot hold.
    """

    function: str
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.function):
            raise GraftsimError(
                "a job's function must be a public one of a module below graftsim, such as "
                f"'graftsim.experiments.trials:run'; received {self.function!r}"
            )
        try:
            held = json.loads(json.dumps(dict(self.arguments)))
        except (TypeError, ValueError) as error:
            raise GraftsimError(f"the arguments of {self.function} must be what JSON can hold: {error}") from None
        object.__setattr__(self, "arguments", held)

    @functools.cached_property
    def id(self) -> str:
        """A digest of the function, its arguments and graftsim's version."""
        told = json.dumps([self.function, self.arguments, version()], sort_keys=True, separators=(",", ":"))
        return sha256(told.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        name = self.function.removeprefix("graftsim.").removeprefix("experiments.")
        return f"{name}({told if len(told) <= SHOWN else told[: SHOWN - 3] + '...'})"

    def do(self) -> str:
        """Call the function; its result as JSON, in which floats are exact and NaN and infinities are written as Python
        writes them.

        Raises:
            GraftsimError: no such function, a result that JSON cannot hold or that is too large, or whatever mistake
                the function finds.
        """
        found = _function(self.function)(**self.arguments)
        try:
            text = json.dumps(found)
        except (TypeError, ValueError) as error:
            raise GraftsimError(f"the result of {self} must be what JSON can hold: {error}") from None
        if len(text) > RESULT_BYTES:
            raise GraftsimError(
                f"the result of {self} must have at most {RESULT_BYTES} bytes as JSON; it has {len(text)}; record less"
            )
        return text


def _function(path: str) -> Callable[..., Any]:
    """The function of a path; one that the module merely imported is not its own."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        found = None
    bare = inspect.unwrap(found) if callable(found) else None  # a cached function is an object that wraps one
    if not isinstance(bare, types.FunctionType) or bare.__module__ != module:
        raise GraftsimError(f"a job's function must be one that its module defines; {path} is none")
    return cast(Callable[..., Any], found)
