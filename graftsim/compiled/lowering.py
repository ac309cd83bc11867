"""From a program to the passes of the compiled engine: what is hoisted, recomputed, stored, and when state is written.

Scalars (functions of hyperparameters and clocks) never depend on a reduction, so they are tables over steps, computed
before any loop runs. What is left are group equations, one pass over the groups for each level, and coordinate
equations, one pass over memory for each level. A coordinate value that a later level reads is recomputed there from
state where every operand still holds its bits and that moves no more words than storing it; else it is stored in a
temporary array.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from graftsim.program import Kind, Node, Program, Rank, Reduction, Statement


@dataclass(frozen=True, eq=False)
class Pass:
    """One sweep over the coordinates. ``statements`` are in order; ``reductions`` are taken of them."""

    level: int
    statements: tuple[Statement, ...]
    reductions: tuple[Reduction, ...]
    stores: tuple[str, ...]
    """Coordinate values that are kept in temporary arrays for a later pass."""
    loads: tuple[str, ...]
    """Temporary arrays that this pass reads."""
    commits: tuple[tuple[str, str], ...]
    """(slot path, name of its new value): state written in this pass."""
    moves: bool
    """Whether this pass adds delta to the weights."""

    def expressions(self) -> Iterator[Node]:
        yield from (statement.node for statement in self.statements)
        yield from (operand for reduction in self.reductions for operand in reduction.operands)


@dataclass(frozen=True, eq=False)
class Lowered:
    """The whole of it, in the order in which it runs."""

    program: Program
    scalars: tuple[Statement, ...]
    groups: tuple[tuple[Statement, ...], ...]
    passes: tuple[Pass, ...]
    constants: dict[str, NDArray[Any]]
    """What never changes: hyperparameters given as tables, ranks and sizes of tensors."""
    kinds: dict[str, Kind] = field(repr=False)

    def words(self) -> list[tuple[int, int]]:
        """(words read, words written) for each coordinate, pass by pass: what the plan must move."""
        return [(len(set(arrays_read(each, self.program))), _written(each)) for each in self.passes]


def lower(program: Program) -> Lowered:
    """Lower a program; see the module's docstring."""
    split = _Splitter(program)
    coordinates: list[list[Statement]] = [[] for _ in range(program.depth + 1)]
    for statement in program.statements:
        split.statement(statement, coordinates)
    reductions = [split.reduction(reduction) for reduction in program.reductions]
    for path in reversed(list(program.parameters)):
        split.parameter(path)
    groups = tuple(tuple(row for row in split.groups if row.level == level) for level in range(program.depth + 1))
    passes = _Planner(program, coordinates, reductions).passes()
    return Lowered(program, tuple(split.scalars), groups, passes, split.constants, split.kinds)


class _Splitter:
    """Takes the non-coordinate parts out of expressions, as statements with names of their own."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.kinds = dict(program.kinds)
        self.constants: dict[str, NDArray[Any]] = {}
        self.levels = dict(program.levels)
        self.scalars: list[Statement] = []
        self.groups: list[Statement] = []
        self.known: dict[str, str] = {}

    def parameter(self, path: str) -> None:
        node = self.program.parameters[path].node
        if node.operator == "constant":
            self.constants[path] = node.data
        else:
            self.scalars.insert(0, Statement(path, node, 0, path))

    def statement(self, statement: Statement, coordinates: list[list[Statement]]) -> None:
        rank = statement.node.kind.rank
        if rank is Rank.SCALAR:
            self.scalars.append(statement)
        elif rank is Rank.GROUP:
            self.groups.append(replace(statement, node=self.rewritten(statement.node, Rank.SCALAR)))
        else:
            coordinates[statement.level].append(replace(statement, node=self.rewritten(statement.node, Rank.GROUP)))

    def reduction(self, reduction: Reduction) -> Reduction:
        return replace(reduction, operands=tuple(self.rewritten(node, Rank.GROUP) for node in reduction.operands))

    def rewritten(self, node: Node, hoist: Rank) -> Node:
        """The node with each maximal subtree of at most rank ``hoist`` replaced by a name."""
        if node.kind.rank <= hoist or node.operator in ("constant", "lift"):
            return self.named(node)
        return replace(node, arguments=tuple(self.rewritten(argument, hoist) for argument in node.arguments))

    def named(self, node: Node) -> Node:
        if node.operator in ("number", "read"):
            return node
        if node.operator == "lift":
            inner = self.named(node.arguments[0])
            return inner if inner.operator == "number" else replace(node, arguments=(inner,))
        if node.kind.rank is Rank.GROUP:
            node = self.without_scalars(node)
        key = _key(node)
        if key not in self.known:
            level = max((self.levels[name] for name in node.reads()), default=0)
            name = f"h{len(self.known)}"
            self.kinds[name], self.levels[name], self.known[key] = node.kind, level, name
            if node.operator == "constant":
                self.constants[name] = node.data
                return Node("read", (), node.kind, name)
            row = Statement(name, node, level, "")
            (self.scalars if node.kind.rank is Rank.SCALAR else self.groups).append(row)
        return Node("read", (), node.kind, self.known[key])

    def without_scalars(self, node: Node) -> Node:
        return replace(node, arguments=tuple(self.rewritten(argument, Rank.SCALAR) for argument in node.arguments))


def _key(node: Node) -> str:
    data = node.data if isinstance(node.data, str | float) else id(node.data) if node.data is not None else ""
    return f"{node.operator}[{data}]({','.join(_key(argument) for argument in node.arguments)})"


@dataclass(frozen=True)
class _Recipe:
    """How a later pass gets a value of an earlier one: the statements to repeat, and the arrays that they read."""

    statements: tuple[str, ...]
    arrays: frozenset[str]


class _Planner:
    """Decides for each level what is read, repeated, stored and written."""

    def __init__(self, program: Program, coordinates: list[list[Statement]], reductions: list[Reduction]) -> None:
        self.program, self.coordinates, self.reductions = program, coordinates, reductions
        self.definition = {row.target: row for rows in coordinates for row in rows}
        self.slots = {path: slot for path, slot in program.slots.items() if slot.kind.rank is Rank.COORDINATE}
        self.new = {slot.new: path for path, slot in self.slots.items() if slot.new != slot.old}
        self.commit = {path: self.commit_level(path) for path in self.new.values()}
        self.stored: dict[str, int] = {}

    def commit_level(self, path: str) -> int:
        """The last level at which a statement reads the old value, or the one that makes the new one."""
        slot = self.slots[path]
        readers = [row.level for row in self.definition.values() if slot.old in row.node.reads()]
        readers += [row.level for row in self.reductions if any(slot.old in node.reads() for node in row.operands)]
        return max([self.definition[slot.new].level, *readers])

    def passes(self) -> tuple[Pass, ...]:
        plans = [self.plan(level) for level in range(self.program.depth + 1)]
        return tuple(
            Pass(
                level,
                tuple(self.definition[name] for name in names),
                tuple(row for row in self.reductions if row.level == level),
                tuple(sorted(name for name, at in self.stored.items() if at == level)),
                loads,
                tuple((path, self.slots[path].new) for path, at in self.commit.items() if at == level),
                level == self.program.depth,
            )
            for level, (names, loads) in enumerate(plans)
        )

    def plan(self, level: int) -> tuple[list[str], tuple[str, ...]]:
        """The statements of a pass in order, and the temporary arrays that it loads."""
        own = [row.target for row in self.coordinates[level]]
        wanted = [self.slots[path].new for path, at in self.commit.items() if at == level]
        if level == self.program.depth:
            wanted.append(self.program.delta)
        for name in [*own, *wanted]:
            wanted += [] if name not in self.definition else list(self.definition[name].node.reads())
        wanted += [name for row in self.reductions if row.level == level for n in row.operands for name in n.reads()]
        earlier = [n for n in dict.fromkeys(wanted) if n in self.definition and self.definition[n].level < level]
        names: list[str] = []
        loads: list[str] = []
        for name in earlier:
            recipe = self.recipe(name, level)
            if recipe is not None and len(recipe.arrays - {"w"}) <= 2:
                names += recipe.statements
            else:
                self.stored[name] = self.definition[name].level
                loads.append(name)
        live = self.live(own, wanted, level)
        return list(dict.fromkeys([*names, *live])), tuple(loads)

    def live(self, own: list[str], wanted: Iterable[str], level: int) -> list[str]:
        """A level's own statements without those that nothing reads."""
        needed = set(wanted) | {
            name for rows in self.coordinates[level + 1 :] for row in rows for name in row.node.reads()
        }
        needed |= {name for row in self.reductions if row.level > level for n in row.operands for name in n.reads()}
        needed |= {slot.new for slot in self.slots.values()} | {self.program.delta}
        kept: list[str] = []
        for name in reversed(own):
            if name in needed:
                kept.append(name)
                needed |= set(self.definition[name].node.reads())
        return kept[::-1]

    def recipe(self, name: str, level: int) -> _Recipe | None:
        """Repeat a value at ``level`` from arrays that hold the bits they had; None where one does not."""
        if name in self.new and self.commit[self.new[name]] < level:
            return _Recipe((), frozenset([self.new[name]]))
        if name in self.slots:
            overwritten = name in self.commit and self.commit[name] < level
            return None if overwritten else _Recipe((), frozenset([name]))
        if name not in self.definition:
            return _Recipe((), frozenset([name] if name in ("w", "g") else []))
        steps: list[str] = []
        arrays: set[str] = set()
        for read in self.definition[name].node.reads():
            inner = self.recipe(read, level)
            if inner is None:
                return None
            steps += inner.statements
            arrays |= inner.arrays
        return _Recipe((*dict.fromkeys(steps), name), frozenset(arrays))


def arrays_read(each: Pass, program: Program) -> Iterator[str]:
    """The coordinate arrays that a pass reads from memory, by name: w, g, slots, constants, temporaries."""
    made = {statement.target for statement in each.statements}
    new = {slot.new: path for path, slot in program.slots.items() if slot.new != slot.old}
    for node in each.expressions():
        for name in node.reads():
            if name not in made and name in program.kinds and program.kinds[name].rank is Rank.COORDINATE:
                yield new.get(name, name)
    if each.moves:
        yield "w"
        if program.delta not in made and program.delta not in each.loads:
            yield new.get(program.delta, program.delta)
    yield from each.loads


def _written(each: Pass) -> int:
    return len(each.stores) + len(each.commits) + each.moves
