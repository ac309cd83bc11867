"""Contestants of one case take turns until the time is used up: a noisy neighbour disturbs all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

BATCH = 0.02
"""Seconds that one turn lasts at least: calls that are shorter are timed together."""

PAUSE = 0.005
"""Seconds between two turns: OpenMP's idle threads spin for a few milliseconds after their last work."""

ROUNDS = 3
"""Rounds that are played even where the time is used up before."""


@dataclass
class Contestant:
    """One way to do the case's work."""

    name: str
    work: Callable[[], object]
    units: float
    """How much one call does, in the units of the case: steps, coordinates, or just calls."""
    scale: float = 1.0
    """The time is multiplied by this: a limit is measured on work of another size."""
    first: float | None = None
    """Seconds of the first call, with whatever is compiled in it."""

    def __call__(self) -> None:
        begin = time.perf_counter()
        self.work()
        if self.first is None:
            self.first = time.perf_counter() - begin


@dataclass(frozen=True)
class Absent:
    """A contestant that cannot run here, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Times:
    """Seconds a unit of one contestant: one number for each round."""

    rounds: tuple[float, ...]

    @property
    def least(self) -> float:
        return min(self.rounds)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def play(contestants: Sequence[Contestant], seconds: float) -> list[Times]:
    """Rounds in which each contestant has one turn, until ``seconds`` have gone by; at least three rounds.

    In a turn, one call that is not timed brings back what others have pushed out of the caches, and wakes threads.
    """
    for contestant in contestants:
        contestant()
    found: list[list[float]] = [[] for _ in contestants]
    with quiet():
        calls = [_calls(contestant) for contestant in contestants]
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(found[-1]) < ROUNDS:
            for times, contestant, count in zip(found, contestants, calls, strict=True):
                times.append(_turn(contestant, count))
    return [Times(tuple(times)) for times in found]


def ratio(of: Times, to: Times) -> tuple[float, float]:
    """(ratio of the least times, median of the ratios round by round)."""
    return of.least / to.least, statistics.median(a / b for a, b in zip(of.rounds, to.rounds, strict=True))


@contextmanager
def quiet() -> Iterator[None]:
    """No collection of garbage meanwhile."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _calls(contestant: Contestant) -> int:
    begin = time.perf_counter()
    contestant.work()
    return max(1, int(BATCH / max(time.perf_counter() - begin, 1e-7)))


def _turn(contestant: Contestant, calls: int) -> float:
    time.sleep(PAUSE)
    contestant.work()
    work = contestant.work
    begin = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - begin) / calls / contestant.units * contestant.scale
