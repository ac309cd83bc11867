"""The ledger: what was found so far, one JSON object a line, so that an interrupted run goes on where it stopped.

A ledger belongs to a digest of all that results depend on. It is removed when a run comes to its end.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graftsim import documents
from graftsim_conformance.hexfloat import to_hex
from graftsim_conformance.judge import CaseResult, Mode
from graftsim_conformance.report import Failure
from graftsim_conformance.verdicts import Verdict

FLOATS = ("got", "want", "bound", "units")
PARTS = ("results", "composition", "laws")
LINE_BYTES = 1 << 20


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
    """Results by job, kept in a file; a line that cannot be read, such as the last of a killed run, is passed over."""

    def __init__(self, digest: str, fresh: bool = False, place: Path | None = None) -> None:
        self.path = (place or folder()) / f"{digest[:32]}.jsonl"
        self.found: dict[str, Judged] = {}
        if fresh:
            self.path.unlink(missing_ok=True)
        elif self.path.exists():
            self._read()

    def _read(self) -> None:
        with self.path.open("rb") as file:
            while line := file.readline(LINE_BYTES):
                try:
                    row = json.loads(line)
                    parts = {part: [from_document(one) for one in row["parts"][part]] for part in PARTS}
                    self.found[row["job"]] = Judged(**parts)
                except (ValueError, KeyError, TypeError):
                    continue

    def add(self, job: str, judged: Judged) -> None:
        """Write down what a job found; a folder that cannot be written to costs the possibility to go on later."""
        self.found[job] = judged
        parts = {part: [to_document(one) for one in getattr(judged, part)] for part in PARTS}
        row = json.dumps({"job": job, "parts": parts}) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(row.encode())
        except OSError:
            return

    def close(self) -> None:
        """The run is at its end: another one begins anew."""
        self.path.unlink(missing_ok=True)
