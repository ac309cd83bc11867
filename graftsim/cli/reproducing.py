"""``graftsim papers`` and ``graftsim reproduce``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftsim import documents
from graftsim.cli import files
from graftsim.errors import GraftsimError, nearest

if TYPE_CHECKING:
    from graftsim.experiments.papers.verdicts import Check
    from graftsim.experiments.reproduce.running import Result

STYLES = {
    "agrees": "green",
    "differs": "yellow",
    "misprint": "red",
    "reproduced": "green",
    "not reproduced": "red",
    "not decidable at this size": "yellow",
}


def reproduce(
    only: Sequence[str], quick: bool, out: Path, json_path: Path | None, ledger_path: Path | None, processes: int
) -> None:
    """Test the claims, write the report, and print a line for each."""
    from graftsim.cli import experimenting, progress
    from graftsim.experiments import queue_ranks
    from graftsim.experiments.papers import checks
    from graftsim.experiments.reproduce import claims, report, running
    from graftsim.experiments.reproduce.findings import Size

    chosen = claims.chosen(only)
    queue_ranks.lead()
    claims.check_installed(chosen, quick)
    for path in filter(None, (out, json_path)):
        documents.check_writable(path)
    with experimenting.kept(ledger_path, "reproduce", f"reproduce {quick} {sorted(only)}") as ledger:
        with progress.shown("runs") as tell:
            results = running.run(chosen, Size(quick), ledger, processes, tell)
            checked = [] if only else [check() for check in checks.CHECKS.values()]
        report.write(results, checked, quick, out)
    if json_path:
        files.write_json(json_path, report.document(results, checked, quick))
    _print(results, out, json_path)


def _print(results: Sequence[Result], out: Path, json_path: Path | None) -> None:
    from graftsim.experiments.reproduce import report

    console = _console()
    shown = _empty("claim", "paper", "verdict", "seeds", "cost")
    for column in shown.columns[-2:]:
        column.justify = "right"
    for one in results:
        verdict = _styled(one.finding.verdict)
        shown.add_row(one.claim.id, str(one.claim.paper), verdict, report.seeds(one), report.seconds(one.seconds))
    console.print(shown)
    for path in filter(None, (out, json_path)):
        console.print(f"written {path}", soft_wrap=True)


def papers(name: str | None, json_path: Path | None) -> None:
    """Print all checks of printed statements and the misprints, or one check or table by its name."""
    from graftsim.experiments.papers import checks, tables

    if json_path:
        documents.check_writable(json_path)
    if name in tables.names():
        _table(tables.load(name))
        return
    if name and name not in checks.CHECKS:
        known = [*checks.CHECKS, *tables.names()]
        raise GraftsimError(f"unknown check or table {name!r}{nearest(name, known)}")
    found = [checks.run(name)] if name else [check() for check in checks.CHECKS.values()]
    if name:
        _check(found[0])
    else:
        _overview(found)
    if json_path:
        files.write_json(json_path, _document(found, everything=name is None))


def _console() -> Console:
    return Console(highlight=False)


def _empty(*headings: str) -> Table:
    """A table without rows."""
    return Table(*headings, box=None, pad_edge=False, padding=(0, 2))


def _overview(found: list[Check]) -> None:
    from graftsim.experiments.papers import errata

    console = _console()
    shown = _empty("check", "paper", "question", "verdict")
    for check in found:
        shown.add_row(check.id, str(check.paper), escape(check.question), _styled(check.verdict))
    console.print(shown)
    console.print(f"\n[bold]{len(errata.load())} misprints and gaps[/]")
    for erratum in errata.load():
        by = f" [dim](graftsim papers {erratum.check})[/]" if erratum.check else ""
        console.print(f"[bold]{erratum.paper}, {escape(erratum.place)}[/]{by}")
        console.print(f"  printed: {escape(erratum.printed)}\n  meant: {escape(erratum.meant)}")
        console.print(f"  [dim]{escape(erratum.evidence)}[/]")


def _check(check: Check) -> None:
    console = _console()
    console.print(f"[bold]{escape(check.question)}[/] {check.paper}, {escape(check.place)}: {_styled(check.verdict)}")
    shown = _empty("", "printed", "found", "")
    for line in check.lines:
        shown.add_row(escape(line.what), escape(line.printed), escape(line.found), _styled(line.verdict))
    console.print(shown)
    if check.note:
        console.print(escape(check.note))


def _table(table: Any) -> None:
    console = _console()
    console.print(f"[bold]{escape(table.title)}[/] ({escape(table.place)}): {escape(table.caption)}")
    if table.about:
        console.print(escape(table.about), style="dim")
    shown = _empty(*(escape(column.name) for column in table.columns))
    for row in table.rows:
        shown.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    console.print(shown)


def _styled(verdict: str) -> str:
    return f"[{STYLES[verdict]}]{verdict}[/]"


def _document(found: list[Check], everything: bool) -> dict[str, Any]:
    import dataclasses

    from graftsim.experiments.papers import errata

    rows = [{**dataclasses.asdict(check), "verdict": check.verdict} for check in found]
    return {"checks": rows, **({"errata": [dataclasses.asdict(one) for one in errata.load()]} if everything else {})}
