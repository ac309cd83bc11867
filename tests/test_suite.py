"""The suite over a whole target: what is run, in how many processes, from where it goes on, what comes out."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sys
import time
from xml.etree import ElementTree as Xml

import pytest

from graftsim.errors import GraftsimError
from graftsim_conformance import golden, junit, ledger, subjects, suite
from graftsim_conformance.judge import CaseResult, Mode
from graftsim_conformance.report import Failure
from graftsim_conformance.subjects import Asked
from graftsim_conformance.verdicts import Verdict
from tests.suspects import Adam

ADAM = ("adam(eps_placement=corrected)",)
QUICK = Asked("tests.suspects:Adam", ADAM, quick=True)
PROGRAM = f"{sys.executable} tests/answering.py"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFTSIM_CACHE", str(tmp_path / "cache"))


def verdicts(report):
    return [(one.case, one.mode, one.verdict, one.largest, one.reason) for one in report.results]


# -- what is run -------------------------------------------------------------------------------------------------------


def test_an_object_is_judged_on_all_cases_of_its_machine_and_on_the_laws():
    began = time.perf_counter()
    report = suite.run(Asked("tests.suspects:Adam", ADAM))
    assert time.perf_counter() - began < 60
    (one,) = report.claims
    assert report.passed
    assert one.verdict is Verdict.EQUIVALENT
    assert {result.case for result in one.results} == set(golden.names_of(one.claim.instance))
    assert {result.mode for result in one.results} == {Mode.FOLLOW, Mode.RESTORE}
    assert {result.reason for result in one.unsupported} == {"it does not declare missing gradients"}
    assert len([law for law in one.laws if law.passed]) >= 5
    assert one.unread == ()


@pytest.mark.parametrize("target", ["tests.suspects:right", "tests.suspects:Adam", PROGRAM])
def test_each_kind_of_target(target):
    report = suite.run(dataclasses.replace(QUICK, target=target))
    assert report.passed, "\n".join(report.lines())


def test_a_native_is_judged_under_every_row_and_says_what_it_left_out():
    report = suite.run(Asked("torch.optim:SGD"))
    assert report.passed
    assert len(report.ran) == 5
    assert not any(one.claim.left for one in report.claims), "torch needs no compiling"
    assert any(not golden.is_stream(one.case) for one in report.results)
    assert report.lines()[-1].startswith("equivalent: largest error")
    report = suite.run(Asked("optax:sgd", dtype="float64"))
    assert any(line.endswith("--all runs them") for line in report.lines())
    every = subjects.subject(Asked("optax:sgd", every=True))
    assert not any(claim.left for claim in every.claims)
    assert sum(len(claim.cases) for claim in every.claims) > sum(len(one.claim.cases) for one in report.claims)


def test_an_adapter_names_its_recipes():
    report = suite.run(Asked("tests.suspects:family", quick=True))
    assert [one.claim.machine for one in report.claims] == ["sgd", "graft(sgd, lion)"]
    assert report.passed
    assert report.subject.kind == "adapter"
    assert all(law.passed for law in report.claims[0].laws), "a family is asked about two machines, too"


def test_only_rules_and_quick_choose_cases():
    only = subjects.subject(dataclasses.replace(QUICK, quick=False, only="*.nan*")).claims[0].cases
    assert only
    assert all(".nan" in name for name in only)
    asked = dataclasses.replace(QUICK, quick=False, rules=("GS-scalar-correctly-rounded",))
    names = subjects.subject(asked).claims[0].cases
    assert names
    assert all("GS-scalar-correctly-rounded" in golden.stored(name).rules for name in names)


def test_dtype_chooses_or_casts():
    both = subjects.subject(dataclasses.replace(QUICK, quick=False)).claims[0]
    narrow = subjects.subject(dataclasses.replace(QUICK, quick=False, dtype="float32")).claims[0]
    assert set(narrow.cases) < set(both.cases)
    assert {narrow.case(name).dtype for name in narrow.cases} == {"float32"}
    wide = subjects.subject(dataclasses.replace(QUICK, quick=False, dtype="float64")).claims[0]
    assert {wide.case(name).dtype for name in wide.cases} == {"float64"}


MISTAKES = {
    "no machine": (Asked("tests.suspects:Adam"), "--as MACHINE"),
    "no module": (Asked("Adam", ADAM), "module:attribute"),
    "no adapter": (Asked("graftsim_torh"), "did you mean 'graftsim_torch'"),
    "no mode": (Asked("tests.suspects:family", mode="jit"), "a mode that it has (it has none); received 'jit'"),
    "no program": (Asked("./no_such_program", ADAM), "must be a program"),
    "no candidate": (Asked("tests.suspects:number", ADAM), "must be an optimizer that can be called"),
    "no object comes out": (Asked("tests.suspects:norm", ADAM), "when it is called without arguments"),
    "no rule": (
        dataclasses.replace(QUICK, rules=("graft-zero-directio",)),
        "did you mean 'GS-graft-zero-direction'",
    ),
    "no case": (dataclasses.replace(QUICK, only="nothing*"), "none of the chosen cases"),
    "no golden of the machine": (Asked("tests.suspects:Adam", ("adam#(adam#adam)",)), "none of the chosen cases"),
    "no dialect": (Asked("tests.suspects:Adam", like="torch.optim:Adm"), "did you mean 'torch.optim:Adam'"),
    "two machines of a native": (Asked("torch.optim:SGD", ("sgd", "adam")), "one machine at a time"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_user_is_one_line(mistake):
    asked, text = MISTAKES[mistake]
    with pytest.raises(GraftsimError, match=r"\S") as caught:
        suite.run(asked)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


# -- what a candidate does is a verdict --------------------------------------------------------------------------------


def test_a_crash_has_its_traceback():
    report = suite.run(dataclasses.replace(QUICK, target="tests.suspects:Crashing"))
    assert not report.passed
    first = report.claims[0].broken[0]
    assert first.verdict is Verdict.CRASHED
    assert "Traceback" in first.detail
    assert any("OSError" in line for line in report.lines())


def test_a_hang_times_out():
    asked = Asked("tests.suspects:Hanging", ADAM, only="adam-corrected.mixed", seconds=0.2)
    report = suite.run(asked)
    assert report.claims[0].verdict is Verdict.TIMED_OUT


class Stuck(Adam):
    """It hangs in a loop of C, between whose turns no alarm is heard."""

    def step(self, *arguments):
        return sum(itertools.repeat(0))


def test_a_hang_in_an_extension_times_out_in_a_process_of_its_own():
    asked = Asked("tests.test_suite:Stuck", ADAM, only="adam-corrected.mixed", seconds=0.02)
    (first, *_) = suite.run(asked, processes=2).claims[0].results
    assert first.verdict is Verdict.TIMED_OUT
    assert "in step" in first.detail


def test_a_candidate_that_kills_its_process_is_judged_case_by_case():
    asked = Asked("tests.suspects:Dying", ADAM, only="adam-corrected.mixed*")
    report = suite.run(asked, processes=2)
    assert [one.verdict for one in report.claims[0].results] == [Verdict.CRASHED] * 3
    assert "died" in report.claims[0].results[0].reason


# -- processes, and going on -------------------------------------------------------------------------------------------


def test_the_number_of_processes_changes_nothing():
    asked = dataclasses.replace(QUICK, target="tests.suspects:NoCorrection")
    assert verdicts(suite.run(asked)) == verdicts(suite.run(asked, processes=2))


def test_an_interrupted_run_goes_on_where_it_stopped(monkeypatch):
    whole = suite.run(QUICK)
    stop = len(whole.claims[0].claim.cases) - 2

    def interrupt(done, of):
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suite.run(QUICK, progress=interrupt)
    (path,) = ledger.folder().iterdir()
    with path.open("ab") as file:
        file.write(b'{"job": "0 adam-corrected.nan", "par')  # what a kill in the middle of a line leaves
    judged = []
    real = suite._judged
    monkeypatch.setattr(suite, "_judged", lambda found, job: judged.append(job) or real(found, job))
    seen = []
    again = suite.run(QUICK, progress=lambda done, of: seen.append(done))
    assert len(judged) == seen[-1] - stop
    assert seen[0] == stop
    assert verdicts(again) == verdicts(whole)
    assert not list(ledger.folder().iterdir()), "a run that came to its end leaves nothing"


def test_fresh_begins_anew(monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        suite.run(QUICK, progress=lambda done, of: (_ for _ in ()).throw(KeyboardInterrupt) if done == 2 else None)
    seen = []
    suite.run(QUICK, fresh=True, progress=lambda done, of: seen.append(done))
    assert seen[0] == 0


def test_another_candidate_has_another_ledger(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    place = tmp_path / "changing.py"
    place.write_text("from tests.suspects import Adam\nclass Mine(Adam):\n    pass\n")
    asked = dataclasses.replace(QUICK, target="changing:Mine")
    first = subjects.digest(subjects.subject(asked))
    assert first == subjects.digest(subjects.subject(asked))
    place.write_text("from tests.suspects import Adam\nclass Mine(Adam):\n    correct_m = False\n")
    assert subjects.digest(subjects.subject(asked)) != first
    assert subjects.digest(subjects.subject(dataclasses.replace(asked, dtype="float32"))) != first


def test_a_ledger_gives_back_what_it_was_given(tmp_path):
    failure = Failure("c", 3, "m", "w[0]", float("nan"), -float("inf"), None, 1e-300, float("inf"), "m = 1", ("a", "b"))
    result = CaseResult("c", Verdict.DIFFERENT, Mode.RESTORE, float("inf"), "w", 5, 1, failure, "r", "d\n", "p", ("t",))
    with contextlib.suppress(KeyboardInterrupt), ledger.Ledger("0" * 64, place=tmp_path) as written:
        written.add("0 c", ledger.Judged([result], laws=[dataclasses.replace(result, failure=None)]))
        raise KeyboardInterrupt
    read = ledger.Ledger("0" * 64, place=tmp_path).found["0 c"]
    assert repr(read.results) == repr([result]), "repr, for a NaN is not equal to itself"
    assert read.laws[0].failure is None


def test_two_checks_of_the_same_at_a_time_do_not_meet(tmp_path):
    """The second has no file, and leaves the first's alone."""
    judged = ledger.Judged([CaseResult("c", Verdict.EQUIVALENT)])
    with contextlib.suppress(KeyboardInterrupt), ledger.Ledger("0" * 64, place=tmp_path) as first:
        first.add("0 a", judged)
        for fresh in (False, True):
            with ledger.Ledger("0" * 64, fresh, place=tmp_path) as second:
                second.add("0 b", judged)
                assert list(second.found) == ["0 b"]
            assert first.path.exists()
        raise KeyboardInterrupt
    assert list(ledger.Ledger("0" * 64, place=tmp_path).found) == ["0 a"]


def test_where_nothing_can_be_written_there_is_a_verdict(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRAFTSIM_CACHE", str(tmp_path / "file"))
    assert suite.run(dataclasses.replace(QUICK, only="adam-corrected.mixed")).passed


def test_what_was_cut_off_spoils_no_other_row(tmp_path):
    """Kept twice in the middle of a line, each time with a new row behind it."""
    judged = ledger.Judged([CaseResult("c", Verdict.EQUIVALENT)])
    for name in ("a", "b", "c"):
        with contextlib.suppress(KeyboardInterrupt), ledger.Ledger("0" * 64, place=tmp_path) as written:
            written.add(name, judged)
            raise KeyboardInterrupt
        with written.path.open("ab") as file:
            file.write(b'{"job": "0 adam-corrected.nan", "par')
    with ledger.Ledger("0" * 64, place=tmp_path) as read:
        assert list(read.found) == ["a", "b", "c"]
    assert not read.path.exists()


# -- JUnit -------------------------------------------------------------------------------------------------------------


def test_junit_counts_and_escapes():
    reports = [suite.run(dataclasses.replace(QUICK, target=f"tests.suspects:{name}")) for name in ("Adam", "Crashing")]
    root = Xml.fromstring(junit.text(reports))
    right, wrong = root.findall("testsuite")
    assert right.get("failures") == right.get("errors") == "0"
    assert int(right.get("skipped")) == len(right.findall("testcase/skipped")) > 0
    assert int(wrong.get("errors")) == len(wrong.findall("testcase/error")) > 0
    assert int(right.get("tests")) == len(right.findall("testcase")) == len(reports[0].results)
    error = wrong.find("testcase/error")
    assert "<full>" in error.get("message")
    assert "\x1b" not in error.get("message")
    assert "Traceback" in error.text


# -- the project's own adapter -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "machine"),
    [
        ("Machines", "adam#sgd"),
        ("Machines", "graft(graft(momentum, adagrad, partition=global), graft(lion, sgd, partition=row))"),
        ("Machines", "scaled(adam#sgd, factor={'w': 0.5, 'b': 2, 's': 0.25})"),
        ("Grafts", "sgd#adam"),
        ("Grafts", "(adam#sgd)#(adam#sgd)"),
        ("Grafts", "graft(momentum(form=heavy_ball, first_step=copy), sgd, partition=tensor)"),
    ],
)
def test_no_false_alarm_for_the_torch_adapter(target, machine):
    report = suite.run(Asked(f"graftsim_conformance.torch_adapter:{target}", (machine,)))
    assert report.passed, "\n".join(report.lines())
    (claim,) = report.claims
    assert len(claim.composition) == ("graft(" in claim.claim.machine[:6]) * len(claim.claim.cases)
    assert "torch" in report.subject.versions
    assert len(report.claims[0].laws) >= 9


def test_an_altered_golden_file_is_refused(tmp_path, monkeypatch):
    name = "adam-corrected.mixed"
    text = (golden.folder() / f"{name}.json").read_text()
    (tmp_path / f"{name}.json").write_text(text.replace("p-2", "p-3", 1))
    monkeypatch.setattr(golden, "folder", lambda: tmp_path)
    golden.stored.cache_clear()
    with pytest.raises(GraftsimError, match="digest"):
        suite.run(dataclasses.replace(QUICK, quick=False, only=name))
    golden.stored.cache_clear()
