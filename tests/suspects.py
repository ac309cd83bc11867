"""Optimizers under test, right and wrong ones, as a third party writes them; targets of ``graftsim check``."""

import os
import time

import numpy as np

from graftsim_conformance.mutated import ReferenceCandidate


class Adam:
    """Adam with eps beside the root, in the order of an ordinary implementation."""

    correct_m = True

    def init(self, weights, hyperparameters):
        zeros = {name: np.zeros_like(w) for name, w in weights.items()}
        return {"t": 0.0, "m": zeros, "v": {name: w.copy() for name, w in zeros.items()}}

    def step(self, weights, gradients, state, step, hyperparameters):
        lr, beta1, beta2, eps = (hyperparameters[name] for name in ("lr", "beta1", "beta2", "eps"))
        t = state["t"] + 1
        c1, c2 = 1 - beta1**t if self.correct_m else 1.0, 1 - beta2**t
        moved, new = {}, {"t": t, "m": {}, "v": {}}
        for name, w in weights.items():
            g = gradients[name]
            m = new["m"][name] = np.asarray(beta1 * state["m"][name] + (1 - beta1) * g, w.dtype)
            v = new["v"][name] = np.asarray(beta2 * state["v"][name] + (1 - beta2) * (g * g), w.dtype)
            root = np.sqrt(v / c2) + eps
            moved[name] = np.asarray(w - lr * np.where(root == 0, 0 * m, (m / c1) / root), w.dtype)
        return moved, new


class NoCorrection(Adam):
    correct_m = False


class Blind(Adam):
    """Its state cannot be read."""

    def init(self, weights, hyperparameters):
        return [super().init(weights, hyperparameters)]

    def step(self, weights, gradients, state, step, hyperparameters):
        moved, new = super().step(weights, gradients, state[0], step, hyperparameters)
        return moved, [new]


class Picky(Adam):
    """It does not take what it must take."""

    def step(self, weights, gradients, state, step, hyperparameters):
        if hyperparameters["eps"] > 1e-3:
            raise NotImplementedError("an eps above 1e-3")
        return super().step(weights, gradients, state, step, hyperparameters)


class Crashing(Adam):
    def step(self, *arguments):
        raise OSError("the \x1b[31mdisk\x1b[0m is <full>")


class Dying(Adam):
    """It ends its process at the second step of any run."""

    def step(self, weights, gradients, state, step, hyperparameters):
        if step == 2:
            os._exit(3)
        return super().step(weights, gradients, state, step, hyperparameters)


class Hanging(Adam):
    def step(self, *arguments):
        while True:
            time.sleep(0.01)


class Graft:
    """sgd#lion by hand, which shows what it computes."""

    m_rate, inverted = 1.0, False

    def init(self, weights, hyperparameters):
        return {"direction": {"m": {name: np.zeros_like(w) for name, w in weights.items()}}}

    def step(self, weights, gradients, state, step, hyperparameters):
        h, old = hyperparameters, state["direction"]["m"]
        beta1, beta2 = h["direction.beta1"], h["direction.beta2"]
        first = {n: np.asarray(-(h["magnitude.lr"] * self.m_rate * g), g.dtype) for n, g in gradients.items()}
        second = {
            n: np.asarray(-(h["direction.lr"] * np.sign(beta1 * old[n] + (1 - beta1) * g)), g.dtype)
            for n, g in gradients.items()
        }
        m = {n: np.asarray(beta2 * old[n] + (1 - beta2) * g, g.dtype) for n, g in gradients.items()}
        n_m, n_d = ({n: norm(x) for n, x in steps.items()} for steps in (first, second))
        over, under = (n_d, n_m) if self.inverted else (n_m, n_d)
        ratio = {n: 0.0 if under[n] == 0 else over[n] / (under[n] + h["eps"]) for n in n_d}
        moved = {
            n: np.asarray(w + np.asarray(h["scale"] * ratio[n] * second[n].astype("f8"), w.dtype), w.dtype)
            for n, w in weights.items()
        }
        info = {"n_m": list(n_m.values()), "n_d": list(n_d.values()), "ratio": list(ratio.values())}
        return moved, {"direction": {"m": m}}, {"magnitude.delta": first, "direction.delta": second, **info}


class OtherChild(Graft):
    """A right graft of a wrong M."""

    m_rate = 2.0


class Inverted(Graft):
    """A wrong graft of right children."""

    inverted = True


def norm(values):
    wide = np.abs(values.astype(np.float64))
    largest = wide.max(initial=0.0)
    if largest == 0 or not np.isfinite(largest):
        return float(largest if not np.isnan(wide).any() else np.nan)
    return float(largest * np.sqrt(((wide / largest) ** 2).sum()))


def family(machine):
    """An adapter: a candidate of any machine."""
    return ReferenceCandidate(machine)


family.machines = ("sgd", "sgd#lion")

right = Adam()
"""An object, not a class."""
number = 7
