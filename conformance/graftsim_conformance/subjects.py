"""Subjects: what ``graftsim check`` was asked to judge, as a list of claims and a way to make candidates.

A target is one of

- a native of a dialect (``torch.optim:Adam``), or a class with the interface of one (``--like``);
- a Python object with ``init`` and ``step``, or one that makes such objects (``mymodule:MyAdam``), with ``--as``;
- a program, by its path (``./adam --fast``), with ``--as``;
- an adapter: something callable that has ``machines``, a list of expressions, and makes a candidate of each of them.

The name of one of the project's own adapters (``graftsim_torch``) stands for all its targets on the command line.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from graftsim import notation, rules
from graftsim.errors import GraftsimError, nearest
from graftsim_conformance import golden, native_subject, own_subject
from graftsim_conformance.asked import Asked, Claim, Subject
from graftsim_conformance.certificates import table
from graftsim_conformance.dialects import targets
from graftsim_conformance.own_subject import as_candidate

__all__ = ["Asked", "Claim", "Subject", "as_candidate", "digest", "subject"]


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
        found = own_subject.program(asked)
    elif (asked.like or asked.target) in targets():
        found = native_subject.native(asked)
    elif asked.like is not None or ":" not in asked.target:
        raise _unknown(asked)
    else:
        found = own_subject.python_object(asked)
    if not any(claim.cases for claim in found.claims):
        raise GraftsimError(
            f"none of the chosen cases is of {asked.target}; graftsim check {asked.target} --list shows what is"
        )
    return found


def _unknown(asked: Asked) -> GraftsimError:
    if asked.like is not None:
        return GraftsimError(f"there is no dialect of {asked.like!r}{nearest(asked.like, targets())}")
    adapters = {row.adapter for row in table.rows()}
    return GraftsimError(
        "a target must be written as module:attribute, such as torch.optim:Adam, or be the path of a program or one of "
        f"{', '.join(sorted(adapters))}; received {asked.target!r}{nearest(asked.target, adapters)}"
    )


def digest(found: Subject) -> str:
    """A digest of all that the results depend on: request, versions, the files of the candidate, suite and cases."""
    sha = hashlib.sha256(repr((found.asked, sorted(found.versions.items()), found.backend, found.device)).encode())
    for folder in (Path(__file__).parent, Path(notation.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            sha.update(path.read_bytes())
    for path in map(Path, found.sources):
        sha.update(path.read_bytes())
    for name in sorted({name for one in found.claims for name in one.cases}):
        file = golden.folder() / f"{name}.json"
        sha.update(file.read_bytes() if file.is_file() else name.encode())  # some have no answer, and no file
    return sha.hexdigest()
