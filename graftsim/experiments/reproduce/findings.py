"""What a claim is, and what is found of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from graftsim.errors import GraftsimError
from graftsim.experiments.jobs import Job
from graftsim.experiments.plans import Key, Runs
from graftsim.experiments.summaries import summary
from graftsim.experiments.trials import Outcome, Trial, check


class Verdict(StrEnum):
    """What becomes of a claim."""

    REPRODUCED = "reproduced"
    NOT = "not reproduced"
    UNDECIDED = "not decidable at this size"

    @staticmethod
    def of(holds: bool) -> Verdict:
        return Verdict.REPRODUCED if holds else Verdict.NOT


@dataclass(frozen=True)
class Number:
    """A number that was found: what it is, its text, and over how many seeds; 0 seeds where nothing is drawn."""

    what: str
    text: str
    seeds: int = 0

    def __post_init__(self) -> None:
        if self.seeds == 1:
            raise GraftsimError(f"{self.what}: a number that depends on chance needs at least 2 seeds; received 1")


def over_seeds(what: str, values: Sequence[float], digits: int = 3) -> Number:
    """Mean and deviation of one value a seed."""
    return Number(what, summary(values).text(digits), len(values))


def counted(what: str, hits: Iterable[bool]) -> Number:
    """How many seeds have something: for outcomes of two kinds, of which a mean says nothing."""
    found = list(hits)
    return Number(what, f"{sum(found)} of {len(found)}", len(found))


@dataclass(frozen=True)
class Picture:
    """A drawing as inline SVG, and what it shows."""

    caption: str
    svg: str


@dataclass(frozen=True)
class Finding:
    """The verdict on a claim, the numbers it rests on, and pictures. ``note`` says what a reader must know besides."""

    verdict: Verdict
    numbers: tuple[Number, ...] = ()
    pictures: tuple[Picture, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Size:
    """How large the experiments are: ``quick`` leaves out what takes minutes, and takes fewer seeds."""

    quick: bool

    def seeds(self, full: int = 5) -> int:
        """How many seeds: at least 3."""
        return 3 if self.quick else full


Asking = Generator[Sequence[Job], list[Any], Finding]
"""A claim at work: it asks for jobs, is sent their results in order, may ask again, and returns what it found."""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, how it is tested here, and the rule by which it counts as reproduced."""

    id: str
    paper: int
    place: str
    statement: str
    test: str
    rule: str
    ask: Callable[[Size], Asking]


def trained(trials: Mapping[Key, Sequence[Trial]]) -> Generator[Sequence[Job], list[Any], dict[Key, Runs]]:
    """Ask for training runs; their outcomes by the keys of the trials.

    Raises:
        GraftsimError: a mistake in a trial, before any is run.
    """
    every = [trial for group in trials.values() for trial in group]
    check(every)
    rows = iter((yield [trial.job() for trial in every]))
    return {key: [Outcome(**next(rows)) for _ in group] for key, group in trials.items()}


def left_out(reason: str) -> Asking:
    """What a quick report leaves out."""
    yield []
    return Finding(Verdict.UNDECIDED, note=reason)
