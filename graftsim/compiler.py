"""From an instance to a program: flatten children, infer kinds, resolve options, find levels.

The rules that this file carries out are those of ``spec/language.md``; ids of rules stand where they act.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graftsim import expressions, notation, partitions
from graftsim.errors import GraftsimError, nearest
from graftsim.expressions import COMPARISONS, MATRICES, REDUCTIONS, Apply, Expression, Name, Number
from graftsim.layouts import Layout
from graftsim.machines import TENSOR_CONSTANTS, Library
from graftsim.notation import Instance
from graftsim.partitions import Partition
from graftsim.program import (
    Kind,
    Node,
    Parameter,
    Program,
    Rank,
    Reduction,
    Statement,
    StateSlot,
    blocks,
    tensor_constant,
)

DTYPES = ("float32", "float64")
OF_SCALARS = ("pow", "one_minus_pow", "exp", "cospi", "rpow", "floordiv")
OF_INTEGERS = {"pow": (1,), "one_minus_pow": (1,), "cospi": (0, 1), "floordiv": (0, 1)}
WIDE = ("mul", "div", "quotient")
COORDINATES = (("rows", "cols"), ("size", "1"), ("1", "size"))
"""Shapes of matrices whose numbers lie as the coordinates do."""


def build(
    machine: str | Instance,
    layout: Layout | Mapping[str, Any],
    dtype: Any = "float64",
    machines: Library | None = None,
) -> Program:
    """Build the program of a machine over a layout.

    Args:
        machine: an expression such as ``"adam(lr=1e-3)#sgd"``, or what :func:`notation.parse` made of one.
        layout: a :class:`Layout`, or a mapping of tensor names to shapes.
        dtype: the dtype of weights, gradients and coordinate state: float32 or float64.
        machines: the library of machines; the spec's by default.

    Raises:
        GraftsimError: any mistake in the expression, the machines or the partition; one line.
    """
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind.name not in DTYPES:
        raise GraftsimError(f"dtype must be {' or '.join(DTYPES)}; received {dtype}")
    layout = layout if isinstance(layout, Layout) else Layout.of(layout)
    instance = machine if isinstance(machine, Instance) else notation.parse(machine, machines)
    return _Compiler(layout, kind).program(instance)


@dataclass
class _Scope:
    """What names mean inside one machine of the program: local name to the program's name."""

    instance: Instance
    prefix: str
    names: dict[str, str]
    partition: Partition


class _Compiler:
    def __init__(self, layout: Layout, dtype: np.dtype[Any]) -> None:
        self.layout, self.dtype = layout, dtype
        self.run = partitions.whole(layout)
        self.tensor = partitions.by_tensor(layout)
        self.built = {"global": self.run, "tensor": self.tensor}
        self.scalar, self.coordinate = Kind(Rank.SCALAR, self.run), Kind(Rank.COORDINATE, self.run)
        self.kinds = {"step": self.scalar, "w": self.coordinate, "g": self.coordinate}
        self.levels = {"step": 0, "w": 0, "g": 0}
        self.integral = {"step"}
        self.parameters: dict[str, Parameter] = {}
        self.slots: dict[str, StateSlot] = {}
        self.statements: list[Statement] = []
        self.reductions: list[Reduction] = []
        self.info: dict[str, str] = {}

    def program(self, instance: Instance) -> Program:
        scope = self.opened(instance, "")
        self.machine(scope, {"w": "w", "g": "g"})
        return Program(
            instance, self.layout, self.dtype, self.parameters, self.slots, tuple(self.statements),
            tuple(self.reductions), self.info, scope.names["delta"], self.kinds, self.levels,
        )  # fmt: skip

    # -- one machine ---------------------------------------------------------------------------------------------

    def opened(self, instance: Instance, prefix: str) -> _Scope:
        """A machine with its hyperparameters declared, which its parent may read before anything is computed."""
        scope = _Scope(instance, prefix, {"step": "step"}, self.partition(instance.partition or "tensor"))
        for name in instance.machine.hyperparameters:
            scope.names[name] = self.hyperparameter(name, scope)
        return scope

    def machine(self, scope: _Scope, inputs: dict[str, str]) -> None:
        """Append a machine's equations, its children's first (GS-language-flatten)."""
        instance, prefix, names = scope.instance, scope.prefix, scope.names
        names |= inputs
        options = {name: instance.option(name) for name in instance.machine.options}
        equations = instance.machine.equations(options)
        touched = {
            name for equation in equations for name in (equation.target, *expressions.names(equation.expression))
        }
        slots = [name for name in instance.machine.state if name in touched]  # the others do not exist
        for name in slots:
            names[name] = self.declare(prefix + name, self.slot_kind(name, scope))
            if instance.machine.state[name].kind == "counter":
                self.integral.add(names[name])
        for child, child_instance in instance.children.items():
            child_scope = self.opened(child_instance, f"{prefix}{child}.")
            names |= {f"{child}.{name}": child_scope.names[name] for name in child_instance.machine.hyperparameters}
            self.machine(child_scope, self.child_inputs(child, scope))
            names[f"{child}.delta"] = child_scope.names["delta"]
        for equation in equations:
            place = f"{instance.machine.path or instance.machine.name}, {equation.text!r}"
            names[equation.target] = self.equation(equation.target, equation.expression, scope, place, equation.text)
        for name in slots:
            self.slot(name, scope, options.get("missing") == "advance")
        for name in instance.machine.info:
            if self.kinds[names[name]].rank is Rank.MATRIX:
                raise GraftsimError(f"{instance.machine.name}: info must not be a matrix; {name} is")
            self.info[prefix + name] = names[name]

    def child_inputs(self, child: str, scope: _Scope) -> dict[str, str]:
        """A child sees the machine's own w and g unless the machine sets them (GS-language-inputs)."""
        inputs = {name: scope.names[name] for name in ("w", "g")}
        for name, expression in scope.instance.machine.inputs.get(child, {}).items():
            place = f"{scope.instance.machine.name}, inputs of {child}"
            text = f"{child}.{name} = {expressions.unparse(expression)}"
            node = self.convert(self.typed(expression, scope, place), self.coordinate)
            inputs[name] = self.state_statement(f"{scope.prefix}{child}.{name}", node, text)
        return inputs

    def equation(self, target: str, expression: Expression, scope: _Scope, place: str, text: str) -> str:
        state = scope.instance.machine.state.get(target)
        unique = scope.prefix + target + ("'" if state else "")
        if isinstance(expression, Apply) and expression.operator in REDUCTIONS and not state:
            return self.reduce(unique, expression, scope, place, text)
        node = self.typed(expression, scope, place)
        if node.operator in COMPARISONS:
            raise GraftsimError(f"{place}: a comparison can only be the first argument of 'where'")
        wanted = self.slot_kind(target, scope) if state else self.coordinate if target == "delta" else node.kind
        if state and state.kind == "counter" and not self.is_integral(node):
            raise GraftsimError(f"{place}: kind mismatch: a counter must be made of counters and integers by + and -")
        if not self.converts(node.kind, wanted):
            raise GraftsimError(f"{place}: kind mismatch: {target} is {wanted}, the right-hand side is {node.kind}")
        return self.state_statement(unique, self.convert(node, wanted), text)

    def state_statement(self, target: str, node: Node, text: str) -> str:
        level = max((self.levels[name] for name in node.reads()), default=0)
        self.statements.append(Statement(target, node, level, text))
        if self.is_integral(node):
            self.integral.add(target)
        return self.declare(target, node.kind, level)

    def declare(self, name: str, kind: Kind, level: int = 0) -> str:
        self.kinds[name], self.levels[name] = kind, level
        return name

    def slot_kind(self, name: str, scope: _Scope) -> Kind:
        """Counters and scalars live on a tensor's clock (GS-language-two-clocks)."""
        slot = scope.instance.machine.state[name]
        match slot.kind:
            case "coordinate":
                return self.coordinate
            case "group":
                return Kind(Rank.GROUP, self.partition(slot.over) if slot.over else scope.partition)
            case "matrix":
                return self.matrix(slot.shape, f"{scope.instance.machine.name}, state {name}")
        return Kind(Rank.SCALAR, self.tensor)

    def slot(self, name: str, scope: _Scope, advance_missing: bool) -> None:
        row, path = scope.instance.machine.state[name], scope.prefix + name
        place = f"{scope.instance.machine.name}, initial value of {name}"
        initial, kind = self.typed(row.initial, scope, place), self.kinds[path]
        if row.kind == "counter" and not self.is_integral(initial):
            raise GraftsimError(f"{place}: a counter must begin with an integer")
        if not self.converts(initial.kind, kind):
            raise GraftsimError(f"{place}: kind mismatch: {name} is {kind}, its initial value is {initial.kind}")
        counter = row.kind == "counter"
        self.slots[path] = StateSlot(
            path, kind, counter, self.convert(initial, kind), path, scope.names[name], counter and advance_missing
        )

    def partition(self, text: str) -> Partition:
        if text not in self.built:
            self.built[text] = partitions.build(text, self.layout)
        return self.built[text]

    # -- hyperparameters -----------------------------------------------------------------------------------------

    def hyperparameter(self, name: str, scope: _Scope) -> str:
        machine, path = scope.instance.machine, scope.prefix + name
        setting = scope.instance.setting(name)
        if setting is None:
            raise GraftsimError(f"{machine.name} needs a value of {name}: {machine.name}({name}=...)")
        if isinstance(setting, Mapping | list):
            node = self.table(setting, scope, f"{machine.name}, {name}")
            odd = next((one for one in node.data.tolist() if one not in machine.hyperparameters[name].domain), None)
            if odd is not None:
                domain = machine.hyperparameters[name].domain.text
                raise GraftsimError(f"{machine.name}, {name}: must lie in {domain}; a value is {odd:g} in {self.dtype}")
        else:
            node = self.typed(setting, _Scope(scope.instance, "", {"step": "step"}, scope.partition), name)
        self.parameters[path] = Parameter(path, node, machine.hyperparameters[name].domain)
        return self.declare(path, node.kind)

    def table(self, setting: Mapping[str, Any] | list[Any], scope: _Scope, place: str) -> Node:
        """A value per group, or per coordinate (GS-language-hyperparameter-kinds)."""
        if isinstance(setting, Mapping) and not any(isinstance(value, list) for value in setting.values()):
            known = set(scope.partition.names)
            if set(setting) != known:
                odd = sorted(known.symmetric_difference(setting))[0]
                raise GraftsimError(f"{place}: there must be one value for each group; {odd!r} differs")
            values = np.array([float(setting[group]) for group in scope.partition.names])
            return Node("constant", (), Kind(Rank.GROUP, scope.partition), values)
        if isinstance(setting, list):
            if len(self.layout.tensors) != 1:
                raise GraftsimError(f"{place}: with several tensors, give {{'tensor': [values], ...}}")
            setting = {self.layout.names[0]: setting}
        if set(setting) != set(self.layout.names):
            odd = sorted(set(self.layout.names).symmetric_difference(setting))[0]
            raise GraftsimError(f"{place}: there must be values for each tensor; {odd!r} differs")
        try:
            arrays = [np.array(setting[tensor], np.float64) for tensor in self.layout.names]
        except (ValueError, OverflowError):
            raise GraftsimError(f"{place}: the values must be nested lists of the tensor's shape") from None
        flat = self.layout.flatten(arrays, np.float64)
        with np.errstate(over="ignore"):
            return Node("constant", (), self.coordinate, flat.astype(self.dtype))

    # -- expressions ---------------------------------------------------------------------------------------------

    def typed(self, expression: Expression, scope: _Scope, place: str) -> Node:
        """The node of an expression; a reduction inside it becomes a statement of its own."""
        match expression:
            case Number(value):
                return Node("number", (), self.scalar, value)
            case Name(path) if path in scope.names:
                return Node("read", (), self.kinds[scope.names[path]], scope.names[path])
            case Name(path) if path in TENSOR_CONSTANTS:
                return Node("constant", (), Kind(Rank.GROUP, self.tensor), self.tensor_constant(path))
            case Name(path):
                raise GraftsimError(f"{place}: unknown name {path!r}{nearest(path, scope.names)}")
            case Apply(operator, _) if operator in REDUCTIONS:
                name = self.reduce(f"{scope.prefix}{operator}_{len(self.reductions)}", expression, scope, place, "")
                return Node("read", (), self.kinds[name], name)
            case Apply("identity", (Name(n),)) if n in TENSOR_CONSTANTS[1:]:
                return self.identity(n, place)
            case Apply(operator, arguments):
                nodes = [self.typed(argument, scope, place) for argument in arguments]
                return self.applied(operator, nodes, f"{place}: {expressions.unparse(expression)}")
        raise AssertionError(expression)

    def applied(self, operator: str, nodes: list[Node], place: str) -> Node:
        for position, node in enumerate(nodes):
            if (node.operator in COMPARISONS) != (operator == "where" and position == 0):
                raise GraftsimError(
                    f"{place}: kind mismatch: 'where' needs a comparison first, and nothing else takes one"
                )
        if operator in OF_SCALARS and any(node.kind.rank is not Rank.SCALAR for node in nodes):
            raise GraftsimError(f"{place}: kind mismatch: it takes scalars only; write x * x for a square")
        for position in OF_INTEGERS.get(operator, ()):
            if not self.is_integral(nodes[position]):
                what = "the exponent" if position == 1 and "pow" in operator else "its arguments"
                raise GraftsimError(f"{place}: kind mismatch: {what} must be made of counters and integers")
        if operator == "floordiv" and (nodes[1].operator != "number" or nodes[1].data <= 0):
            raise GraftsimError(f"{place}: what stands after // must be an integer literal above 0")
        if operator in MATRICES:
            return self.matrix_applied(operator, nodes, place)
        nodes = self.alike(nodes, place)
        kind = self.join([node.kind for node in nodes])
        ranks = {node.kind.rank for node in nodes}
        if operator in WIDE and ranks == {Rank.GROUP, Rank.COORDINATE}:
            return Node(f"{operator}_wide", tuple(self.widen(node) for node in nodes), kind)
        return Node(operator, tuple(self.convert(node, kind) for node in nodes), kind)

    def reduce(self, target: str, expression: Apply, scope: _Scope, place: str, text: str) -> str:
        operands = tuple(
            self.convert(self.typed(argument, scope, place), self.coordinate) for argument in expression.arguments
        )
        partition = self.partition(expression.over) if expression.over else scope.partition
        level = max((self.levels[name] for operand in operands for name in operand.reads()), default=0)
        text = text or f"{target} = {expressions.unparse(expression)}"
        self.reductions.append(Reduction(target, expression.operator, operands, partition, level, text))
        return self.declare(target, Kind(Rank.GROUP, partition), level + 1)

    def tensor_constant(self, name: str) -> Any:
        return np.array([tensor_constant(name, shape) for shape in self.layout.shapes], np.float64)

    # -- matrices ------------------------------------------------------------------------------------------------

    def matrix(self, shape: tuple[str, ...], place: str) -> Kind:
        for name, sizes in self.layout.tensors:
            if len(sizes) > 2:
                raise GraftsimError(
                    f"{place}: a matrix is made of tensors of rank 2 and below; {name} has shape {sizes}"
                )
        return Kind(Rank.MATRIX, self.tensor, shape)

    def identity(self, n: str, place: str) -> Node:
        kind = self.matrix((n, n), place)
        parts = [np.eye(tensor_constant(n, shape), dtype=self.dtype).reshape(-1) for shape in self.layout.shapes]
        return Node("constant", (), kind, np.concatenate([np.zeros(0, self.dtype), *parts]))

    def matrix_applied(self, operator: str, nodes: list[Node], place: str) -> Node:
        """A whole matrix a tensor; coordinates stand for a matrix of rows by cols."""

        def refuse(problem: str) -> GraftsimError:
            return GraftsimError(f"{place}: kind mismatch: {problem}")

        if operator == "identity":
            raise refuse("identity takes rows, cols or size")
        wide = [node for node in nodes if node.kind.rank >= Rank.COORDINATE]
        if len(wide) != (2 if operator == "matmul" else 1) or nodes[0].kind.rank < Rank.COORDINATE:
            raise refuse("it takes matrices, and matrix_power one matrix and two scalars")
        if operator == "flat":
            if nodes[0].kind.rank is Rank.MATRIX:
                raise refuse("flat takes coordinates")
            return Node("view", (nodes[0],), self.matrix(("size", "1"), place))
        nodes = [self.as_matrix(node, place) if node in wide else node for node in nodes]
        (a, b), *others = (node.kind.shape for node in nodes)
        match operator:
            case "transpose":
                return Node(operator, tuple(nodes), self.matrix((b, a), place))
            case "matmul":
                if b != others[0][0]:
                    raise refuse(f"{a} by {b} and {' by '.join(others[0])} have no product")
                return Node(operator, tuple(nodes), self.matrix((a, others[0][1]), place))
        if a != b or any(node.kind != self.scalar for node in nodes[1:]):
            raise refuse("matrix_power takes a square matrix and two scalars that are the same for all tensors")
        return Node(operator, tuple(nodes), nodes[0].kind)

    def as_matrix(self, node: Node, place: str) -> Node:
        if node.kind.rank is Rank.MATRIX:
            return node
        return Node("view", (node,), self.matrix(("rows", "cols"), place))

    def alike(self, nodes: list[Node], place: str) -> list[Node]:
        """Operands that can be joined: matrices of one shape, or matrices seen as the coordinates that they are."""
        shapes = {node.kind.shape for node in nodes if node.kind.rank is Rank.MATRIX}
        if not shapes:
            return nodes
        if any(node.kind.rank is Rank.COORDINATE for node in nodes):
            return [self.as_coordinates(node, place) for node in nodes]
        if len(shapes) > 1:
            listed = " and ".join(sorted(" by ".join(shape) for shape in shapes))
            raise GraftsimError(f"{place}: kind mismatch: matrices must have one shape; received {listed}")
        return nodes

    def as_coordinates(self, node: Node, place: str) -> Node:
        if node.kind.rank is not Rank.MATRIX:
            return node
        if node.kind.shape not in COORDINATES:
            raise GraftsimError(f"{place}: kind mismatch: a {node.kind} is no step of the weights")
        return Node("view", (node,), self.coordinate)

    # -- kinds ---------------------------------------------------------------------------------------------------

    def join(self, kinds: list[Kind]) -> Kind:
        """The widest rank, over the common refinement (GS-language-refinement)."""
        rank = max(kind.rank for kind in kinds)
        if rank is Rank.COORDINATE:
            return self.coordinate
        if rank is Rank.MATRIX:
            return next(kind for kind in kinds if kind.rank is rank)
        found = self.run
        for kind in kinds:
            found = partitions.meet(found, kind.partition)
        return Kind(rank, self.built.setdefault(found.key, found))

    def converts(self, given: Kind, wanted: Kind) -> bool:
        if wanted.rank is Rank.COORDINATE:
            return given.rank is not Rank.MATRIX or given.shape in COORDINATES
        if Rank.MATRIX in (given.rank, wanted.rank):
            return given == wanted or given.rank is Rank.SCALAR
        return given.rank <= wanted.rank and partitions.refines(wanted.partition, given.partition)

    def convert(self, node: Node, kind: Kind) -> Node:
        """Bring a value to a kind; a scalar or group value that becomes a coordinate is rounded once."""
        if kind.rank is Rank.COORDINATE:
            if node.kind.rank is Rank.MATRIX:
                return self.as_coordinates(node, "")
            return node if node.kind.rank is Rank.COORDINATE else Node("round", (node,), kind)
        if kind.rank is Rank.MATRIX and node.kind.rank is not Rank.MATRIX:
            of_tensor = self.convert(node, Kind(node.kind.rank, self.tensor))
            sizes = [a * b for a, b in blocks(self.layout, kind.shape)]
            return Node("spread", (of_tensor,), kind, np.repeat(np.arange(len(sizes)), sizes))
        if kind.rank is Rank.MATRIX:
            return node
        if node.kind.partition == kind.partition:
            return node
        index = partitions.coarsening(kind.partition, node.kind.partition)
        return Node("lift", (node,), Kind(node.kind.rank, kind.partition), index)

    def widen(self, node: Node) -> Node:
        return node if node.kind.rank is Rank.COORDINATE else Node("widen", (node,), self.coordinate)

    def is_integral(self, node: Node) -> bool:
        match node.operator:
            case "number":
                return bool(node.data == int(node.data)) if abs(node.data) < 2**53 else False
            case "read":
                return node.data in self.integral
            case "floordiv":
                return True
            case "add" | "sub" | "neg" | "lift" | "mul" | "max" | "min":
                return all(self.is_integral(argument) for argument in node.arguments)
        return False
