"""The compiled engine: the bits of :class:`graftsim.engine.Engine`, in place, at the speed of memory.

The source of a program's loops is generated (:mod:`graftsim.compiled.source`), written to a cache folder under a
digest of its text and of all that it depends on, and imported from there, so that Numba keeps what it compiled: the
second start of a program compiles nothing.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import documents, engine
from graftsim.compiled import plan, support, tables
from graftsim.compiled.lowering import lower
from graftsim.compiled.source import BLOCK, Signature, Source
from graftsim.errors import GraftsimError
from graftsim.interpreter import check_settings
from graftsim.layouts import Array
from graftsim.program import Program, Rank, Reduction
from graftsim.sums import REGISTERS, Rows

Values = dict[str, NDArray[Any]]


@functools.cache
def _environment() -> str:
    """What a generated module depends on besides its text; Numba does not see that a file it imports has changed."""
    here = Path(__file__).parent
    depends = [here / "support.py", here.parent / "problems" / "kernels.py", *sorted(here.parent.glob("fast_*.py"))]
    versions = [importlib.metadata.version("numba"), np.__version__, sys.version]
    return "\0".join([*versions, *(path.read_text() for path in depends)])


def load(text: str) -> ModuleType:
    """The module of a generated source, from the cache folder; a digest names it."""
    digest = hashlib.sha256("\0".join([text, _environment()]).encode()).hexdigest()[:24]
    name = f"graftsim_generated_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    path = documents.cache_folder() / f"{name}.py"
    if not path.exists() or path.read_text("utf-8") != text:
        try:
            documents.write_atomically(path, lambda file: file.write(text.encode()))
        except GraftsimError as error:
            raise GraftsimError(f"{error}; set GRAFTSIM_CACHE to a folder that can be written") from None
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module


class CompiledEngine:
    """Runs a program in place on flat arrays.

    Args:
        program: what :func:`graftsim.build` returned.
        threads: over how many threads the coordinates are spread; no bit depends on it.
        exchange: how exact sums of groups that ranks share are added; alone by default.
    """

    def __init__(self, program: Program, threads: int = 1, exchange: engine.Exchange = engine.alone) -> None:
        self.program, self.threads = program, threads
        if program.has_matrices:
            raise GraftsimError(f"{engine.MATRICES}; run {program.instance.machine.name} on the numpy engine")
        self.lowered = lower(program)
        self.source = Source(self.lowered)
        self.module = load(self.source.text())
        self._reference, self._exchange = engine.Engine(program), exchange
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._kept = {
            name: np.empty(program.layout.size, program.dtype) for each in self.lowered.passes for name in each.stores
        }
        self._cuts: dict[bytes, _Cut] = {}

    def initial_state(self) -> dict[str, Array]:
        """The state before the first step."""
        return self._reference.initial_state()

    def step(
        self,
        weights: Array,
        gradients: Array | Sequence[Any],
        state: dict[str, Array],
        step: int,
        settings: Mapping[str, float] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """One step: ``weights`` and the arrays of ``state`` are overwritten; the info is returned.

        Arguments and errors are those of :meth:`graftsim.engine.Engine.step`.
        """
        gradient, present = self._reference.gradient(gradients)
        self._reference.check(weights, state, step)
        settings = dict(settings or {})
        check_settings(self.program, lambda node: self._reference.scalar(node, step), settings, step)
        known = tables.make(self.lowered, state, step, 1, settings)
        values = self._levels(known, weights, gradient, state, self.cut(present))
        self._keep_scalars(state, known, present)
        return {path: np.array(values[name]).reshape(-1) for path, name in self.program.info.items()}

    def scalar(self, node: Any, step: int) -> Any:
        """The value of a hyperparameter's node at a step."""
        return self._reference.scalar(node, step)

    def cut(self, present: NDArray[np.bool_]) -> _Cut:
        """The plan of the tensors that are present, with its buffers."""
        key = present.tobytes()
        if key not in self._cuts:
            self._cuts[key] = _Cut(self, present)
        return self._cuts[key]

    def _levels(self, known: Values, weights: Array, gradient: Array, state: Mapping[str, Array], cut: _Cut) -> Values:
        """All levels of one step, with scalars from tables of one row; returns the group values."""
        program = self.program
        arrays: Values = {"w": weights, "g": gradient, **self.lowered.constants, **self._kept}
        arrays |= {path: state[path] for path in program.slots}
        arrays |= {slot.new: state[path] for path, slot in program.slots.items()}
        values: Values = {**self.lowered.constants, **known, **cut.fresh()}
        values |= {path: state[path] for path, slot in program.slots.items() if slot.kind.rank is Rank.GROUP}
        for each, signature, groups in zip(self.lowered.passes, self.source.passes, self.source.groups, strict=True):
            if groups.targets:
                self._groups(each.level, groups, values)
            self._sweep(each.level, signature, arrays, values, cut)
        for path, slot in program.slots.items():
            if slot.kind.rank is Rank.GROUP and slot.new != slot.old:
                touched = slot.kind.partition.touched(cut.present)
                state[path][touched] = values[slot.new][touched]
        return values

    def _groups(self, level: int, signature: Signature, values: Values) -> None:
        kinds = self.lowered.kinds
        for name in signature.targets:
            values[name] = np.zeros(kinds[name].partition.count)
        reads = [values[name] for name, _, _ in signature.values if name not in signature.targets]
        function = getattr(self.module, f"groups_{level}")
        function(0, *reads, *(values[name] for name in signature.targets), *signature.lifts.values())

    def _sweep(self, level: int, signature: Signature, arrays: Values, values: Values, cut: _Cut) -> None:
        """One pass over memory, on all threads, and the sums that it leaves."""
        made = cut.plan
        inside = signature.inside
        outside = {r: [np.zeros_like(arrays["w"]) for _ in r.operands] for r in signature.sums if r not in inside}
        arguments: list[Any] = [0, made.start, made.stop]
        arguments += [made.group[partition.key] for partition in signature.partitions]
        arguments += [arrays[name] for name in signature.arrays]
        arguments += [
            values[name] if plan.segmented(partition) else values[name].reshape(-1)[partition.group_of]
            for name, _, partition in signature.values
        ]
        for row in inside:
            cut.rows(row)[:] = 0
        function = getattr(self.module, f"pass_{level}")

        def part(first: int, last: int) -> None:
            own: list[Any] = []  # what each thread needs for itself: the values of a block, and their sum
            for row in signature.sums:
                if row in inside:
                    of_item = made.slots[row.partition.key].of_item
                    own += [values[row.target], np.zeros(cut.width, np.int64), cut.rows(row), of_item]
                own += outside.get(row) or [np.empty(BLOCK, self.program.dtype) for _ in row.operands]
            function(first, last, *arguments, *own)

        if self._pool is None:
            part(0, len(made.start))
        else:
            list(self._pool.map(part, *zip(*made.ranges, strict=True)))
        self._finish(signature, values, outside, cut)

    def _finish(
        self, signature: Signature, values: Values, outside: Mapping[Reduction, list[Array]], cut: _Cut
    ) -> None:
        """The sums of a pass, each rounded once; those of groups that ranks share are added in one exchange."""
        asked: dict[Reduction, Rows] = {}
        for row in signature.sums:
            if row in outside and row.partition.shared:
                asked[row] = self._reference.rows(row, outside[row], cut.coordinates)
            elif row in outside:
                values[row.target][:] = self._reference.reduce(row, outside[row], cut.coordinates)
            elif row.partition.shared:
                asked[row] = np.zeros((row.partition.count, cut.width), np.int64)
                support.gathered(cut.rows(row), cut.plan.slots[row.partition.key].group, asked[row])
            else:
                slots = cut.plan.slots[row.partition.key]
                support.finish(cut.rows(row), slots.group, values[row.target], row.operator == "norm")
        if asked:
            for row, total in zip(asked, self._exchange(list(asked.values())), strict=True):
                groups = np.arange(row.partition.count)
                support.finish(total.copy(), groups, values[row.target], row.operator == "norm")

    def _keep_scalars(self, state: dict[str, Array], known: Values, present: NDArray[np.bool_]) -> None:
        """Write the scalar state after the step."""
        for path, slot in self.program.slots.items():
            if slot.kind.rank is not Rank.SCALAR:
                continue
            new = np.broadcast_to(known[slot.new][0], state[path].shape)
            mask = np.ones(len(present), bool) if slot.advance_missing else present
            state[path][mask] = new[mask]


class _Cut:
    """A plan and the buffers that go with it."""

    def __init__(self, owner: CompiledEngine, present: NDArray[np.bool_]) -> None:
        source, layout = owner.source, owner.program.layout
        used = [p for s in source.passes for p in (*(v[2] for v in s.values), *(r.partition for r in s.sums))]
        self.plan = plan.make(layout, used, present, owner.threads)
        self.present = present
        self.coordinates = np.repeat(present, layout.sizes)
        self.width = REGISTERS[owner.program.dtype.name].width
        self.sums = [row for signature in source.passes for row in signature.sums]
        self._rows: dict[str, NDArray[np.int64]] = {}

    def rows(self, row: Reduction) -> NDArray[np.int64]:
        if row.target not in self._rows:
            slots = self.plan.slots[row.partition.key].group.size
            self._rows[row.target] = np.zeros((slots, self.width), np.int64)
        return self._rows[row.target]

    def fresh(self) -> Values:
        """New arrays for the sums of a step; a group that nothing contributes to has the sum of nothing, 0."""
        return {row.target: np.zeros(row.partition.count) for row in self.sums}
