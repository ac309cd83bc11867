"""``graftsim list`` and ``graftsim show``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graftsim import compiler, expressions, notation, partitions, schedules
from graftsim.engine import Engine
from graftsim.expressions import Expression
from graftsim.machines import Choice, Equation, Fork, Library, Machine, Step, library
from graftsim.program import Program
from graftsim.schedules import Schedule

EXAMPLE: dict[str, tuple[int, ...]] = {"w": (2, 3), "b": (3,)}
"""The layout over which ``show`` prints the program of an expression; nothing printed depends on its sizes."""


def list_all() -> None:
    """Print the catalogue."""
    from graftsim import problems, runs
    from graftsim.experiments.search import spaces
    from graftsim_conformance import dialects

    console = Console()
    machines = Table("machine", "", "children", "options", title="Machines", title_justify="left", box=None)
    for name in library().names():
        machine = library()[name]
        machines.add_row(name, machine.title, " ".join(machine.children), " ".join(machine.options))
    console.print(machines)
    known = Table("schedule", "", "arguments", title="\nSchedules", title_justify="left", box=None)
    for schedule in schedules.library().values():
        known.add_row(schedule.name, escape(schedule.title), " ".join(schedule.arguments))
    console.print(known)
    for title, rows in {
        "Partitions": [escape(text) for text in partitions.NAMES.values()],
        "Problems": problems.NAMES,
        "Runs": runs.names(),
        "Search spaces": spaces.names(),
        "Targets that can be checked": list(dialects.targets()),
    }.items():
        console.print(f"\n[italic]{title}[/]")
        for row in rows:
            console.print(f"  {row}", highlight=False)


def show(text: str, machine_files: Sequence[Path]) -> None:
    """Print a machine's definition, a composed machine's program, or a schedule and its first values."""
    machines = Library(machine_files) if machine_files else library()
    console = Console()
    name = re.match(r"\w*", text.strip())[0]  # type: ignore[index]
    if name in schedules.library() and name not in machines:
        if name == text.strip():
            schedule_definition(schedules.library()[name], console)
        else:
            schedule_values(text.strip(), FIRST_STEPS, console)
        return
    if re.fullmatch(r"\w+", text):
        definition(machines[text], console)
        if text in library():
            dialects_of(text, console)
        if None in machines[text].children.values():
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
    print(f"\n{Source(lowered).text()}")


def schedule_definition(schedule: Schedule, console: Console) -> None:
    """The file of a schedule, for people, and the values of its examples."""
    console.print(f"[bold]{schedule.name}[/]: {escape(schedule.title)}", highlight=False)
    console.print(f"[dim]{escape(schedule.source)}[/]", highlight=False)
    table = Table("argument", "default", "domain", "", box=None)
    for name, row in schedule.arguments.items():
        default = "required" if row.default is None else f"{row.default:g}"
        table.add_row(name, default, escape(row.domain.text) + (", integer" if row.integer else ""), escape(row.about))
    console.print("", table, "")
    for target, text in {**schedule.let, "value": schedule.value}.items():
        console.print(f"  {target} = {text}", highlight=False, markup=False)
    for note in schedule.notes:
        console.print(f"\n[dim]{escape(note)}[/]", highlight=False)
    for example in schedule.examples:
        console.print()
        schedule_values(example.call, sorted({*FIRST_STEPS, *(step for step, _ in example.values)}), console)


FIRST_STEPS = range(1, 9)


def schedule_values(text: str, steps: Iterable[int], console: Console) -> None:
    """The expression that a schedule stands for, and its values as every engine computes them."""
    found = compiler.build(f"scaled(sgd, factor={text})", {"w": (1,)})
    engine, node = Engine(found), found.parameter("factor").node
    console.print(f"[bold]{escape(text)}[/]", highlight=False)
    console.print(f"  = {expressions.unparse(_factor(found))}", highlight=False, markup=False, soft_wrap=True)
    table = Table("step", "value", box=None)
    for step in steps:
        with np.errstate(all="ignore"):
            table.add_row(str(step), repr(float(engine.scalar(node, step).reshape(-1)[0])))
    console.print(table)


def _factor(found: Program) -> Expression:
    setting = found.instance.settings["factor"]
    assert not isinstance(setting, Mapping | list)
    return setting


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


def equations(step: Sequence[Step], indent: str) -> Iterator[str]:
    """The equations as text, choices and forks as indented cases."""
    for item in step:
        match item:
            case Equation():
                yield f"{indent}{item.text}"
            case Choice(option, cases):
                for value, rows in cases.items():
                    yield f"{indent}if {option} is {value}:"
                    yield from equations(rows, indent + "    ")
            case Fork(condition, then, otherwise):
                for head, rows in (
                    (f"for tensors with {expressions.unparse(condition)}:", then),
                    ("others:", otherwise),
                ):
                    yield f"{indent}{head}"
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
