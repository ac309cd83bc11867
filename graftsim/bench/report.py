"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

Values = Mapping[str, Any]


def tables(results: Values) -> Iterator[RenderableType]:
    """One table of times and one of ratios for each case, and the machine."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    yield f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}; {versions}"
    yield f"{results['threads']} threads, {results['seconds']:g} s a case{_load(results['load'])}"
    for case in results["cases"]:
        yield ""
        yield f"[bold]{case['group']}[/]: {escape(case['title'])}"
        yield _times(case)
        if case["ratios"]:
            yield _ratios(case)
        for remark in case["remarks"]:
            yield f"  {escape(remark)}"


def _load(load: Values) -> str:
    if load["before"] is None:
        return ""
    return f"; load average {load['before'][0]:.2f} before, {load['after'][0]:.2f} after"


def _times(case: Values) -> Table:
    table = Table("", box=None)
    for title in (f"least per {case['unit']}", "median", "first call", "off by"):
        table.add_column(title, justify="right")
    for row in case["rows"]:
        off = "" if row["difference"] is None else f"{row['difference']:.0e}"
        first = duration(row["first_call"])
        table.add_row(escape(row["name"]), duration(row["least"]), duration(row["median"]), first, off)
    for row in case["absent"]:
        table.add_row(escape(row["name"]), escape(row["why"]))
    return table


def _ratios(case: Values) -> Table:
    table = Table("ratio of times", box=None)
    for title in ("of the least", "median", "goal", ""):
        table.add_column(title, justify="right")
    for row in case["ratios"]:
        verdict = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[row["met"]]
        name = f"{row['of']} / {row['to']}"
        table.add_row(escape(name), f"{row['least']:.3g}", f"{row['median']:.3g}", row["goal"] or "", verdict)
    return table


def duration(seconds: float) -> str:
    """Three digits and a unit.

    >>> duration(0.00123)
    '1.23 ms'
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
