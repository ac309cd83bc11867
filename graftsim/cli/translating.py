"""``graftsim translate``."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from graftsim.cli import dialect_table
from graftsim_conformance import translate as translating
from graftsim_conformance.carrying import expression
from graftsim_conformance.difference import STREAMS
from graftsim_conformance.search import Match
from graftsim_conformance.translate import Translation, lack


def translate(text: str, to: str) -> int:
    """Print a translation; 0 if it is equivalent, 1 if nothing is."""
    console = Console()
    with Console(stderr=True).status("running both on the probes"):
        found = translating.translate(text, to)
    if to == translating.SPEC:
        _line(console, found.source.text if not found.source.reading else expression(found.source.instance))
        return 0
    _line(console, found.source.text, "bold")
    if found.source.reading:
        _line(console, f"  is {expression(found.source.instance)}")
    console.print()
    _verdict(console, found)
    for line in _remarks(found):
        console.print(line, style="dim", highlight=False, markup=False)
    return 0 if found.equivalent else 1


def _verdict(console: Console, found: Translation) -> None:
    if not found.matches:
        _line(console, f"{found.to} has no grafts: translate the two sides, and graft them with an adapter", "bold red")
        return
    first, *others = found.matches
    if found.equivalent:
        _line(console, str(first), "bold green")
        _line(console, f"  is {expression(first.instance)}")
        _line(console, f"  equivalent{_with(first)}: {_apart_briefly(first)}")
        if first.at_changing_rate and not first.at_changing_rate.same:
            worst = max(first.at_changing_rate.distances.values())
            _line(console, f"  only while the learning rate stays as it is: after changes of it {worst:.1e} of a step")
        for match in others:
            _line(console, f"also {match}")
        return
    _line(console, f"{lack(found)}; the nearest is", "bold red")
    for match in found.matches:
        _line(console, str(match), "bold" if match is first else "")
        if match is first:
            _line(console, f"  is {expression(match.instance)}")
        _apart(console, match)
    if found.reasons:
        _line(console, f"because {'; '.join(found.reasons)}")


def _with(match: Match) -> str:
    return f", with {match.rewritten}" if match.rewritten else ""


def _apart_briefly(match: Match) -> str:
    worst = max(match.difference.distances.values())
    return "no difference on any probe" if worst == 0 else f"on the probes {worst:.1e} of a step, which is rounding"


def _apart(console: Console, match: Match) -> None:
    how = f"with {match.rewritten}" if match.rewritten else "with the same numbers"
    _line(console, f"  {how}, the weights are apart by, in steps,")
    for name, distance in match.difference.distances.items():
        _line(console, f"    {distance:.1e}  {STREAMS[name]} (probe {name})")


def _remarks(found: Translation) -> Iterator[str]:
    """What the dialects say of the optimizers and of the backends."""
    readings = [found.source.reading] if found.source.reading else []
    readings += [match.reading for match in found.matches[:1]]
    for reading in readings:
        yield from dialect_table.remarks(reading.constructor.target, [reading.row])


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style or None, highlight=False, markup=False, soft_wrap=True)
