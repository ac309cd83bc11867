"""Learning-rate corrections: for each group a constant or a schedule, discovered by a graft and used without it.

A file of corrections is YAML (``graftsim_spec/schema/corrections.json``)::

    partition: tensor
    scale: 0.5                                  # of all groups alike; 1 where it is not given
    factors:
      embedding: 100.0                          # a constant
      head.bias: {c0: 0.2, c1: 0.0001}          # the larger of c0 + c1 t and 0, at step t = 1, 2, ...
      head.weight: {c: 0.75, alpha: -0.27}      # c t^alpha
    origin: {machine: adam#sgd, problem: digits, seed: 0, digest: 4f1c, steps: 300, form: constant}

The 2021 paper, section 5: the medians over the first steps of Adam#SGD, layer by layer, let SGD alone train a
transformer that it cannot train otherwise. The 2020 paper, sections 3.4 and B.1, has the line and the power. The
machine ``corrected`` is the definition; the adapters of frameworks say how factors are applied there.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim import documents
from graftsim.errors import GraftsimError, nearest
from graftsim.experiments.discovery.series import discover as discover
from graftsim.experiments.discovery.series import silent as silent

KEYS = {"partition", "factors", "scale", "origin"}
LINE, POWER = {"c0", "c1"}, {"c", "alpha"}
LARGEST = sys.float_info.max
STEEPEST = 10.0
"""The largest exponent, of either sign."""


@dataclass(frozen=True)
class Factor:
    """``max(c0 + c1 t + c t ** alpha, 0)`` at step t: a constant c0, a line, or a power, whose c0 and c1 are 0."""

    c0: float = 0.0
    c1: float = 0.0
    c: float = 0.0
    alpha: float = 0.0

    @property
    def constant(self) -> bool:
        return self.c1 == 0 and self.c == 0

    def at(self, step: int) -> float:
        """The factor of step number ``step``, 1 for the first."""
        return max(self.c0 + self.c1 * step + (self.c * step**self.alpha if self.c else 0.0), 0.0)

    def document(self) -> float | dict[str, float]:
        """What stands in a file."""
        if self.constant and self.c0 >= 0:
            return self.c0
        names = POWER if self.c else LINE
        return {name: value for name, value in asdict(self).items() if name in names}

    def __str__(self) -> str:
        if self.constant:
            return f"{self.c0:.4g}"
        if self.c:
            return f"{self.c:.4g} t^{self.alpha:.4g}"
        return f"{self.c0:.4g} {'-' if self.c1 < 0 else '+'} {abs(self.c1):.4g} t"


Given = float | Factor | Mapping[str, float]
"""A factor as a program may write it."""


@dataclass(frozen=True)
class Corrections:
    """A factor for each group of a partition, and where they are from, for messages."""

    factors: Mapping[str, Factor]
    partition: str
    where: str
    scale: float = 1.0
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def constant(self) -> bool:
        """Whether no factor changes from step to step."""
        return all(factor.constant for factor in self.factors.values())

    def constants(self, instead: str) -> dict[str, float]:
        """The factors, scale included, where all are constant; ``instead`` says what applies schedules.

        Raises:
            GraftsimError: a factor that changes from step to step.
        """
        changing = next((name for name, factor in self.factors.items() if not factor.constant), None)
        if changing is not None:
            raise GraftsimError(
                f"{self.where}: factors must be constants here; that of {changing!r} is {self.factors[changing]}, "
                f"t the step; {instead}"
            )
        return {name: self.scale * factor.at(1) for name, factor in self.factors.items()}

    def table(self, groups: Sequence[str]) -> NDArray[np.float64]:
        """c0, c1, c and alpha of these groups, scale included, shape (4, groups)."""
        rows = [self.factors[name] for name in groups]
        c0 = [row.at(1) if row.constant else row.c0 for row in rows]
        found = np.array([c0, *([getattr(row, name) for row in rows] for name in ("c1", "c", "alpha"))], np.float64)
        found[:3] *= self.scale
        return found

    def check_groups(self, groups: Sequence[str]) -> None:
        """Raises GraftsimError unless these are exactly the groups that have a factor."""
        odd = sorted(set(groups).symmetric_difference(self.factors))
        if not odd:
            return
        kind, known = ("is no group", groups) if odd[0] in self.factors else ("has no factor", self.factors)
        raise GraftsimError(
            f"{self.where}: there must be one factor for each group; {odd[0]!r} {kind}{nearest(odd[0], known)}"
        )


def text(
    factors: Mapping[str, Given], partition: str, scale: float = 1.0, origin: Mapping[str, Any] | None = None
) -> str:
    """A file of corrections, with all digits.

    Raises:
        GraftsimError: a factor that is not finite or below 0, or more than a file may hold.
    """
    return _text(factors, partition, scale, origin or {}, "corrections")


def save(
    path: str | Path,
    factors: Mapping[str, Given],
    partition: str,
    scale: float = 1.0,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write a file of corrections, atomically; see :func:`text`."""
    found = _text(factors, partition, scale, origin or {}, str(path)).encode()
    documents.write_atomically(Path(path), lambda file: file.write(found))


def _text(factors: Mapping[str, Given], partition: str, scale: float, origin: Mapping[str, Any], where: str) -> str:
    lines = [f"partition: {_quoted(partition)}"]
    lines += [] if scale == 1 else [f"scale: {_number('the scale', scale, where)!r}"]
    lines.append("factors:")
    for name, given in factors.items():
        found = _factor(name, given, where).document()
        value = repr(found) if isinstance(found, float) else _flow(found)
        lines.append(f"  {_quoted(name)}: {value}")
    if origin:
        lines.append("origin:")
        lines += [f"  {key}: {_quoted(value) if isinstance(value, str) else value}" for key, value in origin.items()]
    whole = "\n".join(lines) + "\n"
    if len(whole.encode()) > documents.YAML_BYTES:
        raise GraftsimError(
            f"{where}: a file of corrections must have at most {documents.YAML_BYTES} bytes; {len(factors)} groups "
            "need more: graft over a coarser partition"
        )
    return whole


def read(source: str | Path | Mapping[str, Given]) -> Corrections:
    """The corrections of a file, or of a mapping from names of groups to factors, whose partition is ``tensor``.

    Raises:
        GraftsimError: a file that is not as it should be, or a factor that is not finite or below 0.
    """
    if isinstance(source, Mapping):
        return Corrections(_factors(source, "corrections"), "tensor", "corrections")
    return from_document(documents.read_yaml(Path(source)), str(source))


def from_document(document: Any, where: str) -> Corrections:
    """The corrections of a YAML document; ``where`` names the file in errors."""
    if not isinstance(document, Mapping) or not isinstance(document.get("factors"), Mapping) or set(document) - KEYS:
        raise GraftsimError(
            f"{where}: a file of corrections must have the keys partition and factors, a number per group, and may "
            "have scale and origin"
        )
    partition, scale = document.get("partition", "tensor"), document.get("scale", 1.0)
    if not isinstance(partition, str):
        raise GraftsimError(f"{where}: partition must be text such as tensor; received {partition!r}")
    factors, scale = _factors(document["factors"], where), _number("the scale", scale, where)
    documents.validate(document, "corrections", where)
    return Corrections(factors, partition, where, scale, document.get("origin", {}))


def _factors(values: Mapping[Any, Any], where: str) -> dict[str, Factor]:
    return {str(name): _factor(name, value, where) for name, value in values.items()}


def _factor(name: Any, value: Any, where: str) -> Factor:
    what = f"the factor of {name!r}"
    if isinstance(value, Factor):
        value = value.document()
    if not isinstance(value, Mapping):
        return Factor(c0=_number(what, value, where))
    if set(value) == LINE:
        return Factor(**{key: _number(f"{key} in {what}", value[key], where, low=-math.inf) for key in value})
    if set(value) == POWER:
        alpha = _number(f"alpha in {what}", value["alpha"], where, low=-math.inf)
        if abs(alpha) > STEEPEST:
            raise GraftsimError(f"{where}: alpha in {what} must lie in [-10, 10]; received {alpha!r}")
        return Factor(c=_number(f"c in {what}", value["c"], where), alpha=alpha)
    raise GraftsimError(
        f"{where}: {what} must be a finite number that is at least 0, a line {{c0, c1}} or a power {{c, alpha}}; "
        f"received the keys {', '.join(map(str, value)) or 'none'}"
    )


def _number(what: str, value: Any, where: str, low: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (low <= value and abs(value) <= LARGEST):
        at_least = " that is at least 0" if low == 0 else ""
        raise GraftsimError(f"{where}: {what} must be a finite number{at_least}; received {value!r:.60}")
    return float(value)


def _flow(found: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{key}: {value!r}" for key, value in found.items()) + "}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
