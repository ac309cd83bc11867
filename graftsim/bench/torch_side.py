"""What torch does with the same work, eagerly: its optimizers one after the other, and a graft around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from graftsim.bench.workload import Rates
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
        self.momentum = torch.optim.SGD(weights, lr=rates.momentum, momentum=0.9, **flags)

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

    def weights() -> list[Any]:
        tensors = []
        for part in layout.unflatten(gradient):
            tensor = torch.zeros(part.shape, dtype=torch.float32 if part.dtype == np.float32 else torch.float64)
            tensor.grad = torch.from_numpy(part)
            tensors.append(tensor)
        return tensors

    for variant, flags in VARIANTS.items():
        yield Stepper(f"torch Adam then SGD ({variant})", False, Pair(rates, weights(), flags))
    for variant, flags in GRAFTS.items():
        yield Stepper(f"torch black-box graft ({variant})", True, Pair(rates, weights(), flags))


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
