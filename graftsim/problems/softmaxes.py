"""The cross-entropy of a softmax over scores z of shape (n, classes), and how often the largest score is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def slope(z: Floats, labels: Labels) -> Floats:
    """The derivative by z of the mean cross-entropy: (softmax(z) - onehot(label)) / n."""
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    powers[np.arange(len(labels)), labels] -= 1
    powers /= len(labels)
    return np.asarray(powers)


def judge(z: Floats, labels: Labels) -> tuple[float, float]:
    """The mean cross-entropy, and the share of examples whose label has the largest score, where all are numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = z - z.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    right = (z.argmax(axis=1) == labels) & np.isfinite(z).all(axis=1)
    return float(losses.mean()), float(right.mean())
