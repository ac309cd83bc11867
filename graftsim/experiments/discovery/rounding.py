"""Coarser corrections: medians rounded down to powers of ten, and groups tied to one number.

The 2021 paper, section 5, calls the result D_beta: every group of the attention layers has the factor beta, and the
others have the "nearest power of 10 which is smaller" than their median. Equality keeps the value: 10^floor(log10 m).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from decimal import Decimal

from graftsim.errors import GraftsimError, nearest


def power_of_ten(value: float) -> float:
    """The largest power of ten that is at most ``value``; 0 for 0, and below 1e-323, the smallest that there is.

    A power of ten is the float64 nearest to it, and is kept. The exponent is read off the exact decimal value, since
    ``floor(log10(999.9999999999999))`` is 3 in floating point.

    >>> power_of_ten(999.9999999999999), power_of_ten(1000.0), power_of_ten(0.45)
    (100.0, 1000.0, 0.1)
    """
    if value == 0:
        return 0.0
    exponent = Decimal(value).adjusted()
    above = float(f"1e{exponent + 1}")  # 1e23 is a float64 below the real number 10^23
    return above if above <= value else float(f"1e{exponent}")


def matching(pattern: str, groups: Sequence[str], option: str) -> list[str]:
    """The groups whose names match a pattern such as ``*attention*``.

    Raises:
        GraftsimError: none does.
    """
    found = [name for name in groups if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        raise GraftsimError(f"{option}: no group matches {pattern!r}{nearest(pattern.strip('*'), groups)}")
    return found


def rounded(factors: Mapping[str, float], tied: Mapping[str, float]) -> dict[str, float]:
    """Each factor rounded down to a power of ten, but those of ``tied`` groups as they are given."""
    return {name: tied[name] if name in tied else power_of_ten(value) for name, value in factors.items()}
