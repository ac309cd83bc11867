"""The report as one HTML file: it opens from disk, without network and without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftsim import documents, rules
from graftsim.errors import GraftsimError
from graftsim_conformance.follow import BUDGET
from graftsim_conformance.judge import CaseResult
from graftsim_conformance.suite_report import ClaimReport, SuiteReport, reasons
from graftsim_conformance.verdicts import Verdict, overall

TEMPLATE = Path(__file__).parent / "report.html.jinja"
CLASSES = {
    Verdict.EXACT: "exact",
    Verdict.EQUIVALENT: "equivalent",
    Verdict.DIFFERENT: "different",
    Verdict.CRASHED: "crashed",
    Verdict.TIMED_OUT: "late",
    Verdict.NOT_SUPPORTED: "unsupported",
}


@dataclass(frozen=True)
class Cell:
    """What a claim came to on the cases of one group of rules."""

    verdict: Verdict
    worst: CaseResult | None
    cases: int
    broken: int

    @property
    def kind(self) -> str:
        return CLASSES[self.verdict]

    @property
    def text(self) -> str:
        """The worst error in bounds; for what has none, the verdict in a word."""
        if not self.cases:
            return "–"
        if self.worst is None:
            return {"unsupported": "n/s", "crashed": "crash", "late": "time"}.get(self.kind, "✗")
        return number(self.worst.largest)

    @property
    def share(self) -> float:
        """The worst error as a percentage of the budget, at most 100."""
        return 0.0 if self.worst is None else min(100.0, 100 * self.worst.largest / BUDGET)

    @property
    def title(self) -> str:
        if not self.cases:
            return "no case"
        what = f"{self.verdict}: {self.cases} verdicts, {self.broken} broken"
        return what if self.worst is None else f"{what}; worst {number(self.worst.largest)} bounds in {self.worst.case}"


def number(value: float) -> str:
    """An error in bounds, short enough for a cell.

    >>> number(0.0), number(1.4159), number(31.2), number(2.6e9), number(float("inf"))
    ('0', '1.4', '31', '3e9', '∞')
    """
    if value in (0.0, float("inf")):
        return "∞" if value else "0"
    if 0.05 <= value < 1000:
        return f"{value:.1f}" if value < 10 else f"{value:.0f}"
    return f"{value:.0e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def group(rule: str) -> str:
    """The group of a rule: what it is about, in one word.

    >>> group("GS-graft-zero-direction")
    'graft'
    """
    return rule.split("-")[1]


def groups() -> list[str]:
    """All groups, in the order of the specification."""
    return list(dict.fromkeys(map(group, rules.load())))


def cell(one: ClaimReport, name: str) -> Cell:
    """What a claim came to on the cases that test a rule of a group."""
    found = [result for result in one.all if name in map(group, result.rules)]
    ran = [result for result in found if result.verdict is not Verdict.NOT_SUPPORTED]
    measured = [result for result in ran if result.comparisons]
    worst = max(measured, key=lambda result: result.largest, default=None)
    broken = sum(result in one.broken for result in found)
    return Cell(overall(result.verdict for result in ran), worst, len(found), broken)


def text(reports: Sequence[SuiteReport]) -> str:
    """The whole page.

    Raises:
        GraftsimError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError:
        raise GraftsimError("an HTML report needs jinja2; install it with pip install 'graftsim[report]'") from None
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text("utf-8"))
    shown = [name for name in groups() if any(cell(one, name).cases for report in reports for one in report.ran)]
    found: str = template.render(
        reports=[_report(report, number) for number, report in enumerate(reports)],
        groups=shown,
        cell=cell,
        number=number,
        classes=CLASSES,
        budget=BUDGET,
        passed=all(report.passed for report in reports),
        edition=documents.read_json(documents.spec() / "rules.json")["edition"],
    )
    return found


def _report(report: SuiteReport, position: int) -> dict[str, Any]:
    asked = report.subject.asked
    versions = ", ".join(f"{name} {version}" for name, version in report.subject.versions.items())
    how = [asked.mode, asked.dtype or "each case in its own dtype", report.subject.backend, report.subject.device]
    claims = [
        {
            "id": f"claim-{position}-{place}",
            "report": one,
            "label": one.claim.row.variant or one.claim.machine,
            "broken": [(part, result) for part, result in one.parts() if result in one.broken],
            "all": list(one.parts()),
            "reasons": reasons(one.unsupported),
        }
        for place, one in enumerate(report.ran)
    ]
    about = f"{versions}; {', '.join(part for part in how if part)}"
    return {"target": asked.target, "about": about, "passed": report.passed, "claims": claims}


def write(reports: Sequence[SuiteReport], path: Path) -> None:
    """Write the page."""
    page = text(reports)
    documents.write_atomically(path, lambda file: file.write(page.encode()))
