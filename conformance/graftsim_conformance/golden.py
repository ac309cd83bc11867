"""The golden trajectories of the spec: made by the reference engine, kept as files, compared byte by byte.

python -m graftsim_conformance.golden            regenerate in memory, compare with the files
python -m graftsim_conformance.golden --write    write the files again
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from graftsim import compiler, documents, notation
from graftsim.engine import Engine
from graftsim.errors import GraftsimError
from graftsim.notation import Instance
from graftsim_conformance import cases, probes
from graftsim_conformance.cases import After, Case


def machine_of(instance: Instance, path: str) -> str:
    """The name of the machine to which the hyperparameter of a path belongs."""
    *children, _ = path.split(".")
    for child in children:
        instance = instance.children[child]
    return instance.machine.name


def posed(name: str, machine: str, stream: str) -> Case:
    """A case without its answer: a machine over a stream; ``-zero`` starts it at zero weights."""
    probe = probes.PROBES[stream.removesuffix("-zero")]
    gradients = probe.gradients()
    instance = notation.parse(machine)
    paths = cases.read_parameters(compiler.build(instance, probes.LAYOUT))
    values = {
        path: probes.schedule(probe, path.split(".")[-1], machine_of(instance, path), len(gradients)) for path in paths
    }
    return Case(
        name=f"{name}.{stream}",
        machine=machine,
        dtype="float64",
        layout=probes.LAYOUT,
        weights=probes.start(stream.endswith("-zero")),
        hyperparameters=[{path: row[step] for path, row in values.items()} for step in range(len(gradients))],
        gradients=gradients,
    )


def solved(case: Case) -> Case:
    """The case with the reference's trajectory."""
    engine = Engine(case.program)
    weights, state, after = case.weights, engine.initial_state(), []
    for step, (gradients, settings) in enumerate(zip(case.gradients, case.hyperparameters, strict=True), 1):
        found = engine.step(weights, gradients, state, step, settings)
        weights, state = found.weights, found.state
        after.append(After(weights, state, found.info))
    return dataclasses.replace(case, after=after)


def generated() -> Iterator[Case]:
    """All golden cases, computed now."""
    for table, streams in ((probes.NATIVE, probes.EVERY), (probes.REFERENCE, probes.SOME)):
        for name, machine in table.items():
            for stream in streams:
                yield solved(posed(name, machine, stream))


def folder() -> Traversable:
    return documents.spec() / "golden"


@functools.cache
def stored(name: str) -> Case:
    """The golden case of a name (``adam-hat.mixed``), from its file."""
    return cases.read(folder() / f"{name}.json")


def skeleton(instance: Instance) -> tuple[Any, ...]:
    """What tells machines apart when hyperparameters are left out: names, options, partitions, children."""
    options = tuple(instance.option(name) for name in instance.machine.options)
    return instance.machine.name, options, instance.partition, *map(skeleton, instance.children.values())


@functools.cache
def _by_skeleton() -> dict[tuple[Any, ...], list[str]]:
    return {
        skeleton(notation.parse(machine)): [f"{name}.{stream}" for stream in streams]
        for table, streams in ((probes.NATIVE, probes.EVERY), (probes.REFERENCE, probes.SOME))
        for name, machine in table.items()
    }


def of_machine(instance: Instance) -> list[Case]:
    """The golden cases of a machine, whatever its hyperparameters."""
    return [stored(name) for name in _by_skeleton().get(skeleton(instance), [])]


def differences() -> list[str]:
    """One line for each file that is not what the reference gives now."""
    wanted = {f"{case.name}.json": cases.text(case).encode() for case in generated()}
    files = {file.name: file.read_bytes() for file in folder().iterdir() if file.name.endswith(".json")}
    lines = [f"{name}: is missing" for name in sorted(wanted.keys() - files.keys())]
    lines += [f"{name}: belongs to no case" for name in sorted(files.keys() - wanted.keys())]
    lines += [f"{name}: differs from what the reference gives" for name in sorted(files.keys() & wanted.keys())
              if files[name] != wanted[name]]  # fmt: skip
    return lines


def write() -> int:
    """Write all files; a file without a case is removed. The number of files."""
    place = Path(str(folder()))
    written = set()
    for case in generated():
        path, data = place / f"{case.name}.json", cases.text(case).encode()
        documents.write_atomically(path, lambda file, data=data: file.write(data))  # type: ignore[misc]
        written.add(path)
    for path in set(place.glob("*.json")) - written:
        path.unlink()
    return len(written)


def main() -> int:
    parser = argparse.ArgumentParser(prog="graftsim_conformance.golden", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    try:
        if parser.parse_args().write:
            print(f"{write()} golden trajectories written to {folder()}")
            return 0
        lines = differences()
    except GraftsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines) or "all golden trajectories are what the reference gives")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
