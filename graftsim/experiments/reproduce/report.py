"""The report as one HTML file: it opens from disk, without network and without scripts."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graftsim import documents
from graftsim.errors import GraftsimError
from graftsim.experiments.papers import errata
from graftsim.experiments.papers.verdicts import Check
from graftsim.experiments.reproduce.findings import Verdict
from graftsim.experiments.reproduce.running import Result
from graftsim.trajectory import versions

TITLES = {
    2020: "Disentangling Adaptive Gradient Methods from Learning Rates",
    2021: "Learning Rate Grafting: Transferability of Optimizer Tuning",
    2017: "The Marginal Value of Adaptive Gradient Methods in Machine Learning",
}
KINDS: Mapping[str, str] = {
    Verdict.REPRODUCED: "good",
    Verdict.NOT: "bad",
    Verdict.UNDECIDED: "open",
    "agrees": "good",
    "differs": "open",
    "misprint": "bad",
}
WORDS: Mapping[str, str] = {
    Verdict.REPRODUCED: "reproduced",
    Verdict.NOT: "not reproduced",
    Verdict.UNDECIDED: "not decidable",
}
"""Short enough for a narrow table; the section has the whole word."""


def seconds(value: float) -> str:
    """A cost for people.

    >>> seconds(0.0), seconds(0.043), seconds(7.21), seconds(95.2), seconds(1260)
    ('0 s', '0.04 s', '7.2 s', '95 s', '21 min')
    """
    if value < 1:
        return f"{value:.1g} s" if value >= 0.005 else "0 s"
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 600 else f"{value / 60:.0f} min"


def seeds(result: Result) -> str:
    """Over how many seeds the numbers of a claim are; a dash where nothing is drawn."""
    found = sorted({number.seeds for number in result.finding.numbers if number.seeds})
    return " or ".join(map(str, found)) or "–"


def text(results: Sequence[Result], checks: Sequence[Check], quick: bool) -> str:
    """The whole page.

    Raises:
        GraftsimError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError:
        raise GraftsimError("an HTML report needs jinja2; install it with pip install 'graftsim[report]'") from None
    source = importlib.resources.files("graftsim.experiments.reproduce") / "page.html.jinja"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found: str = environment.from_string(source.read_text("utf-8")).render(
        results=results,
        checks=checks,
        errata=errata.load(),
        counts={verdict: sum(one.finding.verdict == verdict for one in results) for verdict in Verdict},
        checked={name: sum(check.verdict == name for check in checks) for name in ("agrees", "differs", "misprint")},
        titles=TITLES,
        kinds=KINDS,
        words=WORDS,
        seeds=seeds,
        seconds=seconds,
        quick=quick,
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
        shown={check.id for check in checks},
    )
    return found


def document(results: Sequence[Result], checks: Sequence[Check], quick: bool) -> dict[str, Any]:
    """What was found, as plain values."""
    rows = []
    for one in results:
        claim = {key: value for key, value in vars(one.claim).items() if key != "ask"}
        numbers = [asdict(number) for number in one.finding.numbers]
        found = {"verdict": one.finding.verdict, "numbers": numbers, "note": one.finding.note}
        rows.append({**claim, **found, "seconds": round(one.seconds, 1), "jobs": one.jobs})
    return {
        "quick": quick,
        "claims": rows,
        "checks": [{**asdict(check), "verdict": check.verdict} for check in checks],
        "errata": [asdict(one) for one in errata.load()],
        "versions": versions(),
    }


def write(results: Sequence[Result], checks: Sequence[Check], quick: bool, path: Path) -> None:
    """Write the page."""
    page = text(results, checks, quick)
    documents.write_atomically(path, lambda file: file.write(page.encode()))
