"""All claims that are tested, in the order of the report."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence

from graftsim.errors import GraftsimError, nearest
from graftsim.experiments.reproduce import (
    algebra,
    corrections,
    forms,
    grids,
    language,
    schedules,
    theory,
    toys,
    trajectories,
    transfers,
    vision,
    zoos,
)
from graftsim.experiments.reproduce.findings import Claim

CLAIMS: tuple[Claim, ...] = (
    *grids.CLAIMS,
    *zoos.CLAIMS,
    *trajectories.CLAIMS,
    *transfers.CLAIMS,
    *vision.CLAIMS,
    *schedules.CLAIMS,
    *language.CLAIMS,
    *corrections.CLAIMS,
    *toys.CLAIMS,
    *theory.CLAIMS,
    *algebra.CLAIMS,
    *forms.CLAIMS,
)

LIBRARIES = {
    "matplotlib": ("plot", CLAIMS),
    "jinja2": ("report", CLAIMS),
    "sklearn": ("data", (*grids.CLAIMS, *zoos.CLAIMS, *trajectories.CLAIMS)),
    "mlxtend": ("data", (*vision.CLAIMS, *schedules.CLAIMS)),
    "scipy": ("experiments", transfers.CLAIMS),
    "torch": ("torch", (*vision.CLAIMS, *schedules.CLAIMS, *language.CLAIMS, *corrections.CLAIMS)),
}
"""Libraries that are not always installed: the extra that brings each, and the claims that need it."""
LATER = (*transfers.CLAIMS, *vision.CLAIMS, *schedules.CLAIMS, *language.CLAIMS, *corrections.CLAIMS)
"""What a quick report leaves out."""


def check_installed(claims: Sequence[Claim], quick: bool) -> None:
    """Refuse early what would fail in the middle.

    Raises:
        GraftsimError: a library is missing.
    """
    for library, (extra, needing) in LIBRARIES.items():
        asked = [claim for claim in claims if claim in needing and not (quick and claim in LATER)]
        if (asked or needing is CLAIMS) and importlib.util.find_spec(library) is None:
            raise GraftsimError(f"this report needs {library}; install it with pip install 'graftsim[{extra}]'")


def chosen(only: Iterable[str]) -> list[Claim]:
    """The claims with these names, in the report's order; all where none is named.

    Raises:
        GraftsimError: an unknown name.
    """
    names, known = list(only), [claim.id for claim in CLAIMS]
    for name in names:
        if name not in known:
            raise GraftsimError(f"unknown claim {name!r}{nearest(name, known)}")
    return [claim for claim in CLAIMS if not names or claim.id in names]
