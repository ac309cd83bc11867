"""Corrections applied in the simulator: machines ``corrected`` around the one that they correct."""

from __future__ import annotations

from graftsim import notation, partitions
from graftsim.corrections import Corrections
from graftsim.errors import GraftsimError
from graftsim.expressions import Number
from graftsim.layouts import Layout
from graftsim.machines import Library, library
from graftsim.notation import Instance, Setting

EXPONENTS = 20
"""So many different exponents a file may have where it is applied: each is a machine around the others."""


def corrected(machine: str | Instance, found: Corrections, layout: Layout, machines: Library | None = None) -> Instance:
    """The machine whose step is, in each group, that of ``machine`` times the group's factor.

    The factor is formed in float64 and its product with a step rounded once, as the machine ``corrected`` says.

    Raises:
        GraftsimError: corrections for other groups than the partition has on this layout, or too many exponents.
    """
    inner = notation.parse(machine, machines) if isinstance(machine, str) else machine
    names = partitions.build(found.partition, layout).names
    found.check_groups(names)
    exponents = sorted({found.factors[name].alpha for name in names if found.factors[name].c})
    if len(exponents) > EXPONENTS:
        raise GraftsimError(
            f"{found.where}: there must be at most {EXPONENTS} different exponents; received {len(exponents)}: fit one "
            "for all groups together"
        )
    for number, alpha in enumerate(exponents or [0.0]):
        inner = _layer(inner, found, names, alpha, innermost=number == 0)
    last = {**inner.settings, "scale": Number(found.scale)}
    return Instance(inner.machine, last, inner.options, inner.partition, inner.children)


def _layer(inner: Instance, found: Corrections, names: tuple[str, ...], alpha: float, innermost: bool) -> Instance:
    """One machine around another: the powers with one exponent, and innermost all lines and constants."""
    c0, c1, c = ({}, {}, {})  # type: dict[str, float], dict[str, float], dict[str, float]
    for name in names:
        factor = found.factors[name]
        mine = factor.c > 0 and factor.alpha == alpha
        other = 0.0 if mine else 1.0
        c0[name] = factor.c0 if innermost and not factor.c else other
        c1[name] = factor.c1 if innermost else 0.0
        c[name] = factor.c if mine else 0.0
    settings: dict[str, Setting] = {"c0": c0, "c1": c1, "c": c, "alpha": Number(alpha)}
    return Instance(library()["corrected"], settings, {}, found.partition, {"inner": inner})
