"""The normative rules: found in the prose of the specification, kept beside it as data, compared.

A rule is a paragraph of ``spec/*.md`` that begins with its id in bold brackets; ``spec/README.md`` says how ids are
used. ``rules.json`` in the data package holds the same rules for programs of any language.

``python -m graftsim.rules`` exits with 1 where prose and file differ; with ``--write`` it writes the file anew.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from graftsim import documents
from graftsim.errors import GraftsimError, nearest

ID = re.compile(r"GS(?:-[a-z0-9]+)+")
_RULE = re.compile(rf"\*\*\[({ID.pattern})\]\*\* (.+)", re.DOTALL)
_EDITION = re.compile(r"^Edition ([0-9]+\.[0-9]+)\.$", re.MULTILINE)
PROSE_BYTES = 1 << 20


@dataclass(frozen=True)
class Rule:
    """One normative rule: its id, the file of the prose that states it, and its text."""

    id: str
    file: str
    text: str


@dataclass(frozen=True)
class Edition:
    """An edition of the specification: its number and its rules by id, in the order of files and paragraphs."""

    number: str
    rules: Mapping[str, Rule]

    def text(self) -> str:
        """The content of ``rules.json``: one rule a line, so that a changed rule is a changed line."""
        lines = ",\n".join(f"    {json.dumps(asdict(rule), ensure_ascii=False)}" for rule in self.rules.values())
        return f'{{\n  "edition": {json.dumps(self.number)},\n  "rules": [\n{lines}\n  ]\n}}\n'


def extract(folder: Path) -> Edition:
    """The edition that the prose in a folder states.

    Raises:
        GraftsimError: no edition in ``README.md``, an id that stands twice, an id in brackets that begins no paragraph.
    """
    number = _EDITION.search(documents.read_text(folder / "README.md", PROSE_BYTES))
    if number is None:
        raise GraftsimError(f"{folder / 'README.md'} must have a line such as 'Edition 1.0.'")
    found: dict[str, Rule] = {}
    for path in sorted(folder.glob("*.md")):
        for rule in _in_file(path):
            if rule.id in found:
                raise GraftsimError(
                    f"{path}: {rule.id} is stated twice, here and in {found[rule.id].file}; choose another id"
                )
            found[rule.id] = rule
    return Edition(number[1], found)


def _in_file(path: Path) -> Iterator[Rule]:
    text = re.sub(r"^```.*?^```", "", documents.read_text(path, PROSE_BYTES), flags=re.DOTALL | re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n", text):
        match = _RULE.fullmatch(paragraph.strip())
        if match:
            yield Rule(match[1], path.name, " ".join(match[2].split()))
        if paragraph.count("**[") > bool(match):
            shown = paragraph[paragraph.rindex("**[") :].split("\n")[0][:60]
            raise GraftsimError(f"{path}: a rule must be a paragraph '**[id]** text'; received {shown!r}")


def read(path: Path) -> Edition:
    """The edition in a ``rules.json``.

    Raises:
        GraftsimError: the file cannot be read, does not follow its schema, or has an id twice.
    """
    document = documents.read_json(path)
    documents.validate(document, "rules", str(path))
    found = {row["id"]: Rule(**row) for row in document["rules"]}
    if len(found) != len(document["rules"]):
        raise GraftsimError(f"{path}: an id stands twice; write the file with 'python -m graftsim.rules --write'")
    return Edition(document["edition"], found)


@cache
def load() -> Mapping[str, Rule]:
    """The rules of the specification that this package carries, by id."""
    return read(Path(str(documents.spec() / "rules.json"))).rules


def sentence(identifier: str) -> str:
    """The text of a rule.

    Raises:
        GraftsimError: there is no such rule.
    """
    if identifier not in load():
        raise GraftsimError(f"unknown rule {identifier!r}{nearest(identifier, load())}")
    return load()[identifier].text


def first_difference(prose: Edition, data: Edition) -> str | None:
    """One line about the first rule that prose and data do not share; None where they are equal."""
    if prose.number != data.number:
        return f"the prose is edition {prose.number}, rules.json is edition {data.number}"
    for identifier in [*prose.rules, *data.rules]:
        stated, kept = prose.rules.get(identifier), data.rules.get(identifier)
        if kept is None:
            return f"{identifier} stands in the prose and not in rules.json"
        if stated is None:
            return f"{identifier} stands in rules.json and not in the prose"
        if stated != kept:
            return f"{identifier} differs: {stated.file} has {stated.text!r}, rules.json has {kept.file} {kept.text!r}"
    return None if list(prose.rules) == list(data.rules) else "the rules stand in another order in rules.json"


def main(arguments: Sequence[str]) -> int:
    """Compare prose and data, or with ``--write`` make the data from the prose."""
    packaged = Path(str(documents.spec()))
    try:
        prose = extract(packaged.parent)
        if "--write" in arguments:
            documents.write_atomically(packaged / "rules.json", lambda file: file.write(prose.text().encode()))
        difference = first_difference(prose, read(packaged / "rules.json"))
    except GraftsimError as error:
        print(error, file=sys.stderr)
        return 1
    if difference:
        print(f"{difference}; run 'python -m graftsim.rules --write' after deciding which is right", file=sys.stderr)
        return 1
    print(f"edition {prose.number}: {len(prose.rules)} rules, the prose and rules.json are equal")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
