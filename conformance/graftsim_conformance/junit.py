"""Results as JUnit XML, which systems of continuous integration read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

from graftsim import documents
from graftsim_conformance.judge import CaseResult
from graftsim_conformance.suite_report import ClaimReport, SuiteReport
from graftsim_conformance.verdicts import Verdict

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, such as the escape codes of a terminal in a traceback."""
ELEMENTS = {
    Verdict.DIFFERENT: "failure",
    Verdict.CRASHED: "error",
    Verdict.TIMED_OUT: "error",
    Verdict.NOT_SUPPORTED: "skipped",
}


def write(reports: Sequence[SuiteReport], path: Path) -> None:
    """Write one test suite for each claim of each target."""
    data = text(reports)
    documents.write_atomically(path, lambda file: file.write(data))


def text(reports: Sequence[SuiteReport]) -> bytes:
    root = Xml.Element("testsuites", name="graftsim check")
    for report in reports:
        root.extend(_suite(report.subject.asked.target, one) for one in report.ran)
    Xml.indent(root)
    found: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return found + b"\n"


def _suite(target: str, one: ClaimReport) -> Xml.Element:
    name = f"{target} as {one.claim.machine}"
    found = Xml.Element("testsuite", name=_clean(name))
    cases = [_case(name, part, result) for part, result in one.parts()]
    for count, elements in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        found.set(count, str(sum(case.find(elements) is not None for case in cases)))
    found.set("tests", str(len(cases)))
    found.set("time", f"{sum(result.seconds for result in one.all):.3f}")
    found.extend(cases)
    return found


def _case(suite: str, part: str, result: CaseResult) -> Xml.Element:
    name = f"{result.case} [{part}]"
    found = Xml.Element("testcase", classname=_clean(suite), name=_clean(name), time=f"{result.seconds:.3f}")
    if result.verdict in ELEMENTS:
        inner = Xml.SubElement(found, ELEMENTS[result.verdict], message=_clean(f"{result.verdict}: {result.reason}"))
        lines = result.failure.lines() if result.failure else []
        inner.text = _clean("\n".join([*lines, result.detail]).strip())
    return found


def _clean(text: str) -> str:
    return ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)
