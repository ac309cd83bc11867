"""The pytest plugin: a third party certifies its optimizer in its own test suite.

::

    from graftsim_conformance.plugin import cases

    @cases("adam(eps_placement=hat)")
    def test_adam():
        return MyAdam()

Each golden case of the machine becomes a test of its own. The function returns a candidate: an object with ``init`` and
``step``, or one with the whole interface of :class:`graftsim_conformance.candidates.Candidate`. Where it returns
nothing, the target of ``--graftsim-target`` is judged in its place.

This module is imported by every run of pytest where graftsim is installed, so it imports what it needs when it is used.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from graftsim_conformance.judge import CaseResult

KEYS = {"case", "reason", "since"}


@dataclass(frozen=True)
class Expected:
    """A failure that is known: the id of a case, why it fails, and since when that is known."""

    case: str
    reason: str
    since: datetime.date


def cases(machine: str, only: str = "*", quick: bool = False) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """A decorator that makes one test of each golden case of a machine.

    Args:
        machine: an expression, with its options.
        only: a glob that the names of the cases must match.
        quick: a small subset.

    Raises:
        GraftsimError: not a machine, or no case is left.
    """
    from graftsim import notation
    from graftsim.errors import GraftsimError
    from graftsim_conformance import golden
    from graftsim_conformance.subjects import Asked

    names = Asked("", only=only, quick=quick).picks(golden.names_of(notation.parse(machine)))
    if not names:
        raise GraftsimError(f"there must be a golden case of {machine}; none matches {only!r}")

    def decorate(make: Callable[..., Any]) -> Callable[..., None]:
        @pytest.mark.graftsim(machine=machine)
        @pytest.mark.parametrize("graftsim_case", names)
        def test(graftsim_case: str, pytestconfig: pytest.Config) -> None:
            judge(machine, graftsim_case, make(), pytestconfig)

        test.__name__, test.__doc__, test.__module__ = make.__name__, make.__doc__, make.__module__
        return test

    return decorate


def judge(machine: str, case: str, made: Any, config: pytest.Config) -> None:
    """Judge one case, and say what came of it in pytest's words."""
    found = _of_target(machine, case, config) if made is None else _of_object(machine, case, made)
    expected = config.stash[EXPECTED].get(case)
    text = _text(found)
    if found.verdict.passed:
        if expected:
            pytest.fail(f"{case} is expected to fail ({expected.reason}), and passes: take it out", pytrace=False)
    elif str(found.verdict) == "not supported":
        pytest.skip(text)
    elif expected:
        pytest.xfail(f"{expected.reason} (since {expected.since})")
    else:
        pytest.fail(text, pytrace=False)


def _of_object(machine: str, case: str, made: Any) -> CaseResult:
    from graftsim import notation
    from graftsim_conformance import golden, subjects
    from graftsim_conformance import judge as judging

    instance = notation.parse(machine)
    candidate = subjects.as_candidate(made, str(instance))
    return judging.judge(lambda: candidate, instance, [golden.stored(case)])[0]


def _of_target(machine: str, case: str, config: pytest.Config) -> CaseResult:
    from graftsim_conformance import suite

    target = config.getoption("graftsim_target")
    if not target:
        pytest.fail("the test must return a candidate, or pytest be given --graftsim-target TARGET", pytrace=False)
    return suite.reproduce(target, case, machine=machine)


def _text(found: CaseResult) -> str:
    lines = found.failure.lines() if found.failure else [found.reason]
    about = [f"  the case is there for: {found.about}"] if found.about else []
    return "\n".join([f"{found.case}: {found.verdict}", *lines, *about, *found.detail.splitlines()])


# -- hooks -------------------------------------------------------------------------------------------------------------

EXPECTED = pytest.StashKey[Mapping[str, Expected]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("graftsim")
    group.addoption(
        "--graftsim-target",
        metavar="TARGET",
        help="what is judged where a test of cases() returns no candidate: module:attribute or ./program",
    )
    group.addoption(
        "--graftsim-expected",
        metavar="FILE",
        help="a YAML list of failures that are known: case, reason, since (a date)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the expected failures."""
    config.addinivalue_line("markers", "graftsim(machine): a golden case of graftsim, made by its decorator")
    path = config.getoption("graftsim_expected")
    config.stash[EXPECTED] = read_expected(Path(path)) if path else {}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse an expected failure that matches no case of those that were collected."""
    expected = config.stash[EXPECTED]
    collected = {
        item.callspec.params["graftsim_case"]
        for item in items
        if item.get_closest_marker("graftsim") and isinstance(item, pytest.Function)
    }
    if collected and (unmatched := sorted(expected.keys() - collected)):
        raise pytest.UsageError(f"expected failures must be cases that are run; no test has {', '.join(unmatched)}")


def read_expected(path: Path) -> dict[str, Expected]:
    """Expected failures from a YAML file, by case.

    Raises:
        pytest.UsageError: not a list of ``case``, ``reason`` and ``since``; a case twice; a date that is none.
    """
    from graftsim import documents
    from graftsim.errors import GraftsimError

    try:
        rows = documents.read_yaml(path)
    except GraftsimError as error:
        raise pytest.UsageError(str(error)) from None
    if not isinstance(rows, list):
        raise pytest.UsageError(f"{path} must be a list of mappings with {', '.join(sorted(KEYS))}")
    found: dict[str, Expected] = {}
    for number, row in enumerate(rows, 1):
        where = f"{path}, entry {number}"
        if not isinstance(row, dict) or set(row) != KEYS or not all(isinstance(x, str) and x for x in row.values()):
            raise pytest.UsageError(f"{where}: must have the texts {', '.join(sorted(KEYS))}; received {row!r:.100}")
        try:
            since = datetime.date.fromisoformat(row["since"])
        except ValueError:
            reason = f"since must be a date such as 2026-01-31; received {row['since']!r}"
            raise pytest.UsageError(f"{where}: {reason}") from None
        if row["case"] in found:
            raise pytest.UsageError(f"{where}: {row['case']} stands there twice")
        found[row["case"]] = Expected(row["case"], row["reason"], since)
    return found
