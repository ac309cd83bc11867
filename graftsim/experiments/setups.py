"""Setups: files that say what is run on a problem, so that ``graftsim grid digits`` alone does something sensible."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from graftsim import documents, problems
from graftsim.errors import GraftsimError

STEPS = 500
"""How long runs are where neither the user nor a setup says."""
RECORDS = 50
"""So many losses are recorded where neither says how often."""


@dataclass(frozen=True)
class Setup:
    """A problem with tuned optimizers by label; and for a zoo its magnitude and its directions."""

    problem: str
    steps: int = STEPS
    record_every: int | None = None
    optimizers: Mapping[str, str] = field(default_factory=dict)
    magnitude: str | None = None
    directions: Mapping[str, str] = field(default_factory=dict)
    title: str = ""

    def recorded_every(self, steps: int) -> int:
        """How often losses are recorded in so many steps."""
        return self.record_every if self.record_every and steps == self.steps else max(1, steps // RECORDS)


def packaged() -> dict[str, Traversable]:
    """The setups that come with graftsim, by the name of their problem."""
    folder = importlib.resources.files("graftsim.experiments") / "tuned"
    files = {file.name.removesuffix(".yaml"): file for file in folder.iterdir() if file.name.endswith(".yaml")}
    return dict(sorted(files.items()))


def load(source: str) -> Setup:
    """A setup from a file (``source`` ends in .yaml or .yml), or of a problem: with the optimizers that are packaged
    for it, if any, and with the problem's own arguments where some are given.

    Raises:
        GraftsimError: an unknown problem, or a file that the schema ``setup.json`` does not allow.
    """
    if source.endswith((".yaml", ".yml")):
        return from_document(documents.read_yaml(Path(source)), source)
    name = source.partition("(")[0].strip()
    known = packaged()
    if name not in known:
        return Setup(str(problems.parse(source)))
    found = from_document(documents.read_yaml(known[name]), name)
    return found if source.strip() == name else Setup(**{**vars(found), "problem": str(problems.parse(source))})


def from_document(document: Any, where: str) -> Setup:
    """The setup of a YAML document; ``where`` names the file in errors."""
    documents.validate(document, "setup", where)
    zoo = document.get("zoo", {})
    try:
        problem = str(problems.parse(document["problem"]))
    except GraftsimError as error:
        raise GraftsimError(f"{where}: {error}") from None
    return Setup(
        problem,
        document["steps"],
        document.get("record_every"),
        document["optimizers"],
        zoo.get("magnitude"),
        zoo.get("directions", {}),
        document["title"],
    )
