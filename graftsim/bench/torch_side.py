"""What torch does with the same work, eagerly: its optimizers one after the other, and a graft around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from graftsim.bench.workload import BETA1, BETA2, EPS, Rates
from graftsim.layouts import Array, Layout

VARIANTS: dict[str, dict[str, bool]] = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
GRAFTS: dict[str, dict[str, bool]] = {"default": {}, "fused": {"fused": True}}


class Pair:
    """torch.optim's Adam and SGD with momentum on the same tensors."""

    def __init__(self, rates: Rates, weights: list[Any], flags: dict[str, bool]) -> None:
        self.weights = weights
        self.adam = torch.optim.Adam(weights, lr=rates.adam, **flags)
        self.momentum = torch.optim.SGD(weights, lr=rates.momentum, momentum=rates.mass, **flags)

    def both(self) -> None:
        self.adam.step()
        self.momentum.step()

    def graft(self) -> list[tuple[Any, Any, Any]]:
        """Adam's step length in the direction of momentum's step, tensor by tensor; both norms and the ratio.

        The optimizers are black boxes that change weights: save, step, look, restore, step, look, set.
        """
        with torch.no_grad():
            saved = [w.clone() for w in self.weights]
            self.adam.step()
            n_m = [torch.linalg.vector_norm(w - old) for w, old in zip(self.weights, saved, strict=True)]
            for w, old in zip(self.weights, saved, strict=True):
                w.copy_(old)
            self.momentum.step()
            info = []
            for w, old, magnitude in zip(self.weights, saved, n_m, strict=True):
                delta = w - old
                length = torch.linalg.vector_norm(delta)
                ratio = torch.where(length == 0, 0.0, magnitude / length)
                torch.add(old, delta * ratio, out=w)
                info.append((magnitude, length, ratio))
        return info


class WrittenOut:
    """A graft of the same two as many write it into an optimizer: the steps of both, tensor by tensor, and their norms.

    So do optimizers with a graft inside: it reads nothing back, and makes its temporaries anew.
    """

    def __init__(self, rates: Rates, weights: list[Any]) -> None:
        self.rates, self.weights, self.t = rates, weights, 0
        self.state = [[torch.zeros_like(w) for _ in range(3)] for w in weights]

    def __call__(self) -> None:
        self.t += 1
        with torch.no_grad():
            for w, (m, v, b) in zip(self.weights, self.state, strict=True):
                g = w.grad
                m.mul_(BETA1).add_(g, alpha=1 - BETA1)
                v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
                root = (v / (1 - BETA2**self.t)).sqrt_().add_(EPS)
                adam = (m / root).mul_(self.rates.adam / (1 - BETA1**self.t))
                step = b.mul_(self.rates.mass).add_(g) * self.rates.momentum
                length = torch.linalg.vector_norm(step)
                ratio = torch.where(length == 0, 0.0, torch.linalg.vector_norm(adam) / length)
                w.sub_(step.mul_(ratio))


class Stepper:
    """One contestant; its gradients are views of the array that all share."""

    def __init__(self, name: str, grafts: bool, pair: Pair) -> None:
        self.name, self.grafts, self.pair = name, grafts, pair

    def __call__(self) -> None:
        if self.grafts:
            self.pair.graft()
        else:
            self.pair.both()

    def weight(self, tensor: int) -> Array:
        """The weights of a tensor, as a view."""
        found: Array = self.pair.weights[tensor].detach().numpy()
        return found


def steppers(rates: Rates, layout: Layout, gradient: Array, threads: int) -> Iterator[Stepper]:
    """Both optimizers without a graft in each of torch's implementations, and the graft around two of them."""
    torch.set_num_threads(threads)
    for variant, flags in VARIANTS.items():
        yield Stepper(f"torch Adam then SGD ({variant})", False, Pair(rates, tensors(layout, gradient), flags))
    for variant, flags in GRAFTS.items():
        yield Stepper(f"torch black-box graft ({variant})", True, Pair(rates, tensors(layout, gradient), flags))


def tensors(layout: Layout, gradient: Array) -> list[Any]:
    """Weights of zero, whose gradients are views of the array."""
    found = []
    for part in layout.unflatten(gradient):
        tensor = torch.zeros(part.shape, dtype=torch.float32 if part.dtype == np.float32 else torch.float64)
        tensor.grad = torch.from_numpy(part)
        found.append(tensor)
    return found


def threads(count: int) -> None:
    """How many threads torch's own operations use from here on."""
    torch.set_num_threads(count)


def runner(rates: Rates, eigenvalues: Array, steps: int) -> Callable[[], Array]:
    """A whole run on the diagonal quadratic from ones: shape (steps, 4), rows (loss, n_m, n_d, ratio)."""
    torch.set_num_threads(1)  # a vector this small has no work for two
    h = torch.from_numpy(eigenvalues)

    def run() -> Array:
        w = torch.ones_like(h)
        pair = Pair(rates, [w], {})
        record = []
        for _ in range(steps):
            w.grad = h * w
            loss = 0.5 * (w * w.grad).sum()
            record.append(torch.stack([loss, *pair.graft()[0]]))
        found: Array = torch.stack(record).numpy()
        return found

    return run
