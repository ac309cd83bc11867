"""Closed forms of curves: Adam's bias correction, and ratios of step lengths whose correction is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from graftsim.compiler import build
from graftsim.engine import Engine
from graftsim.experiments.discovery import fits
from graftsim.experiments.reproduce.findings import Asking, Claim, Finding, Number, Picture, Size, Verdict
from graftsim.experiments.reproduce.pictures import PALETTE, Drawing

Floats = NDArray[np.float64]
BETA1, BETA2 = 0.9, (0.95, 0.98, 0.99, 0.999, 0.9999)


def factor(beta2: float, steps: NDArray[np.int64]) -> Floats:
    """sqrt(1 - beta2^t) / (1 - beta1^t) for beta1 = 0.9."""
    return np.asarray(np.sqrt(-np.expm1(steps * math.log(beta2))) / -np.expm1(steps * math.log(BETA1)))


def _measured(beta2: float, steps: int) -> Floats:
    """The same from two machines: Adam's step over that of the same method without bias correction."""
    adam = Engine(build(f"adam(lr=1, eps=0, beta2={beta2})", {"w": (1,)}))
    plain = Engine(build(f"second_moment(lr={(1 - BETA1) / math.sqrt(1 - beta2)!r}, beta2={beta2})", {"w": (1,)}))
    found, states = [], [adam.initial_state(), plain.initial_state()]
    gradients = np.random.default_rng(0).standard_normal(steps) + 1.5
    for t in range(1, steps + 1):
        outs = [e.step(np.zeros(1), gradients[t - 1 : t], s, t) for e, s in zip((adam, plain), states, strict=True)]
        states = [out.state for out in outs]
        found.append(float(outs[0].delta[0] / outs[1].delta[0]))
    return np.array(found)


def bias_correction(size: Size) -> Asking:
    """The factor for five values of beta2, and the same as the quotient of two machines' steps."""
    yield []
    far = np.arange(1, 200_001)
    curves = {beta2: factor(beta2, far) for beta2 in BETA2}
    scales = {beta2: float(curves[beta2][round(1 / (1 - beta2)) - 1]) for beta2 in BETA2}
    late = {b: int(far[(curves[b] >= 0.99) & (far > far[curves[b].argmin()])][0]) * (1 - b) for b in BETA2}
    off = max(float(np.abs(_measured(b, 200) / curves[b][:200] - 1).max()) for b in (0.99, 0.999))
    common = [b for b in BETA2 if b >= 0.99]
    holds = off < 1e-12 and all(0.79 < scales[b] < 0.80 and 3.5 < late[b] < 4.5 for b in common)
    numbers = [Number(f"factor at t = 1/(1 - beta2), beta2 = {b}", f"{scales[b]:.4f}") for b in BETA2]
    numbers += [
        Number("its limit, sqrt(1 - 1/e)", f"{math.sqrt(1 - math.exp(-1)):.4f}"),
        Number("0.99 is reached, in units of 1/(1 - beta2)", ", ".join(f"{late[b]:.2f}" for b in BETA2)),
        Number(
            "least value and its step, beta2 = 0.999",
            f"{curves[0.999].min():.4f} at {int(far[curves[0.999].argmin()])}",
        ),
        Number("closed form and the quotient of two machines' steps: largest relative difference", f"{off:.1e}"),
    ]
    drawing, shown = Drawing(), np.unique(np.geomspace(1, 100_000, 400).astype(np.int64))
    with drawing as (axis,):
        for colour, beta2 in zip(PALETTE, BETA2, strict=False):
            axis.plot(shown, curves[beta2][shown - 1], color=colour, label=f"beta2 = {beta2}")
        axis.set(xscale="log", xlabel="step", ylabel="bias correction of the rate")
        axis.legend()
    note = (
        "For common beta2 it is a warm-up, after a dip: the factor falls for the first dozen steps, "
        "and with beta2 = 0.95 and 0.98 it begins above 1."
    )
    return Finding(Verdict.of(holds), tuple(numbers), (Picture("The factor for beta1 = 0.9.", drawing.svg),), note)


GENERATORS: dict[str, tuple[Callable[[Floats], Floats], float, str]] = {
    "constant": (lambda t: np.ones_like(t), 0.5, "t^0.5"),
    "sqrt(2t - 1)": (lambda t: np.sqrt(2 * t - 1), 1.0, "t exactly"),
    "t^0.25": (lambda t: t**0.25, 0.75, "t^0.75 in the limit"),
    "t^-0.23": (lambda t: t**-0.23, 0.27, "t^0.27 in the limit"),
}
"""Sizes of the gradient by step, the exponent of the ratio |SGD's step| / |AdaGrad's step|, and its form."""


def generators(size: Size) -> Asking:
    """SGD#AdaGrad on one coordinate for each size of gradients; the fits of the recorded ratio."""
    yield []
    steps = np.arange(1, 4001)
    streams = np.stack([form(steps.astype(np.float64)) for form, *_ in GENERATORS.values()], axis=1)
    ratios = _ratios(streams)
    powers = [fits.power(steps, ratios[:, i]) for i in range(len(GENERATORS))]
    line = fits.line(steps, ratios[:, 1])
    assert line is not None
    found = {name: power.factor.alpha for name, power in zip(GENERATORS, powers, strict=True) if power is not None}
    off = {name: abs(found[name] - wanted) for name, (_, wanted, _) in GENERATORS.items()}
    straight = max(abs(line.factor.c1 - 1), abs(line.factor.c0))
    holds = straight < 1e-9 and max(off.values()) < 0.01
    numbers = [
        Number(f"gradients of size {name}: exponent found, expected {wanted:g}", f"{found[name]:.4f}")
        for name, (_, wanted, _) in GENERATORS.items()
    ]
    numbers.append(
        Number("gradients of size sqrt(2t - 1): line, largest error of slope 1 and intercept 0", f"{straight:.1e}")
    )
    drawing, shown = Drawing(), np.unique(np.geomspace(1, len(steps), 200).astype(np.int64))
    with drawing as (axis,):
        for i, (name, (_, _, form)) in enumerate(GENERATORS.items()):
            axis.plot(shown, ratios[shown - 1, i], color=PALETTE[i], label=f"gradients {name}: {form}")
        axis.set(xscale="log", yscale="log", xlabel="step", ylabel="|SGD's step| / |AdaGrad's step|")
        axis.legend()
    note = (
        "For one coordinate the ratio is the root of the sum of squared gradients. A linear "
        "correction for AdaGrad, as in "
        "Figure 4 of the 2020 paper, therefore says that the gradient's norm grows like the root of the step."
    )
    return Finding(Verdict.of(holds), tuple(numbers), (Picture("Ratios with known corrections.", drawing.svg),), note)


def _ratios(streams: Floats) -> Floats:
    """n_M / n_D of SGD#AdaGrad, a group for each column of gradients, shape (T, k)."""
    machine = "graft(sgd(lr=1), adagrad(lr=1, eps=0), partition=coordinate)"
    engine = Engine(build(machine, {"w": (streams.shape[1],)}))
    state, rows = engine.initial_state(), []
    for number, gradient in enumerate(streams, 1):
        out = engine.step(np.zeros(streams.shape[1]), gradient, state, number)
        state = out.state
        rows.append(out.info["n_m"] / out.info["n_d"])
    return np.array(rows)


CLAIMS = (
    Claim(
        "bias-correction",
        2020,
        "Figure 8, section 5.2",
        "Adam's bias correction takes the shape of a redundant warm-up on the scale of 1/(1 - beta2) steps.",
        "The closed form of the factor for beta1 = 0.9 and five values of beta2, compared with the "
        "quotient of the steps of Adam and of the same method without it.",
        "For beta2 of 0.99 and more the factor at 1/(1 - beta2) is between 0.79 and 0.80 and reaches "
        "0.99 at about four times that; both machines agree with it to 1e-12.",
        bias_correction,
    ),
    Claim(
        "known-corrections",
        2020,
        "Figures 4 and 11",
        "From the norms of M's and D's steps a linear or polynomial correction can be found.",
        "SGD#AdaGrad with gradients of four prescribed sizes over 4000 steps, whose ratio is known in closed form.",
        "The slope 1 to 1e-9, and the exponents 0.5, 0.75 and 0.27 to 0.01.",
        generators,
    ),
)
