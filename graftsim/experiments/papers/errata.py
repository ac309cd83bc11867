"""The misprints of both papers as data, with what is meant, the evidence, and the check that shows it where one can."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from graftsim import documents


@dataclass(frozen=True)
class Erratum:
    """What a paper prints, and what it means. ``rule`` is that of the specification, ``check`` that of
    :mod:`graftsim.experiments.papers.checks`; each is empty where there is none."""

    id: str
    paper: int
    place: str
    printed: str
    meant: str
    evidence: str
    rule: str = ""
    check: str = ""


@cache
def load() -> tuple[Erratum, ...]:
    """All of ``graftsim_spec/papers/errata.yaml``, in its order."""
    path = documents.spec() / "papers" / "errata.yaml"
    document = documents.read_yaml(path)
    documents.validate(document, "paper_errata", "errata.yaml")
    return tuple(Erratum(**row) for row in document["errata"])
