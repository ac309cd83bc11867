"""torch's optimizers, and those of libraries for torch, as candidates. The only module here that imports torch."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim_conformance.cases import Gradients, parts
from graftsim_conformance.dialects import signed
from graftsim_conformance.verdicts import CandidateError, Verdict


@dataclass(frozen=True)
class Mode:
    """How torch runs a step."""

    keywords: Mapping[str, bool] = field(default_factory=dict)
    """Passed to the optimizer beside its own arguments."""
    compiled: bool = False
    """The step is traced by ``torch.compile`` and run without a code generator: tracing alone changes the scalars."""
    wide: bool = False
    """torch's default dtype and the dtype of state are those of the weights."""
    sparse: bool = False
    """Gradients are sparse tensors in which every row is present."""


MODES: dict[str, Mode] = {
    "": Mode(),
    "single": Mode({"foreach": False}),
    "foreach": Mode({"foreach": True}),
    "fused": Mode({"fused": True}),
    "capturable": Mode({"capturable": True}),
    "compiled": Mode(compiled=True),
    "default64": Mode(wide=True),
    "sparse": Mode(sparse=True),
}

STATE_DTYPE: dict[str, Callable[[torch.dtype], Any]] = {
    "storage_dtype": lambda dtype: str(dtype).removeprefix("torch."),
    "momentum_dtype": lambda dtype: dtype,
}
"""Keywords by which an optimizer (of heavyball, of pytorch_optimizer) is told the dtype of its state."""

ENTRIES: dict[str, Callable[[torch.Tensor], int]] = {
    "": torch.Tensor.numel,
    "rows": lambda tensor: tensor.numel() // tensor.shape[-1] if tensor.ndim else 1,
    "cols": lambda tensor: tensor.numel() // tensor.shape[-2] if tensor.ndim > 1 else tensor.numel(),
}
"""How many numbers a tensor has in a state slot: one a coordinate, row (``rows.row_var``) or column."""


def one(tensor: torch.Tensor) -> int:
    """How many numbers a tensor has in a counter."""
    return 1


class TorchCandidate:
    """An optimizer class of torch, on CPU tensors of the weights' dtype.

    Hyperparameters that change are written into ``param_groups`` before a step, as schedulers do. What a library
    compiles by itself is run as it is written. SparseAdam gets sparse gradients, since it takes no others.
    """

    abilities = ("missing",)

    def __init__(self, optimizer: Any, mode: str = "") -> None:
        if mode not in MODES:
            raise GraftsimError(f"mode must be one of {', '.join(filter(None, MODES))}; received {mode!r}")
        self._class, self._mode = optimizer, MODES[mode]
        self._keywords = dict(self._mode.keywords)
        for keyword in self._keywords:
            if keyword not in _parameters(optimizer):
                name = getattr(optimizer, "__name__", "the optimizer")
                raise GraftsimError(f"mode {mode} needs the keyword {keyword!r}, which {name} does not name")

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        self._layout = layout
        self._tensors = [torch.tensor(np.array(part)) for part in layout.unflatten(weights)]
        self._dtype = self._tensors[0].dtype
        with self._world():
            given = {**arguments, **self._keywords, **self._dtype_of_state()}
            self._optimizer = self._class(self._tensors, **given)
            self._sparse = self._mode.sparse or isinstance(self._optimizer, torch.optim.SparseAdam)
            self._step = self._optimizer.step
            if self._mode.compiled:
                torch.compiler.reset()
                self._step = torch.compile(self._step, backend="eager")

    def step(self, gradients: Gradients, arguments: Mapping[str, Any]) -> Array:
        for group in self._optimizer.param_groups:
            group.update({keyword: value for keyword, value in arguments.items() if keyword in group})
        for tensor, gradient in zip(self._tensors, parts(self._layout, gradients), strict=True):
            dense = None if gradient is None else torch.tensor(np.array(gradient))
            tensor.grad = _every_row(dense) if self._sparse and dense is not None else dense
        with self._world():
            self._step()
        return self._flat(self._tensors)

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        """A slot that only some tensors have (Adafactor's) is 0 in the others."""
        found = {}
        for slot, source in names.items():
            name, sign = signed(source)
            place, _, entry = name.rpartition(".")
            values = [self._read(tensor, place, entry) for tensor in self._tensors]
            if any(value is not None for value in values):
                pairs = zip(self._tensors, values, strict=True)
                count = one if entry == "step" or place == "group" else ENTRIES[place]
                whole = [torch.zeros(count(tensor)) if value is None else value for tensor, value in pairs]
                found[slot] = sign * self._flat([torch.as_tensor(value) for value in whole])
        return found

    def write_state(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        """Stand as after a step: a step on zero gradients makes the entries, which are then filled.

        Raises:
            CandidateError: not supported, for libraries that keep state elsewhere.
        """
        if not self._class.__module__.startswith("torch.optim"):
            raise CandidateError(Verdict.NOT_SUPPORTED, f"state of {self._class.__name__} cannot be set")
        self.step(np.zeros(weights.shape, weights.dtype), {})
        with torch.no_grad():
            for tensor, part in zip(self._tensors, self._layout.unflatten(weights), strict=True):
                tensor.copy_(torch.tensor(np.array(part)))
            for source, values in state.items():
                self._write(*signed(source), values)

    def _write(self, name: str, sign: float, values: Array) -> None:
        place, _, entry = name.rpartition(".")
        held = [self._optimizer.state[tensor] for tensor in self._tensors]
        pairs = zip(held, self._tensors, strict=True)
        count = one if any(_one_number(state.get(entry), tensor) for state, tensor in pairs) else ENTRIES[place]
        ends = np.cumsum([count(tensor) for tensor in self._tensors])
        for state, part in zip(held, np.split(sign * values, ends[:-1]), strict=True):
            kept = state.get(entry)
            if torch.is_tensor(kept):
                kept.copy_(torch.tensor(part.astype(np.float64)).reshape(kept.shape))
            elif kept is not None:
                state[entry] = type(kept)(part[0])

    def _read(self, tensor: torch.Tensor, place: str, entry: str) -> Any:
        """An entry of a tensor's state, of its only part where a library keeps parts, or of its ``group``."""
        if place == "group":
            return self._optimizer.param_groups[0].get(entry)
        state = self._optimizer.state.get(tensor, {})
        return state.get(entry, state[0].get(entry) if isinstance(state.get(0), dict) else None)

    def _dtype_of_state(self) -> dict[str, Any]:
        if not self._mode.wide:
            return {}
        return {name: write(self._dtype) for name, write in STATE_DTYPE.items() if name in _parameters(self._class)}

    @contextlib.contextmanager
    def _world(self) -> Iterator[None]:
        """torch as the mode wants it, for as long as the optimizer runs."""
        before = torch.get_default_dtype()
        try:
            if self._mode.wide:
                torch.set_default_dtype(self._dtype)
            library_compiles = "torch._dynamo" in sys.modules and not self._mode.compiled
            as_written = torch.compiler.set_stance("force_eager") if library_compiles else contextlib.nullcontext()
            with as_written, torch.sparse.check_sparse_tensor_invariants():
                yield
        finally:
            torch.set_default_dtype(before)

    @staticmethod
    def _flat(tensors: list[Any]) -> Array:
        dense = [tensor.detach().to(torch.float64).to_dense() for tensor in tensors]
        return np.concatenate([tensor.numpy().reshape(-1) for tensor in dense])


def _one_number(kept: Any, tensor: torch.Tensor) -> bool:
    """Such as ``step`` and NAdam's ``mu_product``, one for a tensor of any shape; SparseAdam's is an int."""
    return isinstance(kept, int | float) or (torch.is_tensor(kept) and kept.dim() == 0 < tensor.dim())


def _parameters(optimizer: Any) -> Mapping[str, Any]:
    """The keywords that an optimizer names; what it takes unnamed it may well ignore."""
    return inspect.signature(optimizer).parameters


def _every_row(dense: torch.Tensor) -> torch.Tensor:
    """The sparse tensor that holds every row, zeros too: an absent row would not take part in the step."""
    rows = dense.shape[:1]
    places = torch.arange(dense.shape[0])[None] if rows else torch.zeros((0, 1), dtype=torch.long)
    values = dense if rows else dense.reshape(1)
    return torch.sparse_coo_tensor(places, values, dense.shape, check_invariants=True, is_coalesced=True)
