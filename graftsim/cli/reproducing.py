"""``graftsim papers`` and ``graftsim reproduce``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from graftsim import documents
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
EVERY = 60.0
"""Seconds between two lines of progress where there is no terminal."""


def reproduce(
    only: Sequence[str], quick: bool, out: Path, json_path: Path | None, ledger_path: Path | None, processes: int
) -> None:
    """Test the claims, write the report, and print a line for each."""
    from graftsim.experiments import ledger as ledgers
    from graftsim.experiments import queue_ranks
    from graftsim.experiments.papers import checks
    from graftsim.experiments.reproduce import claims, report, running
    from graftsim.experiments.reproduce.findings import Size

    chosen = claims.chosen(only)
    queue_ranks.lead()
    claims.check_installed(chosen, quick)
    for path in filter(None, (out, json_path)):
        documents.check_writable(path)
    place = ledger_path or ledgers.place(f"reproduce {quick} {sorted(only)}")
    console = Console(stderr=True)
    with ledgers.Ledger(place, "reproduce") as ledger:
        try:
            with _progress(console) as tell:
                results = running.run(chosen, Size(quick), ledger, processes, tell)
                checked = [] if only else [check() for check in checks.CHECKS.values()]
        except KeyboardInterrupt:
            kept = f"{len(ledger)} results are kept in {place}; the same command goes on"
            console.print(kept, highlight=False, soft_wrap=True)
            raise
        report.write(results, checked, quick, out)
        if ledger_path is None:
            place.unlink(missing_ok=True)
    if json_path:
        text = json.dumps(report.document(results, checked, quick), indent=1, ensure_ascii=False) + "\n"
        documents.write_atomically(json_path, lambda file: file.write(text.encode()))
    _print(results, out, json_path)


def _print(results: Sequence[Result], out: Path, json_path: Path | None) -> None:
    from graftsim.experiments.reproduce import report

    console = _console()
    shown = Table(box=None, pad_edge=False, padding=(0, 2))
    for heading in ("claim", "paper", "verdict", "seeds", "cost"):
        shown.add_column(heading, justify="right" if heading in ("seeds", "cost") else "left")
    for one in results:
        verdict = _styled(one.finding.verdict)
        shown.add_row(one.claim.id, str(one.claim.paper), verdict, report.seeds(one), report.seconds(one.seconds))
    console.print(shown)
    for path in filter(None, (out, json_path)):
        console.print(f"written {path}", soft_wrap=True)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int], object]]:
    """A bar on a terminal, and elsewhere a line now and then."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    """A line of progress at most every minute."""

    def __init__(self, console: Console) -> None:
        self.console, self.last = console, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.last >= EVERY:
            self.last = time.monotonic()
            self.console.print(f"{done} of {total} runs", highlight=False)


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
        text = json.dumps(_document(found, everything=name is None), indent=2, ensure_ascii=False) + "\n"
        documents.write_atomically(json_path, lambda file: file.write(text.encode()))


def _console() -> Console:
    return Console(highlight=False)


def _overview(found: list[Check]) -> None:
    from graftsim.experiments.papers import errata

    console = _console()
    shown = Table(box=None, pad_edge=False, padding=(0, 2))
    for heading in ("check", "paper", "question", "verdict"):
        shown.add_column(heading)
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
    shown = Table(box=None, pad_edge=False, padding=(0, 2))
    for heading in ("", "printed", "found", ""):
        shown.add_column(heading)
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
    shown = Table(box=None, pad_edge=False, padding=(0, 2))
    for column in table.columns:
        shown.add_column(escape(column.name))
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
