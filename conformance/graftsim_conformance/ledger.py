"""The ledger: what was found so far, so that an interrupted run goes on where it stopped.

A ledger belongs to a digest of all that results depend on. It is a :mod:`graftsim.journal`, like that of experiments in
``graftsim.experiments.ledger``. They are two classes because the verdict counts here, and comes out also where nothing
can be written down or another process checks the same, while there a result that is not kept is an error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from graftsim import documents
from graftsim.errors import GraftsimError
from graftsim.journal import Journal
from graftsim_conformance.hexfloat import to_hex
from graftsim_conformance.judge import CaseResult, Mode
from graftsim_conformance.report import Failure
from graftsim_conformance.verdicts import Verdict

FORMAT = "graftsim suite ledger 1"
FLOATS = ("got", "want", "bound", "units")
PARTS = ("results", "composition", "laws")


def folder() -> Path:
    """Where ledgers are."""
    return documents.cache_folder() / "suite"


def to_document(found: CaseResult) -> dict[str, Any]:
    """Plain values for ``json.dumps``; floats that may be anything are hexadecimal text."""
    document = dataclasses.asdict(found)
    document |= {"verdict": str(found.verdict), "mode": str(found.mode), "largest": to_hex(found.largest)}
    if found.failure is not None:
        document["failure"] |= {name: to_hex(document["failure"][name]) for name in FLOATS}
    return document


def from_document(document: Mapping[str, Any]) -> CaseResult:
    """What :func:`to_document` was given."""
    failure = document["failure"]
    if failure is not None:
        floats = {name: float.fromhex(failure[name]) for name in FLOATS}
        failure = Failure(**{**failure, **floats, "through": tuple(failure["through"])})
    plain = {
        "verdict": Verdict(document["verdict"]),
        "mode": Mode(document["mode"]),
        "largest": float.fromhex(document["largest"]),
        "failure": failure,
        "unread": tuple(document["unread"]),
        "rules": tuple(document["rules"]),
    }
    return CaseResult(**{**document, **plain})


@dataclass(frozen=True)
class Judged:
    """The verdicts on a case, one for each mode, and on its composition; or those on the laws of a claim."""

    results: list[CaseResult] = field(default_factory=list)
    composition: list[CaseResult] = field(default_factory=list)
    laws: list[CaseResult] = field(default_factory=list)


class Ledger:
    """Results by job. It is closed with its block, and removed if the block came to its end or found nothing."""

    def __init__(self, digest: str, fresh: bool = False, place: Path | None = None) -> None:
        self.path = (place or folder()) / f"{digest[:32]}.jsonl"
        self.found: dict[str, Judged] = {}
        self._journal: Journal | None = None
        header = {"format": FORMAT, "digest": digest}
        with contextlib.suppress(GraftsimError):  # no place to write, or another process writes it now
            if fresh:
                old = Journal(self.path, header, lambda row: None)  # it is this process's to remove
                self.path.unlink()
                old.close()
            self._journal = Journal(self.path, header, self._take)

    def _take(self, row: Any) -> None:
        parts = {part: [from_document(one) for one in row["parts"][part]] for part in PARTS}
        self.found[row["job"]] = Judged(**parts)

    def add(self, job: str, judged: Judged) -> None:
        """Write down what a job found, where that can be."""
        self.found[job] = judged
        if self._journal is not None:
            parts = {part: [to_document(one) for one in getattr(judged, part)] for part in PARTS}
            with contextlib.suppress(GraftsimError):
                self._journal.append(json.dumps({"job": job, "parts": parts}))

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._journal is not None:
            if kind is None or not self.found:
                self.path.unlink(missing_ok=True)
            self._journal.close()
            self._journal = None
