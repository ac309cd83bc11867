"""Grafts that are on PyPI, as targets of ``graftsim check``.

    graftsim check grafts_in_the_wild:Torchzero
    graftsim check grafts_in_the_wild:ScalableShampoo
    graftsim check grafts_in_the_wild:SignLaProp
    python grafts_in_the_wild.py

None of them is changed. Each hands two steps to one function or method of its own; that place is watched, so that the
composition is judged apart from what the children compute.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from graftsim import notation
from graftsim_conformance import composition, golden
from graftsim_conformance.recording import OWN
from graftsim_conformance.verdicts import CandidateError, Verdict

ROLES = ("magnitude", "direction")
CLAIM = "graft(adam(eps_placement=corrected), sgd, partition=tensor)"
Numbers = Mapping[str, float]


def flat(tensors: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([tensor.detach().numpy().reshape(-1) for tensor in tensors])


def refuse(reason: str) -> CandidateError:
    return CandidateError(Verdict.NOT_SUPPORTED, reason)


class Torch:
    """What the three share: parameters, gradients, and steps that were seen on their way.

    The claim is Adam#SGD, whose cases are the richest. As a recipe it is meant for torchzero alone; the others have
    children that the spec has not, so that of them the composition is what counts.
    """

    machines = (CLAIM,)
    distributions = ("torch",)
    eps: float | None = None
    """Of the graft, where it cannot be chosen: small enough to stand for 0, and for nothing else."""

    def __init__(self, machine: str) -> None:
        self.machine = machine

    def start(self, layout: Any, weights: np.ndarray, arguments: Numbers) -> None:
        if arguments.get("scale", 1) != 1:
            raise refuse("it has no overall scale")
        if self.eps is not None and arguments["eps"] != 0:
            raise refuse(f"its eps is {self.eps:g}")
        self.layout, self.arguments = layout, dict(arguments)
        self.params = [torch.nn.Parameter(torch.tensor(np.array(part))) for part in layout.unflatten(weights)]
        self.seen: dict[str, np.ndarray] = {}
        self.optimizer = self.build()

    def build(self) -> torch.optim.Optimizer:
        raise NotImplementedError

    def own(self, role: str) -> dict[str, float]:
        """The hyperparameters of one child."""
        return {path[len(role) + 1 :]: value for path, value in self.arguments.items() if path.startswith(role + ".")}

    def see(self, magnitude: list[torch.Tensor], direction: list[torch.Tensor]) -> None:
        """Steps as they are added to the weights: these packages subtract."""
        self.seen = {"magnitude.delta": -flat(magnitude), "direction.delta": -flat(direction)}

    def step(self, gradients: np.ndarray, arguments: Numbers) -> np.ndarray:
        if any(arguments[path] != value for path, value in self.arguments.items() if not path.endswith(".lr")):
            raise refuse("only learning rates are driven during a run")
        self.arguments = dict(arguments)
        self.drive()
        for param, part in zip(self.params, self.layout.unflatten(gradients), strict=True):
            param.grad = torch.tensor(np.array(part))
        self.optimizer.step()
        return flat(self.params)

    def drive(self) -> None:
        """Set the learning rates of the step to come."""
        self.optimizer.param_groups[0]["lr"] = self.arguments["magnitude.lr"]

    def read_state(self, names: Mapping[str, str]) -> dict[str, np.ndarray]:
        return {}

    def info(self) -> dict[str, np.ndarray]:
        return self.seen


class Torchzero(Torch):
    """``tz.m.Graft`` of torchzero's Adam, which its documentation calls identical to torch.optim.Adam, and SGD."""

    distributions = ("torchzero", "torch")

    def build(self) -> Any:
        import torchzero

        self.rates: dict[str, Any] = {}
        graft = torchzero.m.Graft(**{role: self.child(role) for role in ROLES}, eps=self.arguments["eps"])
        combine = graft.transform

        def transform(objective: Any, magnitude: list[torch.Tensor], direction: list[torch.Tensor]) -> Any:
            self.see(magnitude, direction)
            return combine(objective, magnitude=magnitude, direction=direction)

        graft.transform = transform
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of two learning rates, which is what is wanted: each child has its own
            return torchzero.Optimizer(self.params, graft)

    def child(self, role: str) -> Any:
        from torchzero import m

        own = self.own(role)
        self.rates[role] = m.LR(own.pop("lr"))
        return [m.Adam(**own), self.rates[role]] if own else self.rates[role]

    def drive(self) -> None:
        for role, rate in self.rates.items():
            rate.defaults["lr"] = self.arguments[role + ".lr"]


class ScalableShampoo(Torch):
    """pytorch_optimizer's, with AdaGrad's step length and neither momentum nor waiting."""

    distributions = ("pytorch_optimizer", "torch")
    eps = 1e-16

    def build(self) -> torch.optim.Optimizer:
        from pytorch_optimizer import ScalableShampoo

        own = self.own("magnitude")
        optimizer = ScalableShampoo(
            self.params,
            lr=own["lr"],
            betas=(0.0, 0.999),
            nesterov=False,
            graft_type=2,  # AdaGrad
            diagonal_eps=own["eps"],
            start_preconditioning_step=1,
            preconditioning_compute_steps=1,
            use_svd=True,
        )
        for param in self.params:
            param.grad = torch.zeros_like(param)
        optimizer.init_group(optimizer.param_groups[0])
        return optimizer

    def step(self, gradients: np.ndarray, arguments: Numbers) -> np.ndarray:
        halves: dict[str, list[torch.Tensor]] = {}
        for param in self.params:
            state = self.optimizer.state[param]
            for part, method in (("graft", "precondition_gradient"), ("pre_conditioner", "preconditioned_grad")):
                watch(state[part], method, halves.setdefault(part, []))
        weights, rate = super().step(gradients, arguments), arguments["magnitude.lr"]
        lengths = [rate * step for step in halves["graft"]]
        # a tensor without a preconditioner is given its AdaGrad step for both
        directions = [
            rate * step if len(self.optimizer.state[param]["pre_conditioner"].pre_conditioners) else length
            for param, step, length in zip(self.params, halves["pre_conditioner"], lengths, strict=True)
        ]
        self.see(lengths, directions)
        return weights


def watch(part: Any, method: str, seen: list[torch.Tensor]) -> None:
    """Have what a method returns kept in ``seen`` as well."""
    function = getattr(type(part), method)

    def watched(gradient: torch.Tensor) -> torch.Tensor:
        seen.append(function(part, gradient).clone())
        return seen[-1].clone()

    setattr(part, method, watched)


class SignLaProp(Torch):
    """heavyball's: the signs of LaProp's step at the length of that step, without its compiler."""

    distributions = ("heavyball", "torch")
    eps = 1e-6

    def build(self) -> Any:
        import heavyball

        heavyball.utils.compile_mode = None
        warnings.filterwarnings("ignore", message="Learning rate changed")
        return heavyball.SignLaProp(self.params, lr=self.arguments["magnitude.lr"], compile_step=False)

    def step(self, gradients: np.ndarray, arguments: Numbers) -> np.ndarray:
        from heavyball import utils

        function, halves, rate = utils._compilable_grafting, [], arguments["magnitude.lr"]

        def watched(magnitude: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
            halves.append((rate * magnitude, rate * direction))
            return function(magnitude, direction)

        utils._compilable_grafting = watched
        try:
            weights = super().step(gradients, arguments)
        finally:
            utils._compilable_grafting = function
        self.see([one for one, _ in halves], [other for _, other in halves])
        return weights


def main() -> None:
    """The composition of each over the golden cases of Adam#SGD, whatever its children are."""
    instance = notation.parse(CLAIM)
    for kind in (Torchzero, ScalableShampoo, SignLaProp):
        found = [
            result
            for case in golden.of_machine(instance, edges=True)
            for result in composition.judged(lambda kind=kind: kind(CLAIM), instance, case, OWN)
        ]
        print(f"{kind.__name__}: the composition is right in {sum(one.passed for one in found)} of {len(found)} cases")
        for one in found:
            if not one.passed:
                print(f"  {one.case}: {one.reason}")


if __name__ == "__main__":
    main()
