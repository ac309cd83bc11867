"""Natives of a framework, and classes with the interface of one, under the rows of their dialect."""

from __future__ import annotations

import dataclasses

from graftsim.errors import GraftsimError
from graftsim.notation import Instance
from graftsim_conformance import candidates, check, golden
from graftsim_conformance.asked import Asked, Claim, Subject, sources
from graftsim_conformance.dialects import Row, Target, targets, told

EAGER = ("torch.optim:",)
"""Natives that need not compile anything for another layout; they are judged on all edges by default."""


def native(asked: Asked) -> Subject:
    asked = dataclasses.replace(asked, dtype=asked.dtype or "float64")
    dialect = targets()[asked.like or asked.target]
    native = candidates.load(asked.target)
    if len(asked.machines) > 1:
        raise GraftsimError(f"{asked.target} can be held to one machine at a time; received {len(asked.machines)}")
    claims = [(row, row.instance) for row in dialect.rows]
    if asked.machines:
        claims = [check.claimed(dialect, asked.machines[0])]
    name, version = candidates.backend(dialect.framework) or ("", "")
    made = tuple(_of_row(asked, dialect, row, instance, name) for row, instance in claims)
    return Subject(
        asked,
        "native",
        made,
        lambda claim: candidates.wrap(dialect.framework, native, asked.mode),
        {**check.versions_of(dialect), **({name: version} if name else {})},
        name,
        dialect.framework,
        dialect,
        sources(native),
    )


def _of_row(asked: Asked, dialect: Target, row: Row, instance: Instance, backend: str) -> Claim:
    cases = asked.picks(golden.names_of(row.instance))
    names = cases
    if asked.whole and not asked.every and not dialect.path.startswith(EAGER):
        names = [name for name in cases if golden.is_stream(name)]
    return Claim(
        row.variant,
        instance,
        tuple(names),
        row,
        asked.dtype,
        tuple(told(row.through_float32, backend, asked.dtype or "") or ()),
        told(row.not_expressible, backend, asked.dtype or "") or "",
        len(cases) - len(names),
        tuple(told(row.profiles, backend, asked.dtype or "float64") or ()),
        row.float32,
    )
