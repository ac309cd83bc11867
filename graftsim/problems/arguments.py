"""Checks of a problem's arguments. ``place`` names the argument in an error, as in ``wilson, batch``."""

from __future__ import annotations

import math
from typing import Any

from graftsim.errors import GraftsimError

COORDINATES = 10_000_000
SEEDS = 2**64 - 1


def integer(place: str, value: Any, low: int, high: int) -> int:
    """An integer from ``low`` to ``high``."""
    if type(value) is not int or not low <= value <= high:
        raise GraftsimError(f"{place}: must be an integer from {low} to {high}; received {_short(value)}")
    return value


def real(place: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from ``low`` to ``high``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) <= _LARGEST or not low <= value <= high:
        raise GraftsimError(f"{place}: must be a number{_range(low, high)}; received {_short(value)}")
    return float(value)


def reals(place: str, value: Any, length: int | None = None, low: float = -math.inf) -> tuple[float, ...]:
    """A list of finite numbers, of ``length`` if that is given, else of at least one."""
    if not isinstance(value, list | tuple) or not value or len(value) != (length or len(value)):
        many = f"{length} numbers" if length else "numbers"
        raise GraftsimError(f"{place}: must be a list of {many}; received {_short(value)}")
    return tuple(real(f"{place}[{i}]", number, low) for i, number in enumerate(value))


def flag(place: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise GraftsimError(f"{place}: must be True or False; received {_short(value)}")
    return value


_LARGEST = 1.7976931348623157e308


def _range(low: float, high: float) -> str:
    if low == -math.inf:
        return ""
    return f" from {low:g} to {high:g}" if high < math.inf else f" of at least {low:g}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
