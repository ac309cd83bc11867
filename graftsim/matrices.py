"""Whole matrices: one block a tensor, one block after another in a flat array (``spec/language.md``, Matrices).

Products and powers are formed in float64 by BLAS and LAPACK and rounded to the program's dtype once. Their last bits
are a library's affair, so machines that use them are certified *equivalent* and never *exact* (GS-matrix-equivalent).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.layouts import Layout
from graftsim.program import Kind, blocks

Array = NDArray[Any]
Float = NDArray[np.float64]


def split(flat: Array, layout: Layout, kind: Kind) -> Iterator[Array]:
    """One matrix a tensor, each a view into ``flat``."""
    start = 0
    for a, b in blocks(layout, kind.shape):
        yield flat[start : start + a * b].reshape(a, b)
        start += a * b


def joined(parts: Sequence[Array]) -> Array:
    """The flat array of matrices."""
    return np.concatenate([np.zeros(0), *(part.reshape(-1) for part in parts)])


def apply(layout: Layout, function: Callable[..., Array], kinds: Sequence[Kind], values: Sequence[Array]) -> Array:
    """``function`` of the matrices of each tensor, joined again. ``values`` and ``kinds`` belong together."""
    lists = [list(split(value, layout, kind)) for value, kind in zip(values, kinds, strict=True)]
    return joined([function(*parts) for parts in zip(*lists, strict=True)])


def power(matrix: Float, exponent: float, cutoff: float) -> Float:
    """A^p of a symmetric, positive semidefinite A: sum of lambda_i^p v_i v_i^T over the eigenvalues that are kept.

    Kept are those above 0 and above ``cutoff`` times the largest; the others count as exact zeros, whose power is 0
    (Moore and Penrose's rule). NaN everywhere where an entry is not finite.
    """
    if not np.isfinite(matrix).all():
        return np.full(matrix.shape, np.nan)
    values, vectors = eigen(matrix)
    return (vectors * of_kept(values, exponent, cutoff)) @ vectors.T


def eigen(matrix: Float) -> tuple[Float, Float]:
    """Eigenvalues in ascending order and eigenvectors in columns, of the symmetric part."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray(values, np.float64), np.asarray(vectors, np.float64)


def threshold(values: Float, cutoff: float) -> float:
    """Up to here an eigenvalue counts as zero."""
    return cutoff * max(float(values.max(initial=0.0)), 0.0)


def of_kept(values: Float, exponent: float, cutoff: float) -> Float:
    """lambda^p of the eigenvalues that are kept, and 0 of the others."""
    kept = values > threshold(values, cutoff)
    return np.where(kept, np.where(kept, values, 1.0) ** exponent, 0.0)


def movement(matrix: Float, error: Float, exponent: float, cutoff: float, unit: float) -> float:
    """How far rounding may move an entry of :func:`power`, to first order; infinite where it decides what is kept.

    A symmetric perturbation E moves f(A) by at most max |f[lambda_i, lambda_j]| |E|_F, with the divided differences of
    f (Daleckii and Krein). E is the error of A's entries, and the backward error of an eigensolver, 4 n units of the
    largest eigenvalue. The sum of n terms that gives the power adds n + 4 units of its largest.
    """
    n = len(matrix)
    if n == 0 or not np.isfinite(matrix).all():
        return 0.0
    values, _ = eigen(matrix)
    moved = float(np.linalg.norm(error)) + 4 * n * unit * float(np.abs(values).max())
    powers, limit = of_kept(values, exponent, cutoff), threshold(values, cutoff)
    if (np.abs(values - limit) <= moved * (1 + cutoff)).any() and np.abs(values).max() > 0:
        return np.inf
    slopes = np.abs(_divided_differences(values, powers, exponent))
    return float(slopes.max()) * moved + (n + 4) * unit * float(powers.max())


def _divided_differences(values: Float, powers: Float, exponent: float) -> Float:
    """f[lambda_i, lambda_j], on the diagonal and for equal eigenvalues the derivative."""
    apart = values[:, None] - values[None, :]
    safe = np.where(powers > 0, values, 1.0)
    slope = np.where(powers > 0, exponent * powers / safe, 0.0)
    near = np.abs(apart) <= 1e-8 * np.abs(values).max()
    return np.where(near, slope[:, None], (powers[:, None] - powers[None, :]) / np.where(near, 1.0, apart))
