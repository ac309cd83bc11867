"""``graftsim list`` and ``graftsim show``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftsim import compiler, expressions, notation, partitions
from graftsim.machines import Choice, Equation, Library, Machine, library
from graftsim.program import Program

EXAMPLE: dict[str, tuple[int, ...]] = {"w": (2, 3), "b": (3,)}
"""The layout over which ``show`` prints the program of an expression; nothing printed depends on its sizes."""


def list_all() -> None:
    """Print the catalogue."""
    from graftsim import problems, runs
    from graftsim_conformance import dialects

    console = Console()
    machines = Table("machine", "", "children", "options", title="Machines", title_justify="left", box=None)
    for name in library().names():
        machine = library()[name]
        machines.add_row(name, machine.title, " ".join(machine.children), " ".join(machine.options))
    console.print(machines)
    for title, rows in {
        "Partitions": [escape(text) for text in partitions.NAMES.values()],
        "Problems": problems.NAMES,
        "Runs": runs.names(),
        "Targets that can be checked": list(dialects.targets()),
    }.items():
        console.print(f"\n[italic]{title}[/]")
        for row in rows:
            console.print(f"  {row}", highlight=False)


def show(text: str, machine_files: Sequence[Path]) -> None:
    """Print a machine's definition, or a composed machine's program."""
    machines = Library(machine_files) if machine_files else library()
    console = Console()
    if re.fullmatch(r"\w+", text):
        definition(machines[text], console)
        if text in library():
            dialects_of(text, console)
        if machines[text].children:
            return
    instance = notation.parse(text, machines)
    if any(row.default is None for row in instance.machine.hyperparameters.values()) and not instance.settings:
        return
    console.print(f"\n[bold]{escape(str(instance))}[/]", highlight=False)
    program(compiler.build(instance, example_layout(instance), machines=machines), console)


def source(text: str, machine_files: Sequence[Path]) -> None:
    """Print what the compiled engine runs for an expression, in float32."""
    from graftsim.compiled.lowering import lower
    from graftsim.compiled.source import Source

    machines = Library(machine_files) if machine_files else library()
    instance = notation.parse(text, machines)
    lowered = lower(compiler.build(instance, example_layout(instance), "float32", machines))
    print(f"# {instance}\n#")
    for level, (read, written) in enumerate(lowered.words()):
        print(f"# pass {level} reads {read} and writes {written} words for each coordinate")
    print(f"\n{Source(lowered).text}")


def example_layout(instance: notation.Instance) -> dict[str, tuple[int, ...]]:
    """A layout that fits an instance: one tensor where it has values for each coordinate."""
    lists = any(isinstance(value, list) for value in instance.settings.values())
    inner = any(len(example_layout(child)) == 1 for child in instance.children.values())
    return {"w": EXAMPLE["w"]} if lists or inner else EXAMPLE


def definition(machine: Machine, console: Console) -> None:
    """The file of a machine, for people."""
    console.print(f"[bold]{machine.name}[/]: {escape(machine.title)}", highlight=False)
    console.print(f"[dim]{escape(machine.source)}[/]", highlight=False)
    if machine.children:
        console.print(f"\nchildren: {', '.join(machine.children)}", highlight=False)
        for child, inputs in machine.inputs.items():
            for name, expression in inputs.items():
                console.print(f"  {child} sees {name} = {expressions.unparse(expression)}", highlight=False)
    if machine.partition:
        console.print(f"\npartition: {machine.partition} unless another is given", highlight=False)
    if machine.hyperparameters:
        table = Table("hyperparameter", "default", "domain", "", box=None)
        for row in machine.hyperparameters.values():
            default = "required" if row.default is None else f"{row.default:g}"
            domain = row.domain.text + (", schedulable" if row.schedulable else "")
            table.add_row(row.name, default, escape(domain), escape(row.about))
        console.print("", table)
    if machine.options:
        table = Table("option", "values, the default first", box=None)
        for name, values in machine.options.items():
            table.add_row(name, ", ".join(values))
        console.print("", table)
    if machine.state:
        table = Table("state", "kind", "initially", "", box=None)
        for slot in machine.state.values():
            table.add_row(slot.name, slot.kind, expressions.unparse(slot.initial), escape(slot.about))
        console.print("", table)
    console.print("\nstep")
    for line in equations(machine.step, "  "):
        console.print(line, highlight=False, markup=False)
    for note in machine.notes:
        console.print(f"\n[dim]{escape(note)}[/]", highlight=False)


def equations(step: Sequence[Equation | Choice], indent: str) -> Iterator[str]:
    """The equations as text, choices as indented cases."""
    for item in step:
        if isinstance(item, Equation):
            yield f"{indent}{item.text}"
        else:
            for value, rows in item.cases.items():
                yield f"{indent}if {item.option} is {value}:"
                yield from equations(rows, indent + "    ")


def dialects_of(name: str, console: Console) -> None:
    """The frameworks whose optimizers are this machine under some options."""
    from graftsim_conformance import dialects

    table = Table("dialect", "is", box=None)
    for row in dialects.rows():
        if re.search(rf"\b{name}\b", row.machine):
            table.add_row(f"{row.target} {row.variant}", escape(row.machine))
    if table.row_count:
        console.print("", table)


def program(found: Program, console: Console) -> None:
    """The flattened program, level by level."""
    console.print(f"{found.depth} exchange(s) a step", highlight=False)
    for level, (statements, reductions) in enumerate(found.by_level):
        table = Table("", "kind", "equation", title=f"level {level}", title_justify="left", box=None, show_header=False)
        for statement in statements:
            table.add_row(statement.target, str(found.kinds[statement.target]), escape(statement.text))
        for reduction in reductions:
            table.add_row(reduction.target, f"over {reduction.partition.key}", escape(reduction.text), style="bold")
        if table.row_count:
            console.print(table)
    if found.slots:
        state = ", ".join(f"{path} ({slot.kind.rank.name.lower()})" for path, slot in found.slots.items())
        console.print(f"state: {state}", highlight=False)
