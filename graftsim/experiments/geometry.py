"""One step of M, of D and of M#D from the same point with the same gradient, as the simulator takes them."""

from __future__ import annotations

from dataclasses import dataclass

from graftsim import problems
from graftsim.compiler import build
from graftsim.engine import Engine
from graftsim.experiments.plans import grafted
from graftsim.layouts import Array
from graftsim.problems.arguments import integer


@dataclass(frozen=True)
class Triple:
    """The three steps, each flat, shape (coordinates,), and the weights that they start from."""

    weights: Array
    magnitude: Array
    direction: Array
    grafted: Array


def steps_at(
    problem: str, magnitude: str, direction: str, step: int = 1, partition: str = "global", seed: int = 0
) -> Triple:
    """The steps number ``step`` of M, D and M#D in a run of M#D.

    The children are run beside the graft, at its weights and with its gradients, as they are inside it.

    Raises:
        GraftsimError: an unknown problem or machine, or a step below 1.
    """
    integer("step", step, 1, 10**6)
    found = problems.parse(problem)
    texts = (magnitude, direction, grafted(magnitude, direction, partition))
    engines = [Engine(build(text, found.layout)) for text in texts]
    states = [engine.initial_state() for engine in engines]
    weights = found.start(seed, engines[0].program.dtype)
    for number in range(1, step + 1):
        before, gradients = weights, found.gradients(weights, number, seed)
        steps = [engine.step(before, gradients, state, number) for engine, state in zip(engines, states, strict=True)]
        states, weights = [one.state for one in steps], steps[2].weights
    return Triple(before, *(one.delta for one in steps))
