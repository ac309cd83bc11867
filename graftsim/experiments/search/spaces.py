"""Search spaces as data: a machine with named hyperparameters in braces, and the range of each.

search: momentum
machine: "momentum(lr={lr}, momentum={momentum})"
rate: lr
parameters:
  lr: {range: [1e-5, 1], scale: log}
  momentum: {range: [1e-3, 0.5], scale: log, one_minus: true}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from graftsim import documents, notation
from graftsim.errors import GraftsimError, nearest
from graftsim.experiments.search import parameters
from graftsim.experiments.search.parameters import Parameter

_BRACES = re.compile(r"\{([^{}]*)\}")
LENGTHS = ("steps", "warmup", "decay", "epoch")
"""Names that stand for lengths of a run: all its steps; those of the warm-up and those after it; those of one epoch."""


@dataclass(frozen=True)
class Space:
    """A machine whose braces name parameters or lengths of the run.

    ``rate`` is the parameter that is the overall learning rate, if any; ``warmup`` the part of a run that is warm-up;
    ``epochs`` into how many epochs a run is cut.
    """

    name: str
    machine: str
    parameters: Mapping[str, Parameter]
    rate: str | None = None
    warmup: float | None = None
    epochs: int | None = None

    @property
    def dimensions(self) -> int:
        return len(self.parameters)

    def at(self, point: Sequence[float]) -> dict[str, float]:
        """The values of the parameters at a point of the unit cube, a coordinate for each in their order.

        Raises:
            GraftsimError: another number of coordinates, or one outside [0, 1].
        """
        if len(point) != self.dimensions or not all(0 <= unit <= 1 for unit in point):
            raise GraftsimError(
                f"a point of {self.name} must be {self.dimensions} numbers from 0 to 1; received {list(point)}"
            )
        return {name: row.at(unit) for (name, row), unit in zip(self.parameters.items(), point, strict=True)}

    def checked(self, values: Mapping[str, float]) -> dict[str, float]:
        """Values that another tuner chose, one for each parameter and each within its range."""
        if unknown := next((name for name in values if name not in self.parameters), None):
            raise GraftsimError(f"{self.name} has no parameter {unknown!r}{nearest(unknown, self.parameters)}")
        if missing := next((name for name in self.parameters if name not in values), None):
            raise GraftsimError(
                f"{self.name} needs a value for each of {', '.join(self.parameters)}; {missing} is missing"
            )
        for name, value in values.items():
            if value not in self.parameters[name]:
                raise GraftsimError(f"{self.name}, {name}: must lie in {self.parameters[name]}; received {value!r}")
        return {name: float(values[name]) for name in self.parameters}

    def lengths(self, steps: int) -> dict[str, int]:
        """What the names of lengths stand for in a run of so many steps."""
        found = {"steps": steps}
        if self.warmup is not None:
            warm = max(1, round(self.warmup * steps))
            found |= {"warmup": warm, "decay": max(1, steps - warm)}
        if self.epochs is not None:
            if steps < self.epochs:
                raise GraftsimError(f"{self.name} needs at least {self.epochs} steps, one an epoch; received {steps}")
            found["epoch"] = steps // self.epochs
        return found

    def filled(self, values: Mapping[str, float], steps: int) -> str:
        """The machine with values and lengths in place of their names; a name without a value stays as it is."""
        known: dict[str, float] = {**self.lengths(steps), **values}
        return _BRACES.sub(lambda found: _text(known[found[1]]) if found[1] in known else found[0], self.machine)


def names_in(machine: str) -> list[str]:
    """The names in braces, in their order, each once."""
    return list(dict.fromkeys(_BRACES.findall(machine)))


def packaged() -> dict[str, Traversable]:
    """The search files of the spec, by name."""
    files = (documents.spec() / "searches").iterdir()
    return dict(sorted((file.name.removesuffix(".yaml"), file) for file in files if file.name.endswith(".yaml")))


def names() -> list[str]:
    """The names that :func:`load` knows."""
    return list(packaged())


def load(source: str | Path) -> Space:
    """A search space of the spec by its name, a search file by its path, or a machine expression with nothing to tune.

    Raises:
        GraftsimError: unknown name, unreadable file, or a machine that does not fit its parameters.
    """
    text, known = str(source), packaged()
    if text in known:
        return from_document(documents.read_yaml(known[text]), text)
    if isinstance(source, Path) or text.endswith((".yaml", ".yml")):
        return from_document(documents.read_yaml(Path(text)), text)
    if "(" in text or "#" in text:
        notation.parse(text)
        return Space(text, text, {})
    raise GraftsimError(
        f"unknown search {text!r}{nearest(text, known)}; or give the path of a .yaml file, or a machine with its "
        "settings in brackets, which is not tuned"
    )


def from_document(document: Any, where: str) -> Space:
    """The space of a YAML document; ``where`` names the file in errors."""
    documents.validate(document, "search", where)
    rows = document["parameters"]
    found = {name: parameters.of_row(row, f"{where}, {name}") for name, row in rows.items()}
    rate = document.get("rate")
    if rate is not None and rate not in found:
        raise GraftsimError(f"{where}: the rate must be one of the parameters{nearest(rate, found)}")
    space = Space(document["search"], document["machine"], found, rate, document.get("warmup"), document.get("epochs"))
    _check(space, where)
    return space


def _check(space: Space, where: str) -> None:
    """The machine uses every parameter, knows every name in braces, and is a machine at the ends of each range."""
    steps = max(space.epochs or 1, 1000)
    used = names_in(space.machine)
    known = [*space.parameters, *space.lengths(steps)]
    if taken := next((name for name in space.parameters if name in LENGTHS), None):
        raise GraftsimError(f"{where}: {taken} is a length of the run; give the parameter another name")
    if unknown := next((name for name in used if name not in known), None):
        raise GraftsimError(f"{where}: the machine has {{{unknown}}}, which is no parameter{nearest(unknown, known)}")
    if idle := next((name for name in space.parameters if name not in used), None):
        raise GraftsimError(f"{where}: the machine has no {{{idle}}}, although {idle} is a parameter")
    for end in (0.0, 1.0):
        try:
            notation.parse(space.filled(space.at([end] * space.dimensions), steps))
        except GraftsimError as error:
            raise GraftsimError(f"{where}: {error}") from None


def _text(value: float) -> str:
    return repr(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
