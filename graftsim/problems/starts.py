"""Where networks start: uniform weights, zero biases, norms at one.

A uniform weight of deviation s lies within s sqrt(3). Normal ones would be another stream in another version of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.layouts import Layout, Shape
from graftsim.problems.arguments import COORDINATES
from graftsim.problems.randomness import START, generator

Deviation = Callable[[str, Shape], float]


def uniform(layout: Layout, seed: int, deviation: Deviation) -> NDArray[np.float64]:
    """Flat weights: uniform with ``deviation(name, shape)`` where a tensor has two axes or more; of the others those
    called ``...norm.weight`` are 1 and the rest 0."""
    source, flat = generator(seed, START), np.zeros(layout.size)
    for name, shape, place in layout.slices():
        if len(shape) >= 2:
            flat[place] = (2 * source.random(math.prod(shape)) - 1) * (math.sqrt(3) * deviation(name, shape))
        elif name.endswith("norm.weight"):
            flat[place] = 1.0
    return flat


def kept_variance(gain: float, shape: Shape) -> float:
    """sqrt(gain / fan_in) for weights (out, in, ...): gain 2 before relu (He et al. 2015), else 1 (LeCun 1998)."""
    return math.sqrt(gain / math.prod(shape[1:]))


def check_size(name: str, layout: Layout) -> None:
    """Raise GraftsimError where problem ``name`` would have more weights than a problem may have."""
    if layout.size > COORDINATES:
        raise GraftsimError(f"{name}: must have at most {COORDINATES} weights; these sizes give {layout.size}")
