"""Whole runs in one compiled loop: problem, machine and recorder, so that a step costs no Python call.

The loop calls the passes of :mod:`graftsim.compiled.source` one after the other on one thread and writes rows of the
record as it goes. Scalars come from tables of a block of steps; between blocks Python is back, for progress and
interrupts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.compiled import plan, tables
from graftsim.compiled.engine import CompiledEngine, load
from graftsim.compiled.source import BLOCK, Source, function
from graftsim.interpreter import check_settings
from graftsim.layouts import Array
from graftsim.problems.problem import Kernel, Problem
from graftsim.program import Program, Rank
from graftsim.record import Rows, multiples
from graftsim.sums import REGISTERS
from graftsim.trajectory import Meta

TABLE = 1 << 21
"""At most so many numbers in the tables of a block of steps."""
STEPS = 1 << 14
"""At most so many steps in a block."""


def kernel_of(problem: Problem, program: Program) -> Kernel | None:
    """The problem's compiled gradient, where there is one and a run of the program on it can be one loop.

    Sums whose groups do not lie in long runs are the reference engine's, between two passes.
    """
    possible = not program.has_matrices and all(plan.segmented(row.partition) for row in program.reductions)
    return getattr(problem, "kernel", None) if possible else None


class WholeRun:
    """A program on the problems of one kernel. One object serves one run at a time; :meth:`another` serves another."""

    def __init__(self, program: Program, kernel: Kernel) -> None:
        self.program = program
        self.engine = CompiledEngine(program)
        self.source = self.engine.source
        self.writer = _Writer(self.source, kernel.name)
        # Passing a dozen arrays to each function costs more than a small problem's arithmetic, hence inlined.
        self.function = load(self.source.text("inlined") + "\n\n" + self.writer.text()).run
        self.cut = self.engine.cut(np.ones(len(program.layout.tensors), bool))
        self.buffers = self._buffers(kernel)

    def another(self, kernel: Kernel) -> WholeRun:
        """The same with buffers of its own, for another thread or other data; nothing is compiled."""
        found = copy.copy(self)
        found.buffers = self._buffers(kernel)
        return found

    def _buffers(self, kernel: Kernel) -> dict[str, NDArray[Any]]:
        """All that lives as long as the run and belongs to nobody else."""
        program, source, names = self.program, self.source, self.source.names
        made = self.cut.plan
        found: dict[str, NDArray[Any]] = {"g": np.zeros(program.layout.size, program.dtype)}
        found |= {"start": made.start, "stop": made.stop, "data": kernel.data}
        found |= {identifier: made.group[key] for key, identifier in source.member.items()}
        found |= {names[name]: values for name, values in self.engine.lowered.constants.items()}
        found |= {source.array(name): np.zeros(program.layout.size, program.dtype) for name in source.stored}
        for signature in source.groups:
            kinds = self.engine.lowered.kinds
            found |= {names[name]: np.zeros(kinds[name].partition.count) for name in signature.targets}
            found |= {source.lift[pair]: index for pair, index in signature.lifts.items()}
        width = REGISTERS[program.dtype.name].width
        for row in program.reductions:
            target, slots = names[row.target], made.slots[row.partition.key]
            found |= {target: np.zeros(row.partition.count), f"row_{target}": np.zeros(width, np.int64)}
            found |= {f"rows_{target}": np.zeros((slots.group.size, width), np.int64)}
            found |= {f"slot_{target}": slots.of_item, f"group_{target}": slots.group}
        for each in self.engine.lowered.passes:
            found |= {array: np.zeros(BLOCK, program.dtype) for _, array, _ in source.operands(each)}
        return found

    def block(self, state: Mapping[str, Array]) -> int:
        """How many steps a block may have."""
        widest = max((slot.kind.partition.count for slot in self.program.slots.values()), default=1)
        return max(1, min(STEPS, TABLE // (max(widest, 1) * max(len(self.engine.lowered.scalars), 1))))

    def advance(
        self, weights: Array, state: dict[str, Array], done: int, steps: int, meta: Meta, rows: Rows,
        settings: Mapping[str, float],
    ) -> dict[str, NDArray[np.float64]]:  # fmt: skip
        """``steps`` steps after step ``done``, in place; rows are written where ``meta`` wants them.

        Returns the info of the last step.
        """
        lowered, names = self.engine.lowered, self.source.names
        known = tables.make(lowered, state, done + 1, steps, settings)
        if done == 0:
            check_settings(self.program, lambda node: self.engine.scalar(node, 1), settings, 1)
        tables.check(self.program, known, done + 1)
        arguments: dict[str, Any] = {"steps": steps, "phase": done, "w": weights, **self.buffers}
        arguments |= {"every": meta.record_every, "keep": meta.keep_every}
        for name, _rank, _partition in self.writer.scalars:
            table = known[name]
            arguments[names[name]] = np.ascontiguousarray(np.broadcast_to(table, (steps, table.shape[1])))
        for path, slot in self.program.slots.items():
            if slot.kind.rank is not Rank.SCALAR:
                arguments[names[path]] = state[path]
                arguments[f"record_{names[path]}"] = rows.state[path]
        arguments |= {"record_w": rows.weights, "record_loss": rows.loss}
        arguments |= {f"record_{names[path]}": rows.info[path] for path in self.writer.recorded}
        self.function(*(arguments[name] for name in self.writer.arguments()))
        self._scalars(state, known, done, steps, meta, rows)
        return {path: self._info(name, known).copy() for path, name in self.program.info.items()}

    def _info(self, name: str, known: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        found = self.buffers.get(self.source.names[name])
        return known[name][-1] if found is None else found

    def _scalars(
        self, state: dict[str, Array], known: Mapping[str, NDArray[Any]], done: int, steps: int, meta: Meta, rows: Rows
    ) -> None:
        """Scalar state and scalar info come from the tables."""
        losses, keeps = (multiples(every, done, steps) - done - 1 for every in (meta.record_every, meta.keep_every))
        for path, slot in self.program.slots.items():
            if slot.kind.rank is Rank.SCALAR:
                table = np.broadcast_to(known[slot.new], (steps, state[path].size))
                rows.state[path][:] = table[keeps]
                state[path][:] = table[-1]
        for path, name in self.program.info.items():
            if path not in self.writer.recorded:
                rows.info[path][:] = np.broadcast_to(known[name], (steps, known[name].shape[1]))[losses]


class _Writer:
    """The text of ``run`` and the order of its arguments."""

    def __init__(self, source: Source, kernel: str) -> None:
        self.source, self.kernel = source, kernel
        signatures = [*source.passes, *source.groups]
        values = {value[0]: value for signature in signatures for value in signature.values}
        self.scalars = [value for value in values.values() if value[1] is Rank.SCALAR]
        program = source.program
        self.recorded = [path for path, name in program.info.items() if program.kinds[name].rank is Rank.GROUP]
        self.kept = [path for path, slot in program.slots.items() if slot.kind.rank is not Rank.SCALAR]

    def arguments(self) -> list[str]:
        source, names = self.source, self.source.names
        found = ["steps", "every", "keep", "phase", "data", "w", "g", "start", "stop", *source.member.values()]
        for each, signature, groups in zip(source.lowered.passes, source.passes, source.groups, strict=True):
            found += source.groups_arguments(groups)[1:] if groups.targets else []
            found += source.pass_arguments(each, signature)[5:]
            found += [f"group_{names[row.target]}" for row in signature.sums]
        found += [names[path] for path in self.kept]
        found += ["record_w", "record_loss", *(f"record_{names[path]}" for path in [*self.kept, *self.recorded])]
        return list(dict.fromkeys(found))

    def text(self) -> str:
        source, names = self.source, self.source.names
        lines = ["gradient(w, g, data)"]
        for each, signature, groups in zip(source.lowered.passes, source.passes, source.groups, strict=True):
            if groups.targets:
                lines.append(f"groups_{each.level}({', '.join(source.groups_arguments(groups))})")
            lines.append(f"pass_{each.level}(0, start.size, {', '.join(source.pass_arguments(each, signature)[2:])})")
            for row in signature.sums:
                target, squares = names[row.target], row.operator == "norm"
                lines += [f"if group_{target}.size:", f"    finish(rows_{target}, group_{target}, {target}, {squares})"]
                lines.append(f"    rows_{target}[:] = 0")
        program = source.program
        for path, slot in program.slots.items():
            if slot.kind.rank is Rank.GROUP and slot.new != slot.old:
                lines.append(f"{names[path]}[:] = {names[slot.new]}")
        lines.append("if (phase + k + 1) % every == 0:")
        lines.append("    record_loss[row] = loss(w, data)")
        lines += [f"    write(record_{names[path]}, row, {names[program.info[path]]})" for path in self.recorded]
        lines += ["    row += 1", "if (phase + k + 1) % keep == 0:", "    write(record_w, kept, w)"]
        lines += [f"    write(record_{names[path]}, kept, {names[path]})" for path in self.kept]
        lines.append("    kept += 1")
        head = [*function("run", self.arguments()), "    row, kept = 0, 0"]
        body = ["    for k in range(steps):", *(f"        {line}" for line in lines), ""]
        imports = (
            "from graftsim.compiled.support import finish, write\n"
            f"from graftsim.problems.kernels import {self.kernel}_gradient as gradient\n"
            f"from graftsim.problems.kernels import {self.kernel}_loss as loss\n\n\n"
        )
        return imports + "\n".join(["@compiled", *head, *body])
