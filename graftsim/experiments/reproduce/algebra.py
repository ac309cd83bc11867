"""The algebra of grafting (2021 paper, section 3): identities on random gradients, and two grafts that go wrong."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from graftsim import problems
from graftsim.compiler import build
from graftsim.engine import Engine
from graftsim.experiments.plans import grafted
from graftsim.experiments.reproduce.findings import Asking, Claim, Finding, Number, Picture, Size, Verdict, trained
from graftsim.experiments.reproduce.pictures import PALETTE, Drawing, by_steps
from graftsim.experiments.trials import Trial
from graftsim.layouts import Layout

Floats = NDArray[np.float64]
LAYOUT = Layout.of({"a": (3,), "b": (), "c": (2, 4)})
PARTITIONS = ("global", "tensor", "coordinate")
STEPS, SEEDS = 60, 5
SGD, ADAGRAD = "momentum(lr=0.1)", "adagrad(lr=0.05, eps=0, momentum=0.9, momentum_on=raw_gradient)"
ADAM, SLOWED = "adam(lr=0.01, eps=0)", "momentum(lr=0.1/step)"
ROUNDINGS = 1e-14
"""So much room for a dozen roundings in a step, each 1.1e-16."""


def _steps(machine: str, seed: int) -> Floats:
    """The steps on random gradients of very different sizes, which do not depend on the weights: shape (T, n)."""
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((STEPS, LAYOUT.size)) * np.exp(2 * rng.standard_normal(LAYOUT.size))
    engine = Engine(build(machine, LAYOUT))
    weights, state, deltas = np.zeros(LAYOUT.size), engine.initial_state(), []
    for number, gradient in enumerate(gradients, 1):
        out = engine.step(weights, gradient, state, number)
        weights, state = out.weights, out.state
        deltas.append(out.delta)
    return np.array(deltas)


def _gap(first: str, second: str) -> list[float]:
    """For each seed the largest difference of the steps, as a part of the largest step."""
    found = []
    for seed in range(SEEDS):
        a, b = _steps(first, seed), _steps(second, seed)
        found.append(float(np.abs(a - b).max() / np.abs(b).max()))
    return found


def _identities(over: str) -> dict[str, tuple[str, str]]:
    """What must equal what, over a partition."""

    def graft(m: str, d: str) -> str:
        return grafted(m, d, over)

    return {
        "SGD#SGD = SGD": (graft(SGD, SGD), SGD),
        "Adam#Adam = Adam": (graft(ADAM, ADAM), ADAM),
        "another schedule in D": (graft(SGD, SLOWED), graft(SGD, SGD)),
        "(M#A)#D = M#D": (graft(graft(SGD, ADAM), ADAGRAD), graft(SGD, ADAGRAD)),
        "M#(A#D) = M#D": (graft(SGD, graft(ADAM, ADAGRAD)), graft(SGD, ADAGRAD)),
    }


def identities(size: Size) -> Asking:
    """Each identity over each partition; and what must not be equal."""
    yield []
    gaps = {(name, over): max(_gap(*pair)) for over in PARTITIONS for name, pair in _identities(over).items()}
    bits = {key: gap for key, gap in gaps.items() if key[0].split(" ")[0] in ("SGD#SGD", "Adam#Adam")}
    same_momentum = max(_gap(grafted(SGD, ADAGRAD, "coordinate"), SGD))
    other_momentum = min(_gap(grafted(SGD, "rmsprop(lr=0.02)", "coordinate"), SGD))
    exchanged = min(_gap(grafted(SGD, ADAGRAD, "tensor"), grafted(ADAGRAD, SGD, "tensor")))
    nothing = grafted(grafted(SGD, "sgd(lr=0)", "tensor"), ADAGRAD, "tensor")
    stays = max(float(np.abs(_steps(nothing, seed)).max()) for seed in range(SEEDS))
    holds = (
        not any(bits.values())
        and max(gaps.values()) <= ROUNDINGS
        and same_momentum <= ROUNDINGS
        and min(other_momentum, exchanged) > 0.1
        and stays == 0
    )
    names = list(_identities("global"))
    numbers = [
        Number(
            f"{name}: largest relative difference of a step, all partitions",
            _size(max(gaps[name, over] for over in PARTITIONS)),
            SEEDS,
        )
        for name in names
    ]
    numbers += [
        Number("per coordinate, same signs of steps: SGD#AdaGrad = SGD", _size(same_momentum), SEEDS),
        Number("per coordinate, other signs (D without momentum): least difference", _size(other_momentum), SEEDS),
        Number("M#D and D#M: least difference", _size(exchanged), SEEDS),
        Number("(M#0)#D, the exception: largest step", _size(stays), SEEDS),
    ]
    drawing = Drawing(width=6.2)
    with drawing as (axis,):
        for i, over in enumerate(PARTITIONS):
            heights = [max(gaps[name, over] - 1e-18, 0.0) for name in names]
            axis.barh(np.arange(len(names)) + 0.25 * (i - 1), heights, 0.22, color=PALETTE[i], label=over, left=1e-18)
        axis.set(xscale="log", xlim=(1e-18, 1), xlabel="largest relative difference of a step (no bar: the same bits)")
        axis.set_yticks(range(len(names)), names)
        axis.axvline(2.0**-53, color=PALETTE[3], lw=1, ls="--", label="one rounding")
        axis.legend()
    note = "Gradients are drawn and do not depend on the weights; the seeds are those of the gradients."
    caption = "The largest of all steps and seeds."
    return Finding(Verdict.of(holds), tuple(numbers), (Picture(caption, drawing.svg),), note)


def _size(gap: float) -> str:
    return "0, the same bits" if gap == 0 else f"{gap:.2g}"


def descent(size: Size) -> Asking:
    """Two quadratics on which M and D converge and M#D goes up at once, or diverges."""
    texts, trials = ("not_descent()", "divergent()"), {}
    steps = {"not_descent()": 400, "divergent()": 20}
    for text in texts:
        problem = problems.parse(text)
        m, d = problem.magnitude, problem.direction  # type: ignore[attr-defined]
        for name, machine in {"M": m, "D": d, "M#D": grafted(m, d, "global")}.items():
            trials[text, name] = [Trial(text, machine, steps[text])]
    found = yield from trained(trials)
    losses = {key: runs[0].loss for key, runs in found.items()}
    rises = losses["not_descent()", "M#D"][1] / losses["not_descent()", "M#D"][0]
    multiplier = problems.parse("divergent()").multiplier  # type: ignore[attr-defined]
    growth = losses["divergent()", "M#D"][-1] / losses["divergent()", "M#D"][-2]
    alone = {key: loss for key, loss in losses.items() if key[1] != "M#D"}
    holds = (
        rises > 100
        and abs(growth / multiplier**2 - 1) < 1e-6
        and all(loss[-1] < loss[0] for loss in alone.values())
        and all(
            b <= a for loss in (losses["not_descent()", "M"], losses["not_descent()", "D"]) for a, b in _pairs(loss)
        )
    )
    numbers = (
        Number(
            "loss before and after the first step of M#D",
            " and ".join(f"{x:.5g}" for x in losses["not_descent()", "M#D"][:2]),
        ),
        Number("what M#D multiplies the weights by at each step, in closed form", f"{multiplier:.4f}"),
        Number("growth of the loss in a step, and the square of that", f"{growth:.4f} and {multiplier**2:.4f}"),
    )
    drawing = Drawing(2)
    with drawing as axes:
        for axis, text in zip(axes, texts, strict=True):
            for i, name in enumerate(("M", "D", "M#D")):
                loss = losses[text, name][: 21 if text == "divergent()" else 101]
                axis.plot(range(len(loss)), loss, color=PALETTE[i], label=name)
            by_steps(axis, "loss", "up in one step" if text == texts[0] else "without bound")
        axes[0].legend()
    caption = "Quadratics with eigenvalues 1 and 100; M and D are gradient descent with preconditioners of their own."
    return Finding(Verdict.of(holds), numbers, (Picture(caption, drawing.svg),), "Nothing is drawn.")


def _pairs(loss: list[float]) -> list[tuple[float, float]]:
    return list(itertools.pairwise(loss))


CLAIMS = (
    Claim(
        "algebra",
        2021,
        "Section 3",
        "Grafting is idempotent, blind to D's schedule and associative in M and D, but not "
        "commutative; per coordinate, M#D = M where the signs of the steps agree.",
        f"Steps of SGD, Adam and AdaGrad with momentum and of their grafts on {STEPS} random gradients with {SEEDS} "
        "seeds, over the global, layer-wise and coordinate-wise partition.",
        "A#A = A to the bit, the other identities to 1e-14 of the largest step; M#D and D#M differ "
        "by more than a tenth, and a zero step of A stops (M#A)#D.",
        identities,
    ),
    Claim(
        "no-descent",
        2021,
        "Section 3",
        "Grafting is not necessarily a descent method, even if M and D are guaranteed to make progress.",
        "Two quadratics in two dimensions, with numbers of our own.",
        "M and D alone never increase the first and end lower on both; M#D raises the first more than a hundredfold in "
        "one step, and grows on the second by the predicted factor to 1e-6.",
        descent,
    ),
)
