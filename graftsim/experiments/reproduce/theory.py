"""The regret bound of AdaGrad with epsilon = 0, and the geometry of one grafted step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graftsim.compiler import build
from graftsim.engine import Engine
from graftsim.experiments import figures
from graftsim.experiments.papers import regret
from graftsim.experiments.reproduce.findings import Asking, Claim, Finding, Number, Picture, Size, Verdict
from graftsim.experiments.reproduce.pictures import INK, PALETTE, Drawing

RATES = (0.05, 0.3, 1.0, 3.0)
STEPS, COORDINATES = 60, 6


def bound(size: Size) -> Asking:
    """Regret and curvature over their bounds, for all streams, rates and seeds."""
    yield []
    seeds = size.seeds(10)
    worst: dict[str, list[tuple[float, float]]] = {kind: [] for kind in regret.STREAMS}
    for kind in regret.STREAMS:
        for seed in range(seeds):
            gradients = regret.stream(kind, STEPS, COORDINATES, seed)
            best = np.random.default_rng(seed).standard_normal(COORDINATES)
            plays = [regret.play(regret.ADAGRAD, gradients, best, lr) for lr in RATES]
            worst[kind].append((max(p.regret / p.bound for p in plays), max(p.curvature / p.lemma for p in plays)))
    largest = {kind: tuple(max(row[i] for row in rows) for i in (0, 1)) for kind, rows in worst.items()}
    holds = all(max(pair) <= 1 for pair in largest.values())
    numbers = [
        Number(f"{kind}: worst regret and curvature over their bounds", f"{a:.3f} and {b:.3f}", seeds)
        for kind, (a, b) in largest.items()
    ]
    drawing = Drawing()
    with drawing as (axis,):
        for i, kind in enumerate(regret.STREAMS):
            axis.plot([row[0] for row in worst[kind]], [i + 0.12] * seeds, "o", color=PALETTE[0], ms=4, alpha=0.6)
            axis.plot([row[1] for row in worst[kind]], [i - 0.12] * seeds, "s", color=PALETTE[1], ms=4, alpha=0.6)
        axis.plot([], [], "o", color=PALETTE[0], label="regret")
        axis.plot([], [], "s", color=PALETTE[1], label="sum of g' H^+ g")
        axis.axvline(1, color=INK, lw=1, ls="--")
        axis.set(xlabel="part of its bound", xlim=(min(0, axis.get_xlim()[0]), 1.05))
        axis.set_yticks(range(len(regret.STREAMS)), regret.STREAMS)
        axis.legend()
    note = (
        "The bound is sum_i (D_i^2 / (2 eta) + eta) h_i with H_t that includes g_t. As printed, "
        "without g_t and without the two terms, it does not hold: see the misprints."
    )
    caption = "The worst of four learning rates, a dot for each seed."
    return Finding(Verdict.of(holds), tuple(numbers), (Picture(caption, drawing.svg),), note)


def geometry(size: Size) -> Asking:
    """One step of M, D and M#D at random points of the plane."""
    yield []
    seeds = 20
    gradients = [np.random.default_rng(seed).standard_normal(2) for seed in range(seeds)]
    off = []
    for gradient in gradients:
        m, d, both = _steps(gradient)
        off.append((_length(both) / _length(m) - 1, float(both @ d) / _length(both) / _length(d) - 1))
    largest = np.abs(off).max(axis=0).tolist()
    numbers = (
        Number("length of M#D's step over M's, less 1: largest", f"{largest[0]:.1e}", seeds),
        Number("cosine of M#D's step and D's, less 1: largest", f"{largest[1]:.1e}", seeds),
    )
    drawing, (m, d, both) = Drawing(width=4, height=3.4), _steps(np.array([-1.0, -0.25]))
    with drawing as (axis,):
        figures.geometry(axis, m, d, both)
    caption = "A step of M, of D, and of M#D, which ends where D's ray meets the circle of M's length."
    return Finding(Verdict.of(max(largest) < 1e-14), numbers, (Picture(caption, drawing.svg),))


def _steps(gradient: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The first step of SGD, AdaGrad and their graft."""
    m, d = "sgd(lr=0.6)", "adagrad(lr=1, eps=0)"
    found = []
    for machine in (m, d, f"graft({m}, {d}, partition=global)"):
        engine = Engine(build(machine, {"w": (2,)}))
        found.append(engine.step(np.zeros(2), gradient, engine.initial_state(), 1).delta)
    return found


def _length(step: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(step))


CLAIMS = (
    Claim(
        "geometry",
        2021,
        "Figure 1",
        "M#D uses the update magnitude of M and the direction of D.",
        "One step of SGD, AdaGrad and SGD#AdaGrad on 20 random gradients in the plane.",
        "Length and direction agree to 1e-14.",
        geometry,
    ),
    Claim(
        "regret",
        2020,
        "Theorem 3, appendix D.2",
        "AdaGrad's regret bound holds with pseudo-inverse updates, that is with epsilon = 0.",
        f"Linear losses of six kinds, {COORDINATES} coordinates, {STEPS} steps, four learning rates; "
        "the bound with its constants.",
        "Neither the regret nor the sum of the lemma exceeds its bound for any stream, rate and seed.",
        bound,
    ),
)
