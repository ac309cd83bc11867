"""The golden trajectories of the spec: made by the reference engine, kept as files, compared byte by byte.

python -m graftsim_conformance.golden                 regenerate in memory, compare with the files
python -m graftsim_conformance.golden diff            show what changes: case, quantity, step and size
python -m graftsim_conformance.golden diff --write    show it, and accept it
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import json
import sys
from collections.abc import Collection, Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from graftsim import documents, notation
from graftsim import rules as specified
from graftsim.engine import Engine
from graftsim.errors import GraftsimError, nearest
from graftsim.notation import Instance
from graftsim_conformance import case_files, golden_diff, posing, probes
from graftsim_conformance.cases import After, Case


def solved(case: Case) -> Case:
    """The case with the reference's trajectory."""
    engine, rows = Engine(case.program), zip(case.gradients, case.hyperparameters, strict=True)
    weights, state, after = case.weights, dict(case.start), []
    for step, (gradients, settings) in enumerate(rows, case.taken + 1):
        found = engine.step(weights, gradients, state, step, settings)
        weights, state = found.weights, found.state
        after.append(After(weights, state, found.info))
    return case.answered(after)


def generated() -> Iterator[Case]:
    """All golden cases, computed now."""
    return map(solved, posing.every())


def folder() -> Traversable:
    return documents.spec() / "golden"


@functools.cache
def stored(name: str) -> Case:
    """The golden case of a name (``adam-hat.mixed``), from its file; of a machine with matrices without its answer."""
    if name in posing.unanswered():
        return posing.of_stream(name, *posing.unanswered()[name])
    return case_files.read_own(folder() / f"{name}.json")


def skeleton(instance: Instance) -> tuple[Any, ...]:
    """What tells machines apart when hyperparameters are left out: names, options, partitions, children."""
    options = tuple(instance.option(name) for name in instance.machine.options)
    return instance.machine.name, options, instance.partition, *map(skeleton, instance.children.values())


@functools.cache
def _by_skeleton() -> dict[tuple[Any, ...], list[str]]:
    found: dict[tuple[Any, ...], list[str]] = {}
    unanswered = {name: machine for name, (machine, _) in posing.unanswered().items()}
    for name, machine in {**posing.names(), **unanswered}.items():
        found.setdefault(skeleton(notation.parse(machine)), []).append(name)
    return found


def names_of(instance: Instance) -> list[str]:
    """The names of all golden cases of a machine, whatever its hyperparameters."""
    return _by_skeleton().get(skeleton(instance), [])


def of_machine(instance: Instance, edges: bool = False) -> list[Case]:
    """The golden cases of a machine, whatever its hyperparameters: those over long streams, and the edges."""
    return [stored(name) for name in names_of(instance) if edges or is_stream(name)]


def is_stream(name: str) -> bool:
    """Whether a case is one of the long streams in float64."""
    return name.partition(".")[2] in probes.EVERY


def chosen(only: str = "*", rules: Collection[str] = (), quick: bool = False) -> list[str]:
    """The names of golden cases that a glob matches, that test one of some rules, and that are in the quick subset.

    Raises:
        GraftsimError: a rule that the specification does not have; nothing is left.
    """
    known = specified.load()
    for rule in rules:
        if rule not in known:
            raise GraftsimError(f"there is no rule {rule!r}{nearest(rule, known)}")
    names = [name for name in posing.names() if fnmatch.fnmatchcase(name, only) and not (quick and not is_quick(name))]
    if rules:
        names = [name for name in names if set(rules) & set(stored(name).rules)]
    if not names:
        raise GraftsimError(f"no golden case is left by {only!r}; graftsim check --list shows their names")
    return names


def is_quick(name: str) -> bool:
    """Whether a case is of the small subset: an ordinary stream, small weights, zeros, a NaN, a missing gradient."""
    return name.partition(".")[2] in QUICK


QUICK = ("mixed", "tiny-zero", "zero_tensor", "nan", "missing", "grafted", "divided", "options")


# -- what changes ------------------------------------------------------------------------------------------------------


def differences() -> list[str]:
    """One line for each file that is not what the reference gives now, or has another form than the schema's."""
    wanted = {f"{case.name}.json": case_files.text(case).encode() for case in generated()}
    files = {file.name: file.read_bytes() for file in folder().iterdir() if file.name.endswith(".json")}
    lines = [f"{name}: is missing" for name in sorted(wanted.keys() - files.keys())]
    lines += [f"{name}: belongs to no case" for name in sorted(files.keys() - wanted.keys())]
    for name in sorted(files.keys() & wanted.keys()):
        lines += [f"{name}: differs from what the reference gives"] if files[name] != wanted[name] else []
        lines += _malformed(name, files[name])
    return lines


def _malformed(name: str, data: bytes) -> Iterator[str]:
    """What the schema says of a file; :func:`stored` does not ask it each time."""
    try:
        documents.validate(json.loads(data), "golden", name)
    except (ValueError, GraftsimError) as error:
        yield str(error)


def diff() -> Iterator[str]:
    """What changes, case by case: for each quantity the first step at which it differs, and by how much at most."""
    files = {file.name.removesuffix(".json") for file in folder().iterdir() if file.name.endswith(".json")}
    for case in generated():
        if case.name not in files:
            yield f"{case.name}: is new"
            continue
        files.remove(case.name)
        if (folder() / f"{case.name}.json").read_text("utf-8") != case_files.text(case):
            yield from (f"{case.name}: {line}" for line in golden_diff.lines(case, folder() / f"{case.name}.json"))
    yield from (f"{name}: belongs to no case any more" for name in sorted(files))


def write() -> int:
    """Write all files; a file without a case is removed. The number of files."""
    place = Path(str(folder()))
    written = set()
    for case in generated():
        path, data = place / f"{case.name}.json", case_files.text(case).encode()
        documents.write_atomically(path, lambda file, data=data: file.write(data))  # type: ignore[misc]
        written.add(path)
    for path in set(place.glob("*.json")) - written:
        path.unlink()
    return len(written)


def main() -> int:
    parser = argparse.ArgumentParser(prog="graftsim_conformance.golden", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("action", nargs="?", choices=["check", "diff"], default="check")
    parser.add_argument("--write", action="store_true", help="accept what the reference gives now")
    asked = parser.parse_args()
    try:
        lines = list(diff()) if asked.action == "diff" else [] if asked.write else differences()
        if lines or not asked.write:
            print("\n".join(lines) or "all golden trajectories are what the reference gives")
        if asked.write:
            print(f"{write()} golden trajectories written to {folder()}")
            return 0
    except GraftsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
