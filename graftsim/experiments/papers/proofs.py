"""Misprints that a short run of a machine shows: algorithms and theorems of the 2020 paper, words of the 2021 one."""

from __future__ import annotations

import math

import numpy as np

from graftsim import problems
from graftsim.compiler import build
from graftsim.engine import Engine
from graftsim.experiments.discovery import rounding
from graftsim.experiments.papers import regret
from graftsim.experiments.papers.verdicts import Check, Line, Verdict, line
from graftsim.problems.rare import Rare
from graftsim.problems.wilson import Wilson
from graftsim.simulate import simulate


def _false(what: str, printed: str, found: str, shown: bool) -> Line:
    """A line on a statement that a run shows to be false (or, if the run does not show it, that stands)."""
    return Line(what, printed, found, Verdict.MISPRINT if shown else Verdict.AGREES)


def ascent() -> Check:
    """Algorithm 1, line 6, with the printed plus sign and with a minus, on a quadratic."""
    problem, lines = problems.parse("quadratic(dimension=10)"), []
    for name, machine in (("printed sign", "ascent_printed"), ("minus", "second_moment")):
        program = build(f"{machine}(lr=0.01)", problem.layout, machines=regret.printed())
        losses = simulate(problem, program, 20).loss
        rises = bool((np.diff(losses) > 0).all())
        found = f"from {losses[0]:.4g} to {losses[-1]:.4g} in 20 steps"
        lines.append(_false(f"loss of a quadratic with the {name}", "descends", found, rises))
    question = "Does Algorithm 1 descend with the sign of its line 6?"
    return Check("ascent-sign", 2020, "Algorithm 1, line 6", question, tuple(lines))


def accumulator() -> Check:
    """The one-line counterexample to the printed order: g = (1e-3, 1, -1), eta = 1, w_1 = w* = 0."""
    gradients, lines = np.array([[1e-3], [1.0], [-1.0]]), []
    for name, machine in (("as printed", regret.AS_PRINTED), ("with g_t in H_t", regret.ADAGRAD)):
        found = regret.play(machine, gradients, np.zeros(1), 1.0)
        shown = f"{found.curvature:.5g}"
        what = f"sum of g' H^+ g for g = (1e-3, 1, -1), {name}"
        lines.append(_false(what, f"at most {found.lemma:.3g}", shown, found.curvature > found.lemma))
    question = "Does the lemma hold when H_t is formed before g_t is in it?"
    return Check("inclusive-accumulator", 2020, "Appendix D.2, the update", question, tuple(lines))


def square() -> Check:
    """One gradient of 10: the summand is 10 and its printed square 100; the lemma's bound is 20."""
    found = regret.play(regret.ADAGRAD, np.array([[10.0]]), np.zeros(1), 1.0)
    squared = found.curvature**2
    lines = (
        _false(
            "g = 10, one step: the summand squared", f"at most {found.lemma:g}", f"{squared:g}", squared > found.lemma
        ),
        Line("the summand", f"at most {found.lemma:g}", f"{found.curvature:g}"),
    )
    return Check("regret-square", 2020, "Appendix D.2, the lemma", "Is the summand squared?", lines)


def rate() -> Check:
    """g_t = 1, eta = 1, w* where the run ends: regret over the printed bound grows as sqrt(T) / 3."""
    lines, before = [], 0.0
    for steps in (100, 400, 1600):
        end = -math.fsum(1 / math.sqrt(t) for t in range(1, steps + 1))
        found = regret.play(regret.ADAGRAD, np.ones((steps, 1)), np.array([end]), 1.0)
        ratio, share = found.regret / found.printed_bound, found.regret / found.bound
        what = f"T = {steps}: regret over max |w - w*| sum h (sqrt(T)/3 = {math.sqrt(steps) / 3:.2f})"
        lines.append(_false(what, "bounded", f"{ratio:.2f}", before > 0 and ratio > 1.8 * before))
        verdict = Verdict.AGREES if share <= 1 else Verdict.DIFFERS
        lines.append(Line(f"T = {steps}: regret over the bound with two terms", "at most 1", f"{share:.3f}", verdict))
        before = ratio
    question = "Does the bound of Theorem 3 hold for a fixed learning rate?"
    return Check("regret-rate", 2020, "Theorem 3", question, tuple(lines))


def replacement() -> Check:
    """Rare coordinates, 20 draws of the sample: the share of unseen coordinates."""
    d, c, draws, lines = 400, 0.5, 20, []
    for again in (False, True):
        mean = float(np.mean([Rare(d, c, again, draw).unseen for draw in range(draws)]))
        wanted = (1 - 1 / d) ** round(c * d) if again else 1 - c
        text = f"{mean:.4f} in {draws} draws; in expectation {wanted:.4f}"
        what = f"AdaGrad's test error, sampling {'with' if again else 'without'} replacement"
        lines.append(_false(what, f"1 - c = {1 - c:g}", text, abs(mean - (1 - c)) > 0.05))
    question = "Is AdaGrad's test error 1 - c?"
    return Check("rare-replacement", 2020, "Appendix D.1", question, tuple(lines))


def rare() -> Check:
    """SGD with two first learning rates beside AdaGrad, after one pass."""
    d, c = 400, 0.5
    problem = problems.parse(f"rare(coordinates={d}, share={c})")
    steps = round(c * d)

    def error(machine: str) -> float:
        return problem.loss(simulate(problem, machine, steps, record_every=steps).last)

    adagrad = error("adagrad(lr=1, eps=0)")
    slow, fast = (error(f"sgd(lr={first!r}/sqrt(step))") for first in (1.0, math.sqrt(d)))
    lines = (
        _false("SGD's error beside AdaGrad's", "significantly smaller", f"{slow:.4f}, {adagrad:.4f}", slow > adagrad),
        Line("SGD's error, first rate 1", f"at least 1 - c/2 = {1 - c / 2:g}", f"{slow:.4f}"),
        _false(
            "SGD's error, first rate sqrt(d), the best for the regret",
            f"at least 1 - c/2 = {1 - c / 2:g}",
            f"{fast:.4f}, AdaGrad's",
            fast == adagrad,
        ),
    )
    question = "Is SGD with the optimal 1/sqrt(t) decay worse than AdaGrad on rare coordinates?"
    return Check("rare-step-size", 2020, "Appendix D.1", question, lines)


def blocks() -> Check:
    """Wilson's construction and its reflected copy, after the same steps."""
    lines = []
    for machine in ("sgd(lr=0.018)", "adagrad(lr=0.1, eps=0)"):
        first, second = (Wilson(26, 14, 40, reflected=turned) for turned in (False, True))
        runs = [simulate(problem, machine, 150, record_every=150).last[:3] for problem in (first, second)]
        equal = bool((runs[0] == runs[1]).all())
        text = "the same bits" if equal else f"apart by {np.abs(runs[0] - runs[1]).max():.1e}"
        verdict = Verdict.AGREES if equal else Verdict.DIFFERS
        lines.append(Line(f"{machine}: shared weights with blocks of ones and of labels", "", text, verdict))
    question = "Does it matter that blocks hold the label, where the original holds ones?"
    return Check("wilson-blocks", 2020, "Appendix D.1", question, tuple(lines))


def closed_form() -> Check:
    """The scores of the interpolant of least norm by linear solves, for all class counts from 1 to 24."""
    right = quoted = 0
    for a in range(1, 25):
        for b in range(1, 25):
            y = np.concatenate([np.ones(a), -np.ones(b)])
            gram = np.outer(y, y) + 2 + np.diag(np.where(y > 0, 1.0, 5.0))
            alpha = np.linalg.solve(gram, y)[0]
            right += abs(alpha - (4 * b + 5) / (8 * a * b + 15 * a + 3 * b + 5)) < 1e-12
            quoted += abs(alpha - (4 * b + 3) / (8 * a * b + 9 * a + 3 * b + 3)) < 1e-12
    lines = (
        _false("denominator 8ab + 9a + 3b + 3, as usually quoted", "all class counts", f"{quoted} of 576", quoted == 0),
        Line(
            "denominator 8ab + 15a + 3b + 5", "", f"{right} of 576", Verdict.AGREES if right == 576 else Verdict.DIFFERS
        ),
    )
    question = "Which closed form belongs to blocks of one and five?"
    return Check("wilson-closed-form", 2017, "Section 3.3", question, lines)


def power_of_ten() -> Check:
    """What "the nearest power of 10 which is smaller" must mean."""
    wanted = {0.45: 0.1, 479.54: 100.0, 10.0: 10.0, 999.9999999999999: 100.0}
    lines = []
    for value, power in wanted.items():
        found, logarithm = rounding.power_of_ten(value), 10.0 ** math.floor(math.log10(value))
        text = f"{found:g}" + (f" (the floor of a rounded logarithm gives {logarithm:g})" if logarithm != found else "")
        lines.append(Line(f"{value!r}", f"{power:g}", text, Verdict.AGREES if found == power else Verdict.DIFFERS))
    question = "Is it the largest power of ten that is not above the value?"
    return Check("power-of-ten", 2021, "Section 5", question, tuple(lines))


def zero_step() -> Check:
    """A direction whose step is zero in one group only: that group stays, the other moves."""
    program = build("graft(sgd(lr=1), sgd(lr={'a': 0, 'b': 1}), partition=tensor)", {"a": (1,), "b": (1,)})
    engine = Engine(program)
    moved = engine.step(np.zeros(2), np.ones(2), engine.initial_state(), 1).delta
    lines = (
        Line("step of the group whose direction is zero", "0", f"{abs(moved[0]):g}"),
        Line("step of the other group", "its magnitude, 1", f"{abs(moved[1]):g}"),
    )
    question = "Does the exception of a zero step hold for each group of the partition?"
    return Check("zero-step-per-group", 2021, "Section 3", question, lines)


def epochs() -> Check:
    """After which epochs the two papers' staircases fall."""
    lines = []
    for paper, printed in ((2020, "30, 60, 80"), (2021, "30, 50, 80")):
        lines.append(line(f"staircase_{paper} falls after", printed, ", ".join(map(str, _drops(f"staircase_{paper}")))))
    question = "After which epochs does the learning rate fall?"
    return Check("decay-epochs", 2021, "A.2, and C.2 of 2020", question, tuple(lines))


def _drops(name: str) -> list[int]:
    """The epochs after which a staircase falls, from its steps when an epoch has one step and gradients are 1."""
    engine = Engine(build(f"sgd(lr={name}(steps_per_epoch=1))", {"w": (1,)}))
    steps = [abs(float(engine.step(np.zeros(1), np.ones(1), {}, t).delta[0])) for t in range(1, 100)]
    return [t for t in range(1, 99) if steps[t] < steps[t - 1]]
