"""The search space of M#D: D's space, with what takes the place of D's learning rate."""

from __future__ import annotations

from collections.abc import Mapping

from graftsim.errors import GraftsimError, nearest
from graftsim.experiments.plans import grafted as graft
from graftsim.experiments.search.parameters import Parameter, Range
from graftsim.experiments.search.spaces import Space

RATES = ("scale", "magnitude", "none")
SCALE = Range(0.1, 10, log=True)
"""The range of a graft's overall factor; the paper states none. 1 is in its middle."""


def rule(direction: Space) -> str:
    """What the 2021 paper tunes in place of D's learning rate.

    M's learning rate where D has no other hyperparameter (A.2, A.3, AdaGrad), else the overall factor (A.1).
    """
    return "magnitude" if list(direction.parameters) == [direction.rate] else "scale"


def grafted(
    magnitude: Space, values: Mapping[str, float], direction: Space, steps: int, partition: str, rate: str
) -> Space:
    """The space of M#D, with M's hyperparameters fixed at ``values``.

    It has D's parameters in D's order, and so the same points as D's search. D's own learning rate is set to 1, where
    it cannot be seen (GS-graft-direction-scale), and its coordinate is that of ``scale`` or of M's learning rate
    (``magnitude_lr``); with ``none`` there is no such coordinate.

    Raises:
        GraftsimError: an unknown ``rate``, M's learning rate where M has none to tune, or nothing left to tune.
    """
    if rate not in RATES:
        raise GraftsimError(f"the rate must be one of {', '.join(RATES)}; received {rate!r}{nearest(rate, RATES)}")
    m, d, name = magnitude.filled(values, steps), direction.machine, direction.rate
    stands_in: dict[str, Parameter] = {}
    if name is not None:
        d = d.replace(f"{{{name}}}", "1")
        if rate == "scale":
            stands_in = {"scale": SCALE}
        elif rate == "magnitude":
            m, stands_in = _open_rate(magnitude, values, steps, direction)
    if taken := next((key for key in stands_in if key in direction.parameters), None):
        raise GraftsimError(f"{direction.name}: no parameter may be named {taken}; give it another name")
    found: dict[str, Parameter] = {}
    for key, row in direction.parameters.items():
        found |= stands_in if key == name else {key: row}
    if not found:
        raise GraftsimError(
            f"nothing is left to tune: {direction.name} has only its learning rate, which M#D does not see; "
            "let the rate be magnitude or scale"
        )
    machine = graft(m, d, partition)
    if "scale" in stands_in:
        machine = machine.removesuffix(")") + ", scale={scale})"
    label = f"{magnitude.name}#{direction.name}"
    return Space(label, machine, found, next(iter(stands_in), None), direction.warmup, direction.epochs)


def _open_rate(
    magnitude: Space, values: Mapping[str, float], steps: int, direction: Space
) -> tuple[str, dict[str, Parameter]]:
    """M with all but its learning rate filled in, and that learning rate as a parameter."""
    if magnitude.rate is None:
        raise GraftsimError(
            f"{direction.name} has no hyperparameter but its learning rate, so that M's is tuned (2021 paper, A.2), "
            f"and {magnitude.name} has none to tune; give M as a search space with a rate, or let the rate be scale"
        )
    others = {key: value for key, value in values.items() if key != magnitude.rate}
    text = magnitude.filled(others, steps).replace(f"{{{magnitude.rate}}}", "{magnitude_lr}")
    return text, {"magnitude_lr": magnitude.parameters[magnitude.rate]}
