"""Certificates: what was shown of a target, on what, with every case and its measured error; or the reason why not.

A certificate says no more than the run did: spec edition, versions, device and dtype are in it, and so is what the
candidate does not support. Its form is ``graftsim_spec/schema/certificate.json``.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftsim import compiler, documents
from graftsim.errors import GraftsimError
from graftsim_conformance import golden
from graftsim_conformance.follow import BUDGET
from graftsim_conformance.hexfloat import to_hex
from graftsim_conformance.judge import CaseResult, Mode
from graftsim_conformance.probes import LAYOUT
from graftsim_conformance.suite_report import ClaimReport, SuiteReport

VERSION = 1


def certificate(report: SuiteReport) -> dict[str, Any]:
    """The certificate of a target that passed every case which it must support.

    Raises:
        GraftsimError: cases were left out on purpose; one did not pass; one that needs nothing special is not
            supported: missing gradients and setting the state are the only abilities that may lack.
    """
    if refused := refusal(report):
        raise GraftsimError(f"there is no certificate for {report.subject.asked.target}: {refused}")
    found = report.subject
    document: dict[str, Any] = {
        "certificate": VERSION,
        "target": found.asked.target,
        "kind": found.kind,
        "spec": {"edition": documents.read_json(documents.spec() / "rules.json")["edition"]},
        "versions": dict(found.versions),
        "python": platform.python_version(),
        "device": {"machine": platform.machine(), "system": platform.system(), "backend": found.backend},
        "mode": found.asked.mode,
        "dtype": found.asked.dtype or "both",
        "budget": BUDGET,
        "claims": [_claim(one) for one in report.ran],
    }
    document["digest"] = digest(document)
    documents.validate(document, "certificate", "the certificate")
    return document


def refusal(report: SuiteReport) -> str:
    """Why there can be no certificate; empty if there can."""
    if not report.subject.asked.whole or any(one.claim.left for one in report.claims):
        return "it must stand for all cases; run without --only, --rules and --quick, and with --all"
    for one in report.claims:
        if not one.claim.cases:
            return f"there is no golden case of {one.claim.machine}"
        if not one.passed:
            bad = next(iter(one.broken), None)
            return f"{bad.case} is {bad.verdict}: {bad.reason}" if bad else f"no case of {one.claim.machine} passed"
        for skipped in one.unsupported:
            if skipped.mode is Mode.FOLLOW and not golden.stored(skipped.case).needs:
                return f"{skipped.case} is required and is not supported: {skipped.reason}"
    return ""


def digest(document: Mapping[str, Any]) -> str:
    """The digest of a certificate, which is over everything but itself."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write(document: Mapping[str, Any], path: Path) -> None:
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    documents.write_atomically(path, lambda file: file.write(text.encode()))


def read(path: Path) -> dict[str, Any]:
    """A certificate from its file.

    Raises:
        GraftsimError: not of the schema; its digest is not that of what it says.
    """
    document: dict[str, Any] = documents.read_json(path)
    documents.validate(document, "certificate", str(path))
    if digest(document) != document["digest"]:
        raise GraftsimError(f"{path}: the digest must be that of the certificate; it was altered")
    return document


def _claim(one: ClaimReport) -> dict[str, Any]:
    slots = compiler.build(one.claim.instance, LAYOUT).slots if one.unread else {}
    only = bool(slots) and set(one.unread) >= {path for path, slot in slots.items() if not slot.counter}
    return {
        "machine": one.claim.machine,
        "variant": one.claim.row.variant,
        "verdict": str(one.verdict),
        "profile": one.row().profile,
        "state": "weights only" if only else "compared",
        "unread": list(one.unread),
        "largest": to_hex(one.largest),
        "recipes": [_case(result) for result in one.results if result.passed],
        "composition": [_case(result) for result in one.composition],
        "laws": [_case(result) for result in one.laws if result.passed],
        "not_supported": [
            {"case": result.case, "mode": str(result.mode), "reason": result.reason} for result in one.unsupported
        ],
    }


def _case(result: CaseResult) -> dict[str, Any]:
    return {
        "case": result.case,
        "mode": str(result.mode),
        "verdict": str(result.verdict),
        "error": to_hex(result.largest),
        "values": result.comparisons,
        "undecided": result.undecided,
    }
