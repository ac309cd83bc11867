"""``graftsim show MACHINE --dialects``: what each framework calls a machine, its arguments, defaults and state."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from graftsim.errors import GraftsimError
from graftsim.machines import library
from graftsim.notation import Instance
from graftsim_conformance import dialects
from graftsim_conformance.constructors import dotted, package, packages
from graftsim_conformance.dialects import Row, Target, paths


def show(name: str) -> None:
    """Print the table of a machine, alone or in wrappers, with the notes of its dialects.

    Raises:
        GraftsimError: not the name of a machine of the library.
    """
    if not name.isidentifier():
        raise GraftsimError(f"--dialects is of one machine, by its name; received {name!r}")
    machine, console = library()[name], Console()
    found = {
        path: rows
        for path, target in dialects.targets().items()
        if (rows := [row for row in target.rows if any(each.machine.name == name for each in _chain(row.instance))])
    }
    console.print(f"[bold]{name}[/]: {escape(machine.title)}, in the words of frameworks\n", highlight=False)
    if found:
        console.print(_table(name, found))
    for path, rows in found.items():
        for line in remarks(dialects.targets()[path], rows):
            console.print(line, style="dim", highlight=False, markup=False)
    for line in _absences(name, {package(path) for path in found}):
        console.print(line, highlight=False, markup=False)


def _chain(instance: Instance) -> Iterator[Instance]:
    yield instance
    for child in instance.children.values():
        yield from _chain(child)


def _table(name: str, found: Mapping[str, Sequence[Row]]) -> Table:
    """One section a target. Of its later rows, only what its first does not have. Nothing is cut at 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for title in ("variant, options", "argument=default", "state"):
        table.add_column(title, overflow="fold")
    for path, rows in found.items():
        target = dialects.targets()[path]
        arguments, state = _arguments(target, rows[0]), _state(rows[0])
        table.add_row(Text(dotted(path), style="bold"))
        for place, row in enumerate(rows):
            table.add_row(
                Text("\n".join([_broken(row.variant), *(f"  {line}" for line in _is(name, row))])),
                _lines(_arguments(target, row), arguments if place else {}),
                _lines(_state(row), state if place else {}),
            )
        table.add_row()
    return table


def _broken(variant: str) -> str:
    """A long name on several lines, cut at underscores."""
    lines = textwrap.wrap(variant.replace("_", " "), 24)
    return "\n  _".join(line.replace(" ", "_") for line in lines)


def _lines(rows: Mapping[str, str], known: Mapping[str, str]) -> Text:
    return Text("\n".join(f"{name}{text}" for name, text in rows.items() if known.get(name) != text))


def _is(name: str, row: Row) -> Iterator[str]:
    """The machines around it, the options that the row sets, and the hyperparameters that it fixes."""
    chain = list(_chain(row.instance))
    yield from (f"in {each.machine.name}" for each in chain if each.machine.name != name)
    for each in chain:
        yield from (f"{option}={value}" for option, value in each.options.items())
    for path, value in dialects.fixed(row.instance).items():
        yield f"{path.rpartition('.')[2]}={value:g}"


def _arguments(target: Target, row: Row) -> dict[str, str]:
    """Argument to its default and, where the name is another, the hyperparameter; or to the value that it has here."""
    found = {}
    for keyword, source in row.arguments.items():
        if not paths(source):
            found[keyword] = f"={source} here"
            continue
        default = target.defaults.get(keyword)
        value = f"={tuple(default) if isinstance(default, list) else default}" if keyword in target.defaults else ""
        short = [str(each).rpartition(".")[2] for each in (source if isinstance(source, list) else [source])]
        found[keyword] = value if short == [keyword] else f"{value} is {', '.join(short)}"
    return found


def _state(row: Row) -> dict[str, str]:
    found = {}
    for slot, source in row.state.items():
        native = source.replace(".", "\n  .")  # optax's class and field, on two lines
        found[slot.rpartition(".")[2]] = f": {native}{' (float32)' if slot in row.float32 else ''}"
    return found


def remarks(target: Target, rows: Sequence[Row]) -> Iterator[str]:
    """The notes of a target, and what these rows have otherwise on some backend; each once."""
    found = list(target.notes)
    for backend in dict.fromkeys(backend for row in rows for backend in row.through_float32):
        rounded = dict.fromkeys(
            keyword
            for row in rows
            for keyword, source in row.arguments.items()
            if paths(source) & set(row.through_float32.get(backend, ()))
        )
        found.append(f"On {backend}, rounded to float32: {', '.join(rounded)}.")
    for row in rows:
        for backend, reason in row.not_expressible.items():
            found.append(f"On {backend} it is not quite this machine: {reason}.")
        if row.float32:
            names = ", ".join(row.state[slot] for slot in row.float32)
            found.append(f"Kept in float32 whatever the dtype of the weights: {names}.")
    yield from (f"{dotted(target.path)}: {note}" for note in dict.fromkeys(found))


def _absences(name: str, having: set[str]) -> Iterator[str]:
    """Packages without it, and optimizers without a row that concern it, with the reasons."""
    for each in packages():
        reasons = dialects.absent().get(each, {})
        concerned = {other: why for other, why in reasons.items() if _concerns(name, other, why)}
        yield from (f"{each}, {other}: {why}." for other, why in concerned.items())
        if each not in having and not concerned:
            yield f"{each} has none."


def _concerns(name: str, other: str, why: str) -> bool:
    words = why.replace("(", " ").replace(",", " ").split()
    return other.lower().replace("_", "") == name.replace("_", "") or name in words
