"""From a record to corrections: medians, fits, flags, and the choice of one factor a group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graftsim import corrections
from graftsim.corrections import Corrections, Factor
from graftsim.errors import GraftsimError, nearest
from graftsim.experiments.discovery import fits, flags, rounding, series
from graftsim.experiments.discovery.fits import Fit
from graftsim.experiments.discovery.flags import Growth
from graftsim.experiments.discovery.series import Series
from graftsim.trajectory import Trajectory

FORMS = ("constant", "line", "power")


@dataclass(frozen=True)
class Group:
    """What the first steps say of one group."""

    name: str
    median: float
    """Of the ratios; NaN where there is none."""
    used: int
    """Steps with a ratio."""
    missing: int
    """Steps without one: the direction's step was zero, or a norm was not finite."""
    line: Fit | None
    power: Fit | None
    growth: Growth | None
    """Over the whole record."""
    share: float | None
    """Of the gradient's length, in the median step; None where gradients were not recorded."""
    null: bool
    """Whether its gradient is nothing but rounding errors."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What to distrust, in words."""
        said = {
            "no ratio": self.used == 0,
            "null gradient": self.null,
            "grows exponentially": self.growth is not None and self.growth.exponential,
        }
        return tuple(word for word, holds in said.items() if holds)


@dataclass(frozen=True)
class Findings:
    """What a record says of the corrections of its groups over the first steps."""

    groups: tuple[Group, ...]
    together: Group
    """Of all groups together: the ratio of the lengths of the whole steps."""
    spread: float
    """Orders of magnitude between the largest and the smallest median."""
    spread_without_null: float
    """The same without the groups whose gradients are nothing but rounding errors."""
    partition: str
    origin: Mapping[str, Any]


def find(
    trajectory: Trajectory, first: int | None = None, since: int | None = None, path: str = "", partition: str = ""
) -> Findings:
    """Medians, fits and flags of each group, and of all together.

    Args:
        trajectory: the record of a graft.
        first: the first so many steps are looked at, K of the papers; all by default.
        since: the step that power fits begin with; :func:`fits.power` has the default.
        path: which graft of nested ones.
        partition: that of the graft, where the record's machine does not say it.

    Raises:
        GraftsimError: no record of a graft, or one with fewer steps than asked for.
    """
    whole = series.of(trajectory, path)
    last = int(whole.steps[-1])
    first = last if first is None else first
    if not 1 <= first <= last:
        raise GraftsimError(f"the first {first} steps must lie in the record, which has the steps 1 to {last}")
    early = whole.until(first)
    if not len(early.steps):
        raise GraftsimError(f"the first {first} steps must have one that was recorded; the first is {whole.steps[0]}")
    shared = flags.shares(trajectory, early)
    groups = tuple(_groups(whole, early, since, shared))
    medians = early.medians
    plain = np.array([not group.null for group in groups])
    origin = {
        "machine": trajectory.meta.machine,
        "problem": trajectory.meta.problem,
        "seed": trajectory.meta.seed,
        "digest": trajectory.digest,
        "steps": first,
    }
    return Findings(
        groups,
        next(_groups(whole.together(), early.together(), since, None)),
        series.spread(medians),
        series.spread(medians[plain]),
        partition,
        origin,
    )


def _groups(whole: Series, early: Series, since: int | None, shared: Any) -> Any:
    ratios, later = early.ratios, whole.ratios
    medians, used = early.medians.tolist(), early.used.tolist()
    for i, name in enumerate(early.groups):
        share = None if shared is None else float(shared[0][i])
        yield Group(
            name,
            medians[i],
            used[i],
            len(early.steps) - used[i],
            fits.line(early.steps, ratios[:, i]),
            fits.power(early.steps, ratios[:, i], since),
            flags.growth(whole.steps, later[:, i]),
            share,
            share is not None and flags.null(share, shared[1]),
        )


@dataclass(frozen=True)
class Choice:
    """How factors are made of findings.

    ``form`` is constant, line or power; ``together`` gives all groups one factor; ``rounded`` takes powers of ten.
    ``tied`` are patterns of groups whose factor is ``beta``, by default the median of their medians, null gradients
    left out; ``fixed`` are patterns and the factors of what they match, and come last.
    """

    form: str = "constant"
    together: bool = False
    rounded: bool = False
    tied: Sequence[str] = ()
    beta: float | None = None
    fixed: Mapping[str, float] | None = None


def choose(findings: Findings, choice: Choice) -> Corrections:
    """One factor for each group.

    Raises:
        GraftsimError: a form that is none, rounding of what is no constant, a pattern that matches nothing, or a group
            that has no ratio, or too few for the fit, and is neither tied nor fixed.
    """
    if choice.form not in FORMS:
        raise GraftsimError(
            f"form must be one of {', '.join(FORMS)}; received {choice.form!r}{nearest(choice.form, FORMS)}"
        )
    if choice.rounded and choice.form != "constant":
        raise GraftsimError(f"only constants are rounded to powers of ten; received the form {choice.form}")
    groups = (findings.together,) if choice.together else findings.groups
    given = _given(groups, choice)
    factors: dict[str, Factor] = {}
    for group in groups:
        if group.name in given:
            factors[group.name] = Factor(c0=given[group.name])
        else:
            factors[group.name] = _factor(group, choice)
    origin = {**findings.origin, "form": choice.form}
    return Corrections(factors, "global" if choice.together else findings.partition, "corrections", 1.0, origin)


def _given(groups: Sequence[Group], choice: Choice) -> dict[str, float]:
    """The factors of groups that are tied or fixed."""
    names = [group.name for group in groups]
    tied = {name for pattern in choice.tied for name in rounding.matching(pattern, names, "tie")}
    found: dict[str, float] = {}
    if tied:
        medians = [g.median for g in groups if g.name in tied and not g.null and math.isfinite(g.median)]
        if choice.beta is None and not medians:
            raise GraftsimError("beta must be given: no tied group has a ratio to take the median of")
        beta = float(np.median(medians)) if choice.beta is None else choice.beta
        found = dict.fromkeys((name for name in names if name in tied), beta)
    for pattern, value in (choice.fixed or {}).items():
        found |= dict.fromkeys(rounding.matching(pattern, names, "fix"), value)
    return found


def _factor(group: Group, choice: Choice) -> Factor:
    if group.used == 0:
        raise GraftsimError(
            f"group {group.name!r} must have a step whose direction is not zero and whose norms are finite; none of "
            f"the {group.missing} has: fix its factor"
        )
    if choice.form == "constant":
        return Factor(c0=rounding.power_of_ten(group.median) if choice.rounded else group.median)
    fit = group.line if choice.form == "line" else group.power
    if fit is None:
        raise GraftsimError(
            f"group {group.name!r} must have at least {fits.ENOUGH} ratios above 0 for a {choice.form}; fix its factor "
            "or look at more steps"
        )
    return fit.factor


def saved(chosen: Corrections) -> str:
    """The file of corrections."""
    return corrections.text(chosen.factors, chosen.partition, chosen.scale, chosen.origin)
