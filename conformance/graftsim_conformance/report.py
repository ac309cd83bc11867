"""What a check found, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from graftsim_conformance.hexfloat import to_hex

PROFILE = "scalars-through-float32"
"""Some hyperparameters stand rounded to float32 in a computation that is otherwise float64."""


@dataclass(frozen=True)
class Failure:
    """The first place at which a candidate is outside the budget. ``step`` 0 is the initial state."""

    case: str
    step: int
    place: str
    where: str
    got: float
    want: float
    ulps: int | None
    bound: float
    units: float
    equation: str
    through: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        when = "before the first step" if self.step == 0 else f"at step {self.step}"
        away = "NaN on one side" if self.ulps is None else f"{_count(self.ulps)} ulps, {self.units:.3g} error bounds"
        rows = [
            f"first difference: case {self.case}, {when}, {words(self.place)} of {self.where}",
            f"  candidate {self.got!r}  {to_hex(self.got)}",
            f"  reference {self.want!r}  {to_hex(self.want)}",
            f"  apart by {away} (bound {self.bound:.3g})",
            f"  the spec says: {self.equation}",
        ]
        return rows + [f"         through: {text}" for text in self.through]


@dataclass(frozen=True)
class RowReport:
    """One row of a dialect: a machine against all its cases.

    The reference was given the hyperparameters that ``through_float32`` names rounded, as the native rounds them: the
    profile :data:`PROFILE`. ``known`` is what the dialect says of a difference that the machine cannot express.
    """

    variant: str
    machine: str
    cases: int
    comparisons: int
    undecided: int
    largest: float
    largest_at: str
    unread: tuple[str, ...]
    float32: tuple[str, ...] = ()
    failure: Failure | None = None
    hint: str = ""
    through_float32: tuple[str, ...] = ()
    known: str = ""
    unsupported: tuple[str, ...] = ()
    granted: str = ""
    """The profiles of the platform without which some value is outside the budget."""

    @property
    def passed(self) -> bool:
        return self.failure is None and self.comparisons > 0

    @property
    def profile(self) -> str:
        """All that the verdict is under."""
        return profile(self.through_float32, self.granted)

    def lines(self) -> list[str]:
        rows = [f"{self.variant}: {_verdict(self.passed, self.profile)} to {self.machine}"]
        rows.append(
            f"  {self.comparisons} values in {self.cases} cases; largest error {self.largest:.3g} bounds"
            + (f" ({self.largest_at})" if self.largest_at else "")
        )
        if self.undecided:
            rows.append(f"  {self.undecided} values lie where rounding decides a branch, and are not compared")
        if self.unsupported:
            names = dict.fromkeys(name.partition(".")[2].partition("-")[0] for name in self.unsupported)
            count = len(self.unsupported)
            rows.append(
                f"  not supported by the candidate, and not counted as passed: {count} cases ({', '.join(names)})"
            )
        if self.unread:
            rows.append(f"  not read from the candidate, carried by the reference: {', '.join(self.unread)}")
        if self.float32:
            rows.append(f"  kept in float32 by the candidate, and judged so: {', '.join(self.float32)}")
        if self.through_float32:
            rows.append(f"  rounded to float32, as by the candidate: {', '.join(self.through_float32)}")
        if self.failure:
            rows += [f"  {line}" for line in self.failure.lines()]
        if self.failure and self.known:
            rows.append(f"  known: {self.known}")
        if self.hint:
            rows.append(f"  hint: {self.hint}")
        return rows


@dataclass(frozen=True)
class Report:
    """The verdict on a target."""

    target: str
    machine: str | None
    budget: float
    versions: Mapping[str, str]
    rows: tuple[RowReport, ...] = field(default=())
    backend: str = ""
    mode: str = ""
    dtype: str = "float64"

    @property
    def passed(self) -> bool:
        """Whether every row is within the budget, and there is one."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    @property
    def largest(self) -> float:
        """The largest error of all rows, in error bounds."""
        return max((row.largest for row in self.rows), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``: floats of the failure in hexadecimal, an infinite largest error as text."""
        document = asdict(self)
        for row, found in zip(document["rows"], self.rows, strict=True):
            row |= {"passed": found.passed, "largest": _number(found.largest), "unread": list(found.unread)}
            row |= {"float32": list(found.float32), "unsupported": list(found.unsupported)}
            rounded = found.through_float32
            row |= {"through_float32": list(rounded), "profile": found.profile}
            if found.failure:
                failure = found.failure
                row["failure"] |= {"got": to_hex(failure.got), "want": to_hex(failure.want)}
                row["failure"] |= {"units": _number(failure.units), "bound": _number(failure.bound)}
                row["failure"] |= {"through": list(failure.through)}
        document["rows"] = list(document["rows"])
        return {**document, "versions": dict(self.versions), "passed": self.passed}

    def lines(self) -> list[str]:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        under = dict.fromkeys(name for row in self.rows for name in row.profile.split(" and ") if name)
        verdict = _verdict(self.passed, " and ".join(under))
        how = f" on {self.backend}" if self.backend else ""
        how += f", {self.mode}" if self.mode else ""
        rows = [f"{self.target}{how} ({versions})"]
        rows += [line for row in self.rows for line in row.lines()]
        allowed = f"largest error {self.largest:.3g} of {self.budget:g} allowed error bounds"
        return [*rows, f"{verdict}: {allowed}, {self.dtype}, one step at a time (GS-budget-comparison)"]


WORDS = {"n_m": "norm of magnitude", "n_d": "norm of direction", "delta": "step"}


def words(place: str) -> str:
    """A place in words, where it is one that has them.

    >>> words("magnitude.n_d"), words("direction.delta"), words("magnitude.m")
    ('norm of direction (magnitude.n_d)', 'step (direction.delta)', 'magnitude.m')
    """
    known = WORDS.get(place.rpartition(".")[2])
    return f"{known} ({place})" if known else place


def profile(through_float32: Sequence[str], granted: str) -> str:
    """The profiles that a verdict is under, in one text."""
    return " and ".join([PROFILE] * bool(through_float32) + [granted] * bool(granted))


def _verdict(passed: bool, profile: str) -> str:
    under = f" under the profile {profile}" if profile else ""
    return f"equivalent{under}" if passed else f"NOT equivalent{under}"


def _count(value: int) -> str:
    return str(value) if value < 10**6 else f"{value:.2e}"


def _number(value: float) -> float | str:
    return value if abs(value) < float("inf") else str(value)
