"""``graftsim check``."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from graftsim import documents


def check(target: str, machine: str | None, out: Path | None) -> int:
    """Print the verdict on a target; 0 if it is equivalent, 1 if not."""
    from graftsim_conformance.check import check as verdict

    console = Console()
    with Console(stderr=True).status(f"checking {target}"):
        report = verdict(target, machine)
    *lines, last = report.lines()
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)
    console.print(f"[bold {'green' if report.passed else 'red'}]{escape(last)}[/]", highlight=False, soft_wrap=True)
    if out:
        text = json.dumps(report.to_json(), indent=2, sort_keys=True) + "\n"
        documents.write_atomically(out, lambda file: file.write(text.encode()))
    return 0 if report.passed else 1
