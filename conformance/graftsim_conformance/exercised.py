"""The rules of the spec that a program exercises, read off its operators, kinds and state.

A case tests these beside the rules that its edge is there for.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftsim.notation import Instance
from graftsim.program import Kind, Node, Program, Rank

ALWAYS = (
    "GS-language-machine",
    "GS-language-deterministic",
    "GS-language-output",
    "GS-language-assignment",
    "GS-language-precedence",
    "GS-language-option",
    "GS-language-hyperparameter",
    "GS-arithmetic-coordinate",
    "GS-arithmetic-update",
    "GS-arithmetic-written-order",
    "GS-partition-order",
)
"""What the step of any machine is made by."""

OPERATORS: dict[str, tuple[str, ...]] = {
    "where": ("GS-arithmetic-where", "GS-arithmetic-comparison", "GS-language-comparison"),
    "max": ("GS-arithmetic-max",),
    "min": ("GS-arithmetic-max",),
    "sign": ("GS-arithmetic-sign",),
    "quotient": ("GS-arithmetic-quotient",),
    "mul_wide": ("GS-arithmetic-group-times-coordinate",),
    "div_wide": ("GS-arithmetic-group-times-coordinate",),
    "quotient_wide": ("GS-arithmetic-group-times-coordinate", "GS-arithmetic-quotient"),
    "pow": ("GS-scalar-power", "GS-scalar-correctly-rounded", "GS-language-scalar-functions"),
    "one_minus_pow": ("GS-scalar-one-minus-power", "GS-scalar-correctly-rounded", "GS-language-scalar-functions"),
    "exp": ("GS-scalar-correctly-rounded",),
    "cospi": ("GS-scalar-cospi",),
    "rpow": ("GS-scalar-real-power",),
    "floordiv": ("GS-scalar-floor",),
    "lift": ("GS-language-refinement",),
}

REDUCTIONS: dict[str, tuple[str, ...]] = {"norm": ("GS-norm",), "sum": ("GS-sum",), "dot": ("GS-sum",)}

MACHINES: dict[str, tuple[str, ...]] = {
    "graft": (
        "GS-graft-definition",
        "GS-graft-order",
        "GS-graft-same-inputs",
        "GS-graft-independent",
        "GS-graft-ratio-first",
        "GS-graft-recorded-ratio",
        "GS-graft-scale",
        "GS-graft-partition",
        "GS-graft-dtype",
        "GS-graft-no-warm-up",
        "GS-graft-no-clipping",
        "GS-erratum-ascent-sign",
    ),
    "adagrad": ("GS-erratum-inclusive-accumulator",),
    "in_place": ("GS-graft-black-box",),
    "decay_in_gradient": ("GS-graft-decay", "GS-language-inputs"),
    "decay_decoupled": ("GS-graft-decay",),
    "decay_outside": ("GS-graft-decay",),
}

PARTITIONS: dict[str, str] = {
    "global": "GS-partition-global",
    "tensor": "GS-partition-tensor",
    "coordinate": "GS-partition-coordinate",
    "row": "GS-partition-row",
    "axis": "GS-partition-axis",
    "block": "GS-partition-block",
    "pattern": "GS-partition-pattern",
    "sets": "GS-partition-sets",
}


def rules(program: Program) -> set[str]:
    """The rules that decide some value of a step of the program."""
    found = {*ALWAYS, *_of_instance(program.instance), *of_partitions(program.instance)}
    nodes = [statement.node for statement in program.statements]
    nodes += [operand for reduction in program.reductions for operand in reduction.operands]
    for node in (part for each in nodes for part in each.walk()):
        found.update(OPERATORS.get(node.operator, ()), _of_mixture(node))
    for reduction in program.reductions:
        found.update(REDUCTIONS[reduction.operator], ("GS-language-reduction-points", "GS-sum-invariance"))
        found.add("GS-language-levels" if reduction.level else "GS-sum-empty")
    for slot in program.slots.values():
        found.update(_of_slot(slot.kind, slot.counter), ("GS-language-option-state",))
    found.update(["GS-language-info", "GS-trajectory-info"] if program.info else [])
    return found


def of_partitions(instance: Instance) -> Iterator[str]:
    """The rules of the partitions that the machine and its children take norms over."""
    if instance.partition:
        yield PARTITIONS.get(instance.partition.partition("(")[0], "GS-partition")
    for child in instance.children.values():
        yield from of_partitions(child)


def of_wrappers(instance: Instance) -> Iterator[str]:
    """The rules of the machines of which there is one for a purpose, such as the forms of weight decay."""
    yield from MACHINES.get(instance.machine.name, ()) if len(instance.children) == 1 else ()
    for child in instance.children.values():
        yield from of_wrappers(child)


def _of_instance(instance: Instance) -> Iterator[str]:
    machine = instance.machine
    yield from MACHINES.get(machine.name, ())
    if machine.children:
        yield from ("GS-language-children", "GS-language-child-read", "GS-language-flatten")
    if len(machine.children) == 1:
        yield from ("GS-language-wrapper", "GS-graft-position")
    for child in instance.children.values():
        yield from _of_instance(child)


def _of_mixture(node: Node) -> Iterator[str]:
    """Where a value meets one of a wider kind."""
    if node.operator in ("round", "widen"):
        yield "GS-language-kind-conversion"
        scalar = node.arguments[0].kind.rank is Rank.SCALAR
        if node.operator == "round":
            yield "GS-arithmetic-scalar-meets-coordinate" if scalar else "GS-arithmetic-group-elsewhere"
    elif node.kind.rank < Rank.COORDINATE and node.arguments:
        yield "GS-arithmetic-scalar"


def _of_slot(kind: Kind, counter: bool) -> Iterator[str]:
    yield from ("GS-language-state-kinds", "GS-language-kinds", "GS-language-initial")
    if counter:
        yield from ("GS-language-counter", "GS-language-two-clocks")
