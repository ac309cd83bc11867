"""Profiles: what a platform is known to do otherwise, by name. Under one, the error bounds grant it and nothing else.

A profile is declared, never guessed: a dialect names those of its framework, and a verdict that needs one says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graftsim.errors import GraftsimError, nearest


@dataclass(frozen=True)
class Profile:
    """``scalars`` is the unit of rounding of scalars; ``flush`` says that subnormal numbers become zero, ``unguarded``
    that a quotient of two zeros is not guarded, and NaN."""

    name: str = ""
    scalars: float = 2.0**-53
    flush: bool = False
    unguarded: bool = False


PLAIN = Profile()
PROFILES = {
    "scalars-in-float32": Profile("scalars-in-float32", scalars=2.0**-24),
    "flush-to-zero": Profile("flush-to-zero", flush=True),
    "zero-over-zero": Profile("zero-over-zero", unguarded=True),
}


def together(names: Iterable[str]) -> Profile:
    """All of some profiles at once.

    Raises:
        GraftsimError: there is none of a name.
    """
    chosen = sorted(set(names))
    for name in chosen:
        if name not in PROFILES:
            raise GraftsimError(f"there is no profile {name!r}{nearest(name, PROFILES)}")
    found = [PROFILES[name] for name in chosen]
    unit = max((each.scalars for each in found), default=PLAIN.scalars)
    flush, unguarded = any(each.flush for each in found), any(each.unguarded for each in found)
    return Profile(" and ".join(chosen), unit, flush, unguarded)
