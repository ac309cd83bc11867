"""Certificates: what was shown of a target, on what, with every case and its measured error; or the reason why not.

A certificate says no more than the run did: spec edition, versions, device and dtype are in it, and so is what the
candidate does not support. Its form is ``graftsim_spec/schema/certificate.json``.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from graftsim import compiler, documents
from graftsim.errors import GraftsimError
from graftsim_conformance import golden
from graftsim_conformance.follow import BUDGET
from graftsim_conformance.judge import CaseResult, Mode
from graftsim_conformance.probes import LAYOUT
from graftsim_conformance.suite_report import ClaimReport, SuiteReport
from graftsim_conformance.verdicts import Verdict

EXACT = "exact"
VERSION = 2


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
        if not golden.names_of(one.claim.instance):
            return f"there is no golden case of {one.claim.machine}"
        if not one.claim.cases:  # there is none in the dtype that was asked for, so nothing is said of it
            continue
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
    """Write a certificate, one case a line."""
    text = _lines(document) + "\n"
    documents.write_atomically(path, lambda file: file.write(text.encode()))


def read(path: Path) -> dict[str, Any]:
    """A certificate from its file.

    Raises:
        GraftsimError: not of the schema; its digest is not that of what it says; an error above its budget.
    """
    document: dict[str, Any] = documents.read_json(path)
    documents.validate(document, "certificate", str(path))
    if digest(document) != document["digest"]:
        raise GraftsimError(f"{path}: the digest must be that of the certificate; it was altered")
    for claim in document["claims"]:
        for name, error in errors(claim):
            if isinstance(error, float | int) and error > document["budget"]:
                raise GraftsimError(f"{path}: {claim['machine']}: {name} must be within the budget; it has {error}")
    return document


def errors(claim: Mapping[str, Any]) -> Iterator[tuple[str, float | str]]:
    """All cases and laws of a claim with their errors, in whatever part."""
    for cases in (*claim["recipes"].values(), claim["composition"]):
        yield from ((case, error) for case, (error, *_) in cases.items())
    yield from claim["laws"].items()


def _lines(value: Any) -> str:
    """JSON with sorted keys, a line for each member of a mapping and each mapping of a list, and no other space."""
    if isinstance(value, Mapping) and value:
        return "{\n" + ",\n".join(f"{json.dumps(key)}:{_lines(value[key])}" for key in sorted(value)) + "\n}"
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return "[\n" + ",\n".join(map(_lines, value)) + "\n]"
    return json.dumps(value, separators=(",", ":"))


def _claim(one: ClaimReport) -> dict[str, Any]:
    slots = compiler.build(one.claim.instance, LAYOUT).slots if one.unread else {}
    only = bool(slots) and set(one.unread) >= {path for path, slot in slots.items() if not slot.counter}
    modes = dict.fromkeys(result.mode for result in one.results)
    return {
        "machine": one.claim.machine if one.claim.row.variant else one.claim.label,
        "variant": one.claim.row.variant,
        "verdict": str(one.verdict),
        "profile": one.row().profile,
        "state": "weights only" if only else "compared",
        "unread": list(one.unread),
        "float32": list(one.claim.float32),
        "largest": _digits(one.largest),
        "recipes": {str(mode): _cases(result for result in one.results if result.mode is mode) for mode in modes},
        "composition": _cases(one.composition),
        "laws": {result.case.removeprefix("law."): _error(result) for result in one.laws if result.passed},
        "not_supported": _not_supported(one.unsupported),
    }


def _cases(results: Iterable[CaseResult]) -> dict[str, list[Any]]:
    """Each case that passed with its error, how many values that is of, and how many more had no finite bound."""
    return {one.case: [_error(one), one.comparisons, one.undecided] for one in results if one.passed}


def _error(result: CaseResult) -> float | str:
    return EXACT if result.verdict is Verdict.EXACT else _digits(result.largest)


def _digits(error: float) -> float:
    """Three digits, rounded up; more would tell nothing of an error that differs between processors."""
    if not error:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(error)) - 2)
    return float(f"{math.ceil(error / unit) * unit:.3g}")


def _not_supported(results: Iterable[CaseResult]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[str]] = {}
    for result in results:
        found.setdefault((str(result.mode), result.reason), []).append(result.case)
    return [{"mode": mode, "reason": reason, "cases": cases} for (mode, reason), cases in found.items()]
