"""Run files: one run, or several with a title, each with the closed form that it should agree with.

title: ...
runs:
  - {problem: "rare(coordinates=400)", machine: "adagrad(lr=1, eps=0)", steps: 200, prediction: first visit}
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from graftsim import documents, notation, problems
from graftsim.errors import GraftsimError, nearest
from graftsim.machines import Library
from graftsim.problems.problem import Numbers, Problem
from graftsim.simulate import Progress, simulate
from graftsim.trajectory import Trajectory


@dataclass(frozen=True)
class Run:
    """The arguments of one :func:`graftsim.simulate.simulate`, the name of one of the problem's predictions, and a
    short name for people."""

    problem: str
    machine: str
    steps: int
    seed: int = 0
    dtype: str = "float64"
    record_every: int = 1
    keep_every: int | None = None
    prediction: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class RunFile:
    """Runs to be shown together."""

    title: str
    about: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Result:
    """A run that was done: ``measures`` of its last weights, and what the closed form says of them."""

    run: Run
    trajectory: Trajectory
    measures: Numbers
    prediction: Numbers | None

    @property
    def error(self) -> float | None:
        """The largest distance between a measure and its prediction; None where nothing was predicted."""
        if self.prediction is None:
            return None
        return max(abs(self.measures[name] - value) for name, value in self.prediction.items())


def packaged() -> dict[str, Traversable]:
    """The run files that come with graftsim, by name."""
    folder = importlib.resources.files("graftsim") / "configs"
    files = {file.name.removesuffix(".yaml"): file for file in folder.iterdir() if file.name.endswith(".yaml")}
    return dict(sorted(files.items()))


def names() -> list[str]:
    """The names that :func:`load` knows."""
    return list(packaged())


def load(name_or_path: str | Path) -> RunFile:
    """A packaged run file by name, or any by its path (which ends in .yaml or .yml, or holds a separator).

    Raises:
        GraftsimError: unknown name, unreadable file, or anything that the schema ``run.json`` does not allow.
    """
    text = str(name_or_path)
    known = packaged()
    if text in known:
        return from_document(documents.read_yaml(known[text]), text)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text or "\\" in text:
        return from_document(documents.read_yaml(Path(text)), text)
    raise GraftsimError(f"unknown run {text!r}{nearest(text, known)}; or give the path of a .yaml file")


def from_document(document: Any, where: str) -> RunFile:
    """The runs of a YAML document; ``where`` names the file in errors."""
    documents.validate(document, "run", where)
    rows = document.get("runs", [document])
    return RunFile(document.get("title", where), document.get("about", ""), tuple(_run(row) for row in rows))


def _run(row: Mapping[str, Any]) -> Run:
    return Run(**{key: value for key, value in row.items() if key not in ("title", "about")})


def execute(
    run: Run, progress: Progress | None = None, machines: Library | None = None, engine: str = "numpy"
) -> Result:
    """Do a run, with the machines of the spec or of another library.

    Raises:
        GraftsimError: any mistake in the run, such as a prediction that the problem does not make.
    """
    problem = problems.parse(run.problem)
    prediction = None if run.prediction is None else predicted(problem, run.prediction)
    machine = notation.parse(run.machine, machines)
    found = simulate(
        *(problem, machine, run.steps, run.seed, run.dtype, run.record_every),
        progress=progress,
        engine=engine,
        keep_every=run.keep_every,
    )
    return Result(run, found, problem.measures(found.last), prediction)


def predicted(problem: Problem, name: str) -> Numbers:
    """One of a problem's closed forms, by name."""
    known = problem.predictions()
    if name not in known:
        raise GraftsimError(f"{problem} makes no prediction {name!r}{nearest(name, known)}")
    return known[name]
