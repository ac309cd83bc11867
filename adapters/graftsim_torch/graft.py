"""M#D for PyTorch: the step length of one optimizer, the direction of another (``spec/grafting.md``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from graftsim_torch import checkpoints, children, chunks, closed_forms, groups, partitions, proposals, recovery
from graftsim_torch.children import BlackBox, Child, ClosedForm
from graftsim_torch.chunks import Chunk
from graftsim_torch.info import Info, Numbers
from graftsim_torch.proposals import Watch
from graftsim_torch.scaling import Scaling
from graftsim_torch.steps import Steps, add_scaled, graft_coordinates, scaled


class Graft(Optimizer):  # type: ignore[misc]
    """The graft of two optimizers: in each group of the partition, D's step at the length of M's.

    With the children's steps m and d from the same weights and gradient, and norms taken in each group,

        w <- w + scale * ratio * d,    ratio = 0 where d = 0, else |m| / (|d| + eps)

    Sources: Agarwal, Anil, Hazan, Koren, Zhang 2020, Algorithm 2, and 2021, Algorithm 1.

    Args:
        params: as of any torch optimizer: tensors, named tensors, or param groups. The keys of a group reach each
            child that knows them; ``{"params": ..., "magnitude": {...}, "direction": {...}}`` sets one child's.
        magnitude: the optimizer M whose step length is taken: a class, a factory such as
            ``partial(Adam, lr=1e-3)``, or an instance over the same parameters; :func:`declare` says more of one.
        direction: the optimizer D whose direction is taken; with ``eps=0`` its learning rate does not matter.
        partition: ``tensor`` (layer-wise), ``global``, ``axis(k)``, ``row``, ``fan_out``, ``coordinate``, ``block(n)``
            or ``pattern(name='glob', ..., rest=None)``, which needs named parameters.
        eps: added to the direction's norm; 0 is the 2021 paper's rule.
        scale: multiplies every step; the attribute of this name may be changed between steps.

    ``param_groups`` are the magnitude's, so a scheduler acts on the magnitude; ``opt.magnitude`` and ``opt.direction``
    are the children, and a scheduler may be given either. ``opt.info`` has the norms and ratios of the last step.
    ``opt.watch`` may be set to a function of a role, a parameter and that child's own step for it, as a float64 tensor;
    it is called within each step, is not part of checkpoints, and costs nothing while it is None.

    Parameters may be float32 or float64, or float16 or bfloat16, whose steps and state are kept in float32 and rounded
    into the weights once.

    Raises:
        TypeError: a child that is no optimizer, complex parameters, a partition that is not text.
        ValueError: an unknown key of a param group or partition, eps or scale below 0, an optimizer that cannot be
            grafted, ``differentiable=True``.
    """

    watch: Watch | None = None

    def __init__(
        self,
        params: Any,
        magnitude: Any,
        direction: Any,
        *,
        partition: str = "tensor",
        eps: float = 0.0,
        scale: float | Tensor = 1.0,
    ) -> None:
        for name, value in (("eps", eps), ("scale", scale)):
            if not isinstance(value, Tensor) and not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number that is at least 0; received {value}")
        self.partition, self.eps, self.scale = partition, eps, scale
        self.param_groups: list[dict[str, Any]]
        self._last: tuple[list[Tensor], list[Numbers]] | None
        self._children: dict[str, Child] = {}
        super().__init__(params, {})
        if isinstance(magnitude, Optimizer) and magnitude is direction:
            direction = children.twin(magnitude)  # one object would step twice (GS-graft-independent)
        keys = [groups.keys(group) for group in self.param_groups]
        for role, spec in zip(groups.ROLES, (magnitude, direction), strict=True):
            given = [groups.given(group, key, role) for group, key in zip(self.param_groups, keys, strict=True)]
            optimizer, declared = children.make(spec, given, role)
            self._children[role] = _child(optimizer, declared, role)
        for index, key in enumerate(keys):
            groups.settle(self._children, index, key)
        self.defaults = {**self.magnitude.defaults, "differentiable": False}
        self.param_groups = list(self.magnitude.param_groups)
        self._forget()
        groups.check(self._children)

    # -- what a user sees ----------------------------------------------------------------------------------------

    @property
    def magnitude(self) -> Optimizer:
        """The child whose step length is taken."""
        return self._children["magnitude"].optimizer

    @property
    def direction(self) -> Optimizer:
        """The child whose direction is taken."""
        return self._children["direction"].optimizer

    @property
    def state(self) -> dict[Any, dict[str, Any]]:
        """All state of both children: by parameter, ``magnitude.exp_avg`` and so on."""
        return checkpoints.joined({role: child.optimizer.state for role, child in self._children.items()})

    @state.setter
    def state(self, value: Any) -> None:
        """The base class assigns an empty one; the children own theirs."""

    @property
    def info(self) -> Info | None:
        """Norms and ratios of the last step; None before the first, and under ``coordinate``."""
        params, numbers = self._last or ([], [])
        if not numbers:
            return None
        index, labels = self._scaling.groups(params, self._params())
        return Numbers.join(numbers).scattered(index, labels)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; a closure is evaluated once, with gradients enabled, and its value returned.

        Raises:
            ValueError: a sparse gradient.
            TypeError: a complex one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        batch, numbers = chunks.batch(self.param_groups), []
        for chunk in chunks.pieces(batch) if self.streams else chunks.at_once(batch):
            steps, factors, found = self._proposed(chunk)
            add_scaled([weight for part in chunk for weight in part.weights], steps, factors)
            numbers += found
        self._last = ([param for part in batch for param in part.params], numbers)
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; the group's keys reach the children as at construction."""
        if not self._children:
            super().add_param_group(param_group)
            return
        key = groups.keys(param_group)
        plain = {name: value for name, value in param_group.items() if name in ("params", "param_names")}
        super().add_param_group(plain)
        added = self.param_groups.pop()
        group: dict[str, Any] = {name: added[name] for name in groups.NAMES if name in added}
        for role, child in self._children.items():
            stand_ins = {param: children.scratch(param) for param in group["params"]}
            given = groups.given(group, key, role)
            child.optimizer.add_param_group({**given, "params": list(stand_ins.values())})
            children.rekey(child.optimizer, {stand_in: param for param, stand_in in stand_ins.items()})
        groups.settle(self._children, len(self.param_groups), key)
        self.param_groups.append(self.magnitude.param_groups[-1])
        self._forget()
        groups.check(self._children)

    def state_dict(self) -> dict[str, Any]:
        """State of both children, their hyperparameters (the direction's as ``direction.lr`` ...), eps and scale."""
        found: dict[str, Any] = super().state_dict()
        for index, group in enumerate(found["param_groups"]):
            group |= self.settings(index)
        return found

    def settings(self, index: int) -> dict[str, Any]:
        """What a checkpoint holds of a param group beside the magnitude's own entries."""
        return checkpoints.settings(self, index)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Resume: the steps that follow have the bits of the unbroken run.

        Raises:
            ValueError: other param groups than this optimizer's, or state of other children.
        """
        checkpoints.load(self, dict(state_dict))

    def __getstate__(self) -> dict[str, Any]:
        kept = ("defaults", "param_groups", "partition", "eps", "scale", "_children")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def rekey(self, keys: Mapping[Any, Tensor]) -> None:
        """Put other parameters in the place of these, in both children."""
        for child in self._children.values():
            children.rekey(child.optimizer, keys)
        self._forget()

    # -- one step ------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> bool:
        """Whether some tensors may be stepped before others are looked at; then fewer are held in memory."""
        return self._scaling.separate and all(child.streams for child in self._children.values())

    def propose(self, chunk: Chunk) -> Steps:
        """Its own step: a graft is a child like any other."""
        steps, factors, numbers = self._proposed(chunk)
        self._last = ([param for part in chunk for param in part.params], numbers)
        return scaled(steps, factors)

    @property
    def optimizer(self) -> Graft:
        """Itself, as a child."""
        return self

    def _proposed(self, chunk: Chunk) -> tuple[Steps, Tensor | list[Tensor], list[Numbers]]:
        """D's steps, what each is to be multiplied by, and the norms that say so; none under ``coordinate``."""
        scaling, params = self._scaling, [param for part in chunk for param in part.params]
        if scaling.partition.kind == "coordinate":
            return self._coordinates(chunk, params)
        lengths: dict[str, list[Tensor]] = {role: [] for role in groups.ROLES}
        proposed = []
        for role, piece in proposals.order(self._children, chunk):
            steps = proposals.proposed(self._children[role], role, piece, self.watch)
            lengths[role].append(scaling.lengths([param for part in piece for param in part.params], steps))
            if role == "direction":
                proposed.append(steps)
            del steps  # the magnitude's are given up before the direction makes its own
        both = scaling.pooled(params, [torch.cat(each) if len(each) > 1 else each[0] for each in lengths.values()])
        ratio, factor = scaling.ratio(both[0], both[1], self.eps, self.scale)
        steps = Steps.join(proposed)
        error = proposals.direction_error(self._children["direction"], scaling, chunk, steps, both[1])
        return steps, scaling.factors(params, factor, steps.tensors), [Numbers(both[0], both[1], ratio, error)]

    def _coordinates(self, chunk: Chunk, params: list[Tensor]) -> tuple[Steps, Tensor, list[Numbers]]:
        m, d = (proposals.proposed(child, role, chunk, self.watch) for role, child in self._children.items())
        factor = torch.ones(len(params), dtype=torch.float64, device=d.tensors[0].device)
        return graft_coordinates(m, d, self.eps, self.scale), factor, []

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    def _forget(self) -> None:
        """Drop what is derived from the param groups; the next step derives it again."""
        names = [name for group in self.param_groups for name in group.get("param_names", [])]
        self._scaling = Scaling(partitions.parse(self.partition), self._params(), names or None)
        self._last = None


def _child(optimizer: Optimizer, declared: Any, role: str) -> Child:
    if isinstance(optimizer, Graft):
        return optimizer
    knowledge = recovery.known(optimizer, declared)
    if type(optimizer) in closed_forms.RULES:
        return ClosedForm(optimizer)
    amplified = role == "direction" and knowledge.linear and not knowledge.blind
    return BlackBox(optimizer, knowledge, amplified)
