"""``graftsim record`` and ``fit``: from a graft to corrections for its direction."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from graftsim import documents
from graftsim.cli import experimenting as common
from graftsim.cli import pipes, progress
from graftsim.cli.options import Outputs
from graftsim.corrections import Corrections
from graftsim.errors import GraftsimError
from graftsim.experiments.discovery import finding, flags, recording, series
from graftsim.experiments.discovery.finding import Choice, Findings, Group
from graftsim.machines import Library
from graftsim.runs import Run


def record(run: Run, out: str | None, machine_files: Sequence[Path]) -> None:
    """Run a graft and save what discovery asks for."""
    place = pipes.binary_out(out)
    machines = Library(machine_files) if machine_files else None
    with progress.shown("steps", run.steps) as tell:
        found = recording.record(
            *(run.problem, run.machine, run.steps, run.seed, run.dtype, run.record_every, run.keep_every),
            progress=tell,
            machines=machines,
        )
    console = Console(stderr=place == pipes.STANDARD)
    groups = len(found.meta.groups[flags.NORM])
    line = f"{common.brief(found.meta.machine)}, {found.steps[-1]} steps, {groups} groups, loss {found.loss[-1]:.4g}"
    console.print(escape(line), highlight=False, soft_wrap=True)
    pipes.save(found, place, console)
    if not found.meta.complete:
        raise KeyboardInterrupt


def fit(
    source: str,
    first: int | None,
    since: int | None,
    path: str | None,
    partition: str | None,
    choice: Choice,
    scale: float,
    width: int,
    out: str | None,
    outputs: Outputs,
) -> None:
    """Find corrections in a recording, print them with what they rest on, and write them where it was asked for."""
    common.check(outputs)
    place, console = pipes.text_out(out)
    run = pipes.recording(source)
    at = recording.path_of(run, path)
    whole = series.of(run, at)
    found = finding.find(run, first, since, at, recording.partition_of(run, whole, at, partition))
    try:
        chosen = dataclasses.replace(finding.choose(found, choice), scale=scale)
    except GraftsimError:
        report(found, None, choice, console)  # the table says why
        raise
    report(found, chosen, choice, console)
    if place == pipes.STANDARD:
        sys.stdout.write(finding.saved(chosen))
    elif place is not None:
        text = finding.saved(chosen).encode()
        documents.write_atomically(Path(place), lambda file: file.write(text))
        console.print(f"saved {place}", highlight=False, soft_wrap=True)
    from graftsim.experiments.discovery import pictures

    common.end(
        outputs, console, document(found, chosen), lambda path: pictures.ratio_curves(whole, chosen, path, width)
    )


def report(found: Findings, chosen: Corrections | None, choice: Choice, console: Console) -> None:
    """What was looked at, a row for each group, and all groups together."""
    origin = found.origin
    machine = common.brief(str(origin["machine"])) or "a graft that the recording does not name"
    console.print(f"[bold]{escape(machine)}[/]", highlight=False, soft_wrap=True)
    console.print(
        escape(f"{origin['problem']}, seed {origin['seed']}, the first {origin['steps']} steps"),
        highlight=False,
        soft_wrap=True,
    )
    _print_whole(console, _table(found, chosen, choice))
    whole = found.together
    lines = [f"all groups together: median {whole.median:.4g}"]
    for name, fit in (("line", whole.line), ("power", whole.power)):
        if fit is not None:
            of = " of the logarithms" if name == "power" else ""
            lines.append(f"  {name}: {fit.factor}, R2 {fit.r2:.4f}, residual {fit.residual:.3g}{of}")
    if len(found.groups) > 1:
        lines.append(f"medians are spread over {found.spread:.2f} orders of magnitude")
        if found.spread_without_null != found.spread:
            lines[-1] += f", {found.spread_without_null:.2f} without null gradients"
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)


def _table(found: Findings, chosen: Corrections | None, choice: Choice) -> Table:
    fitted = choice.form != "constant"
    table = common.table("group", "median", "steps", "NaN", *(["R2", "residual"] if fitted else []), "factor", "")
    for group in found.groups:
        fit = {"line": group.line, "power": group.power}.get(choice.form)
        cells = [group.name, f"{group.median:.4g}", str(group.used), str(group.missing)]
        if fitted:
            cells += [f"{fit.r2:.4f}", f"{fit.residual:.3g}"] if fit else ["", ""]
        factor = chosen.factors.get(group.name) if chosen else None
        table.add_row(*map(escape, [*cells, "" if factor is None else str(factor), ", ".join(said(group))]))
    return table


def _print_whole(console: Console, table: Table) -> None:
    """As wide as it is: a narrow terminal breaks its lines, and no number is cut short."""
    width = Measurement.get(console, console.options.update(width=10_000), table).maximum
    width = max(width, console.width)
    Console(file=console.file, width=width, force_terminal=console.is_terminal).print(table)


def said(group: Group) -> list[str]:
    """The flags of a group, with the numbers that they rest on."""
    found = list(group.flags)
    if group.null and group.share is not None:
        found[found.index("null gradient")] = f"null gradient ({group.share:.0e})"
    if group.growth is not None and group.growth.exponential:
        found[found.index("grows exponentially")] = f"grows exponentially ({group.growth.factor:.2g}-fold)"
    return found


def document(found: Findings, chosen: Corrections) -> dict[str, Any]:
    """The findings as plain values."""

    def group(one: Group) -> dict[str, Any]:
        return {**dataclasses.asdict(one), "flags": list(one.flags)}

    return {
        "origin": dict(found.origin),
        "partition": found.partition,
        "groups": [group(one) for one in found.groups],
        "together": group(found.together),
        "spread": found.spread,
        "spread_without_null": found.spread_without_null,
        "factors": {name: factor.document() for name, factor in chosen.factors.items()},
    }


def fixed(texts: Sequence[str]) -> Mapping[str, float]:
    """``["*k_bias=0"]`` as a mapping.

    Raises:
        GraftsimError: not a pattern, ``=`` and a number that is at least 0.
    """
    found = {}
    for text in texts:
        pattern, _, value = text.rpartition("=")
        try:
            found[pattern] = float(value)
        except ValueError:
            pattern = ""
        if not pattern or not 0 <= found[pattern] < float("inf"):
            raise GraftsimError(f"--fix must be PATTERN=NUMBER, a number that is at least 0; received {text!r}")
    return found
