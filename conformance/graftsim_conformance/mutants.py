"""Mutants: wrong optimizers, each a small change of a right one, that the suite must find.

A suite that cannot fail proves nothing. Each mutant is run as a candidate that claims to be the right machine, over the
golden cases of the machines that it concerns; a case *kills* it by the verdict ``different`` (a crash does not count).
The kill matrix names, for every mutant, cases that kill it.

python -m graftsim_conformance.mutants             run what the matrix promises; 1 if a mutant survives
python -m graftsim_conformance.mutants --write     look for the cases that kill each mutant, and write the matrix
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graftsim import documents, machines, notation
from graftsim.errors import GraftsimError
from graftsim.machines import Library, library
from graftsim_conformance import golden, posing
from graftsim_conformance.cases import Case
from graftsim_conformance.edge_machines import PAIRS
from graftsim_conformance.judge import Mode, judge
from graftsim_conformance.mutant_behaviours import BEHAVIOURS
from graftsim_conformance.mutated import Changes, ReferenceCandidate
from graftsim_conformance.verdicts import Verdict

HERE = Path(__file__).parent
MATRIX = HERE / "kill_matrix.json"
LISTED = 6
"""How many of the cases that kill a mutant the matrix names; a mutant with fewer is killed by no other case."""


@dataclass(frozen=True)
class Mutant:
    """``name`` is ``machine.group.name``; ``same`` is the proof that no weights or state can show the change."""

    name: str
    machine: str
    changes: Changes | None = None
    text: Mapping[str, str] | None = None
    seen: str = ""
    same: str = ""

    def candidate(self, expression: str) -> ReferenceCandidate:
        return ReferenceCandidate(expression, self.library, self.changes)

    @functools.cached_property
    def library(self) -> Library:
        """The machines of the spec, one of them changed."""
        return library() if self.text is None else library().with_machine(altered(self.machine, self.text))


def altered(name: str, changes: Mapping[str, str]) -> machines.Machine:
    """A machine of the spec with some of its text replaced; each old text must stand there.

    Raises:
        GraftsimError: it does not, or what comes out is no machine.
    """
    file = documents.spec() / "machines" / f"{name}.yaml"
    text = documents.read_text(file, 1 << 18)
    for old, new in changes.items():
        if old not in text:
            raise GraftsimError(f"a mutant of {name}: its file must have the text {old!r}; it was changed")
        text = text.replace(old, new)
    return machines.from_document(documents.parse_yaml(text, f"a mutant of {name}"), str(file))


@functools.cache
def catalogue() -> Mapping[str, Mutant]:
    """All mutants, by name."""
    found = [*_of_equations(), *_of_behaviour()]
    return {mutant.name: mutant for mutant in found}


def _of_equations() -> Iterator[Mutant]:
    for entry in documents.read_yaml(HERE / "mutants.yaml"):
        machine = entry.pop("machine")
        for group, rows in entry.items():
            for name, row in rows.items():
                path = f"{machine}.{group}.{name}"
                yield Mutant(path, machine, None, row["change"], row.get("seen", ""), row.get("same", ""))


def _of_behaviour() -> Iterator[Mutant]:
    for group, rows in BEHAVIOURS.items():
        for name, changes in rows.items():
            yield Mutant(f"behaviour.{group}.{name}", "graft", changes)


def cases_of(mutant: Mutant) -> list[str]:
    """The golden cases that a mutant is run on: those of machines that have the changed one in them.

    A mutant of behaviour is run on grafts of two machines; where D reads M's step, on those whose M needs no sums.
    """
    if mutant.changes is None:
        return [name for name, machine in posing.names().items() if mutant.machine in _used(machine)]
    pairs = {text for name, text in PAIRS.items() if not name.startswith("pair-lamb")}
    return [name for name, machine in posing.names().items() if machine in pairs]


@functools.cache
def _used(expression: str) -> frozenset[str]:
    """The machines that an expression is made of."""

    def within(instance: notation.Instance) -> Iterator[str]:
        yield instance.machine.name
        for child in instance.children.values():
            yield from within(child)

    return frozenset(within(notation.parse(expression)))


def killed_by(mutant: Mutant, case: Case) -> bool:
    """Whether a case finds the mutant."""
    modes = (Mode.FOLLOW, Mode.RESTORE) if ".checkpoint." in mutant.name else (Mode.FOLLOW,)
    results = judge(lambda: mutant.candidate(case.machine), notation.parse(case.machine), [case], modes=modes)
    return any(result.verdict is Verdict.DIFFERENT for result in results)


def kills(mutant: Mutant) -> list[str]:
    """The first cases that kill a mutant, at most :data:`LISTED`; what is proven to be the same is run on all."""
    found = (name for name in cases_of(mutant) if killed_by(mutant, golden.stored(name)))
    return list(itertools.islice(found, LISTED))


# -- the matrix --------------------------------------------------------------------------------------------------------


def matrix(progress: Callable[[str], None] = lambda line: None) -> dict[str, list[str]]:
    """The cases that kill each mutant."""
    found = {}
    for name, mutant in catalogue().items():
        found[name] = kills(mutant)
        progress(f"{name}: {', '.join(found[name]) or 'no case'}")
    return found


def stored() -> dict[str, list[str]]:
    """The published matrix."""
    found: dict[str, list[str]] = documents.read_json(MATRIX)
    return found


def survivors(names: Sequence[str]) -> list[str]:
    """One line for each of these mutants that is not what the matrix says of it."""
    lines, published = [], stored()
    for name in names:
        mutant = catalogue()[name]
        if name not in published:
            lines.append(f"{name}: is not in the matrix; write it again")
        elif mutant.same:
            lines += [f"{name}: is proven to be the same, and was killed"] if published[name] else []
        elif not any(killed_by(mutant, golden.stored(case)) for case in published[name]):
            lines.append(f"{name}: survives; {', '.join(published[name]) or 'no case'} should have killed it")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="graftsim_conformance.mutants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--write", action="store_true", help="look for the cases that kill each mutant and write the matrix"
    )
    try:
        if parser.parse_args().write:
            found = matrix(lambda line: print(line, flush=True))
            text = json.dumps(found, indent=1, sort_keys=True) + "\n"
            documents.write_atomically(MATRIX, lambda file: file.write(text.encode()))
        lines = survivors(list(catalogue()))
    except GraftsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines) or f"all {len(catalogue())} mutants are what the matrix says")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
