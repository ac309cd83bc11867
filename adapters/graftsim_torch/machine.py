"""Any machine of the spec as a torch optimizer, evaluated from the same equations as everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

import graftsim
from graftsim.errors import nearest
from graftsim.interpreter import check_settings, initial_state, interpret
from graftsim.program import Kind, Node, Program, Rank, blocks
from graftsim_torch import sharding
from graftsim_torch.arithmetic import Arithmetic
from graftsim_torch.chunks import wide

COMMON = ("lr", "magnitude.lr", "inner.lr")


def machine(expression: str, params: Any, **hyperparameters: Any) -> Machine:
    """A machine of the spec over parameters: ``machine("lamb", model.parameters(), lr=1e-3)``.

    Args:
        expression: a name, or an expression such as ``"adam(lr=1e-3)#sgd"``; ``graftsim list`` names them.
        params: tensors or named tensors, in one param group.
        hyperparameters: values by name, or by path (``**{"magnitude.lr": 0.1}``). Options, schedules and tables are
            text, and go with a bare name: ``machine("adam", params, eps_placement="hat", lr="0.1 / sqrt(step)")``.

    Raises:
        ValueError: an unknown machine or hyperparameter, or a value outside its domain.
    """
    texts = {name: value for name, value in hyperparameters.items() if isinstance(value, str)}
    numbers = {name: value for name, value in hyperparameters.items() if name not in texts}
    if texts:
        if not expression.strip().isidentifier():
            name = next(iter(texts))
            raise ValueError(f"{name}={texts[name]!r} must be written into the expression; received {expression!r}")
        expression = f"{expression}({', '.join(f'{name}={value}' for name, value in texts.items())})"
    return Machine(params, expression, numbers)


class Machine(Optimizer):  # type: ignore[misc]
    """What :func:`machine` returns.

    ``param_groups[0]`` holds each hyperparameter that is a number, by path; schedulers act on ``lr``, which is that of
    the machine, else of its magnitude or inner machine. ``info`` holds recorded values of the last step by path, one
    float64 for each group, whose names are ``group_names(path)``. 16-bit parameters are computed in float32.
    """

    def __init__(self, params: Any, expression: str, hyperparameters: Mapping[str, Any]) -> None:
        self._ready = False
        super().__init__(params, {})
        if len(self.param_groups) != 1:
            raise ValueError(
                f"a machine takes one param group; received {len(self.param_groups)}; give values for each tensor as "
                f"a table in the expression"
            )
        self.expression, self.info = expression, dict[str, Tensor]()
        self._step = 0
        self._build()
        group = self.param_groups[0]
        group |= {path: row.node.data for path, row in self.program.parameters.items() if row.node.operator == "number"}
        inner = [path for path in COMMON if path in group]
        self._rate = inner[0] if inner and (inner[0] == "lr" or "lr" not in self.program.parameters) else None
        if self._rate not in (None, "lr"):
            group["lr"] = group.pop(self._rate)
        for name, value in hyperparameters.items():
            if name not in self.program.parameters and name != "lr":
                raise ValueError(f"{expression} has no hyperparameter {name!r}{nearest(name, self.program.parameters)}")
            group["lr" if name == self._rate else name] = value
        self.defaults = {name: value for name, value in group.items() if name not in ("params", "param_names")}
        self.defaults["differentiable"] = False
        settings = self._settings()
        check_settings(self.program, self._number, settings, 1)
        self._flat = self._initial(settings)
        self._ready = True

    def _build(self) -> None:
        params = self.param_groups[0]["params"]
        for param in params:
            if not param.is_floating_point():
                raise TypeError(f"parameters must be real floating-point tensors; received {param.dtype}")
            if sharding.is_sharded(param):
                raise ValueError(
                    "a machine takes whole tensors; for sharded parameters take Graft and torch's children"
                )
        kinds = {(wide(param.dtype), param.device) for param in params}
        if len(kinds) != 1:
            raise ValueError(
                f"the parameters of a machine must have one dtype and device; received {sorted(map(str, kinds))}"
            )
        ((dtype, device),) = kinds
        names = self.param_groups[0].get("param_names", [str(index) for index in range(len(params))])
        layout = graftsim.Layout.of({name: tuple(param.shape) for name, param in zip(names, params, strict=True)})
        self.program: Program = graftsim.build(self.expression, layout, str(dtype).removeprefix("torch."))
        self._arithmetic = Arithmetic(self.program, dtype, device)

    def _initial(self, settings: Mapping[str, float]) -> dict[str, Tensor]:
        found = initial_state(self.program, self._arithmetic, settings)
        counts = {path: slot.kind.count(self.program.layout) for path, slot in self.program.slots.items()}
        return {path: value.broadcast_to((counts[path],)).clone() for path, value in found.items()}

    def _settings(self) -> dict[str, float]:
        """Hyperparameters as they stand in the param group."""
        group, paths = self.param_groups[0], self.program.parameters
        rate = {self._rate: group["lr"]} if self._rate else {}
        found = {path: value for path, value in group.items() if path in paths} | rate
        return {path: float(value) for path, value in found.items() if path is not None}

    def _number(self, node: Node) -> Any:
        from graftsim.interpreter import evaluate

        step = self._arithmetic.constant(np.array([float(max(self._step, 1))]), self.program.kinds["step"])
        return evaluate(node, {"step": step}, self._arithmetic).numpy(force=True)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the machine; a closure is evaluated once.

        Raises:
            ValueError: a sparse gradient, or a hyperparameter outside its domain.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params = self.param_groups[0]["params"]
        for param in params:
            if param.grad is not None and param.grad.layout is not torch.strided:
                raise ValueError(f"gradients must be dense; received one of layout {param.grad.layout}")
        present = np.array([param.grad is not None for param in params], bool)
        self._step += 1
        settings = self._settings()
        check_settings(self.program, self._number, settings, self._step)
        dtype = self._arithmetic.dtype
        w = torch.cat([param.detach().reshape(-1).to(dtype) for param in params])
        parts = [torch.zeros_like(param) if param.grad is None else param.grad for param in params]
        g = torch.cat([part.reshape(-1).to(dtype) for part in parts])
        found = interpret(self.program, self._arithmetic, w, g, self._flat, self._step, present, settings)
        for path, value in found.state.items():
            self._flat[path].copy_(value.broadcast_to(self._flat[path].shape))
        self.info = {path: self._whole(value, path) for path, value in found.info.items()}
        delta = found.delta.broadcast_to(w.shape).split(list(self.program.layout.sizes))
        for param, part, moves in zip(params, delta, present.tolist(), strict=True):
            if moves:
                param.add_(part.reshape(param.shape))
        return loss

    def _whole(self, value: Tensor, path: str) -> Tensor:
        kind = self.program.kinds[self.program.info[path]]
        return value.broadcast_to((kind.count(self.program.layout),))

    def group_names(self, path: str) -> tuple[str, ...]:
        """The names of the groups of an info path."""
        return self.program.kinds[self.program.info[path]].partition.names

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused: a machine's program is built over all its tensors at once."""
        if self._ready:
            raise ValueError("a machine is built over all its tensors; make a new one")
        super().add_param_group(param_group)

    # -- state, by parameter -------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[Any, dict[str, Any]]:
        """By parameter: each slot of the machine by path, and ``step``, the number of steps done."""
        if not getattr(self, "_ready", False):
            return {}
        params = self.param_groups[0]["params"]
        found: dict[Any, dict[str, Any]] = {param: {"step": torch.tensor(float(self._step))} for param in params}
        for path, slot in self.program.slots.items():
            for param, index in zip(params, self._places(slot.kind), strict=True):
                found[param][path] = self._flat[path][index]
        return found

    @state.setter
    def state(self, value: Any) -> None:
        """The base class assigns an empty one."""

    def _places(self, kind: Kind) -> list[Any]:
        """Where the numbers of each tensor stand in a flat value; a group of several tensors belongs to the first."""
        layout = self.program.layout
        if kind.rank >= Rank.COORDINATE:
            sizes = layout.sizes if kind.rank is Rank.COORDINATE else [a * b for a, b in blocks(layout, kind.shape)]
            ends = np.cumsum([0, *sizes]).tolist()
            return [slice(start, stop) for start, stop in pairwise(ends)]
        first: dict[int, int] = {}
        for group, tensor in kind.partition.tensor_pairs.tolist():
            first[group] = min(tensor, first.get(group, tensor))
        owned: list[list[int]] = [[] for _ in layout.tensors]
        for group, tensor in first.items():
            owned[tensor].append(group)
        return [torch.tensor(sorted(groups), dtype=torch.int64) for groups in owned]

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Resume; the steps that follow have the bits of the unbroken run.

        Raises:
            ValueError: the state of another machine or of other tensors.
        """
        (group,), params = self.param_groups, self.param_groups[0]["params"]
        saved = state_dict["param_groups"]
        state = {key: dict(slots) for key, slots in state_dict["state"].items()}
        keys = list(chain.from_iterable(one["params"] for one in saved))
        mine = {"step", *self.program.slots}
        if len(keys) != len(params) or any(set(slots) != mine for slots in state.values()):
            raise ValueError(f"the state must be of {len(params)} tensors with the slots {', '.join(sorted(mine))}")
        group.update({name: value for name, value in saved[0].items() if name not in ("params", "param_names")})
        for key in keys:
            self._step = int(state[key]["step"])
        for path, slot in self.program.slots.items():
            for key, index in zip(keys, self._places(slot.kind), strict=True):
                self._flat[path][index] = state[key][path].to(self._flat[path])

    def __getstate__(self) -> dict[str, Any]:
        kept = ("defaults", "param_groups", "expression", "_step", "_rate", "_flat")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.info = {}
        self._build()
        self._ready = True
