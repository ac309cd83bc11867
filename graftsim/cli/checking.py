"""``graftsim check``: targets in, a verdict as text, HTML, JUnit XML, JSON and a certificate out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from graftsim import documents
from graftsim.cli import files, progress
from graftsim.errors import GraftsimError

if TYPE_CHECKING:
    from graftsim_conformance.subjects import Asked
    from graftsim_conformance.suite_report import SuiteReport


@dataclass(frozen=True)
class Outputs:
    """Where reports are written, each of them if asked for."""

    json: Path | None = None
    html: Path | None = None
    certificate: Path | None = None
    junit: Path | None = None

    def check(self) -> None:
        """Refuse what cannot be written, before work is done whose result would go there."""
        from graftsim_conformance import html

        for path in filter(None, (self.json, self.html, self.certificate, self.junit)):
            documents.check_writable(path)
        if self.html:
            html.text([])


def main(
    targets: Sequence[str], how: Mapping[str, Any], outputs: Outputs, processes: int, fresh: bool, list_only: bool
) -> int:
    """Judge targets, or list their cases; ``how`` has the other fields of a request."""
    from graftsim_conformance.certificates import table
    from graftsim_conformance.subjects import Asked

    if not targets:
        raise GraftsimError("name a target, such as torch.optim:Adam; graftsim list prints those that are known")
    targets = [target for name in targets for target in table.targets(name)]
    if how["dtype"] not in (None, "float64", "float32"):
        raise GraftsimError(f"--dtype must be float64 or float32; received {how['dtype']!r}")
    if processes < 1:
        raise GraftsimError(f"-j must be at least 1; received {processes}")
    if outputs.certificate and len(targets) != 1:
        raise GraftsimError(f"a certificate is of one target; received {', '.join(targets)}")
    asked = [Asked(target, **how) for target in targets]
    return list_cases(asked) if list_only else check(asked, outputs, processes, fresh)


def check(asked: Sequence[Asked], outputs: Outputs, processes: int, fresh: bool) -> int:
    """Print the verdict on each target and write what was asked for; 0 if all are equivalent, 1 if not."""
    from graftsim_conformance import html, junit

    outputs.check()
    reports = [_run(one, processes, fresh) for one in asked]
    for report in reports:
        _print(report)
    if outputs.json:
        found = [report.to_json() for report in reports]
        files.write_json(outputs.json, found[0] if len(found) == 1 else {"targets": found})
    if outputs.html:
        html.write(reports, outputs.html)
    if outputs.junit:
        junit.write(reports, outputs.junit)
    certified = _certify(reports[0], outputs.certificate) if outputs.certificate else True
    return 0 if certified and all(report.passed for report in reports) else 1


def list_cases(asked: Sequence[Asked]) -> int:
    """Print the names of the cases that would be run."""
    from graftsim_conformance import subjects

    console = Console(soft_wrap=True, highlight=False)
    for one in asked:
        for claim in subjects.subject(one).claims:
            console.print(f"[bold]{escape(one.target)} as {escape(claim.machine)}: {len(claim.cases)} cases[/]")
            for name in claim.cases:
                console.print(f"  {escape(name)}")
            if claim.left:
                console.print(f"  [dim]and {claim.left} more with --all[/]")
    return 0


def _run(one: Asked, processes: int, fresh: bool) -> SuiteReport:
    from graftsim_conformance import suite

    try:
        with progress.shown("cases", what=f"checking {one.target}") as tell:
            return suite.run(one, processes, fresh, tell)
    except KeyboardInterrupt:
        Console(stderr=True).print("what was found is kept; check goes on with it, but for --fresh", highlight=False)
        raise


def _print(report: SuiteReport) -> None:
    console = Console(soft_wrap=True, highlight=False)
    *lines, last = report.lines()
    for line in lines:
        console.print(escape(line))
    console.print(f"[bold {'green' if report.passed else 'red'}]{escape(last)}[/]")


def _certify(report: SuiteReport, path: Path) -> bool:
    """Write the certificate, or say why there is none; one that stood there before does not stay."""
    from graftsim_conformance import certificate

    if refused := certificate.refusal(report):
        Console(stderr=True, soft_wrap=True).print(f"no certificate: {escape(refused)}", highlight=False)
        path.unlink(missing_ok=True)
        return False
    certificate.write(certificate.certificate(report), path)
    return True
