"""The pytest plugin, run in a pytest of its own as a third party would."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
THREE_LINES = """
from graftsim_conformance.plugin import cases
from tests.suspects import {name}

@cases("adam(eps_placement=corrected)", only="{only}")
def test_adam():
    return {name}()
"""
IMPORT = "from graftsim_conformance.plugin import cases\n\n"
MIXED = ("adam-corrected.mixed", "adam-corrected.mixed-float32", "adam-corrected.mixed-zero")


@pytest.fixture
def run(pytester, monkeypatch):
    """Run the plugin whether or not the entry point of an installed version is there."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(name: str, *options: str, only: str = "*.mixed*", expected: str = ""):
        pytester.makepyfile(test_mine=THREE_LINES.format(name=name, only=only))
        if expected:
            pytester.path.joinpath("expected.yaml").write_text(expected)
            options = (*options, "--graftsim-expected", "expected.yaml")
        return pytester.runpytest_subprocess("-p", "graftsim_conformance.plugin", "-rA", *options)

    return run


def test_the_entry_point_is_this_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (module,) = project["entry-points"]["pytest11"].values()
    assert importlib.import_module(module).cases


def test_each_case_is_a_test(run):
    done = run("Adam")
    done.assert_outcomes(passed=3)
    for case in MIXED:
        done.stdout.fnmatch_lines([f"*PASSED*test_adam?{case}?*"])


def test_a_failure_shows_the_first_difference(run):
    done = run("NoCorrection")
    done.assert_outcomes(failed=3)
    done.stdout.fnmatch_lines(["*first difference: case adam-corrected.mixed, at step 1*", "*the spec says: adam:*"])
    assert "plugin.py" not in done.stdout.str(), "the plugin's own frames help nobody"


def test_a_crash_shows_the_candidates_traceback(run):
    done = run("Crashing", only="*.mixed")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*suspects.py*", "*disk*"])


def test_what_is_not_supported_is_skipped_and_says_so(run):
    done = run("Adam", only="adam-corrected.missing")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*it does not declare missing gradients*"])


ENTRY = "- {{case: {case}, reason: no bias correction, since: 2026-01-31}}\n"


def test_expected_failures_are_expected(run):
    done = run("NoCorrection", expected="".join(ENTRY.format(case=case) for case in MIXED))
    done.assert_outcomes(xfailed=3)
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*no bias correction (since 2026-01-31)*"])


def test_one_that_passes_is_an_error(run):
    done = run("Adam", expected=ENTRY.format(case=MIXED[0]))
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*is expected to fail (no bias correction), and passes*"])


WRONG = {
    "an id that matches nothing": (ENTRY.format(case="adam-corrected.mixd"), "no test has adam-corrected.mixd"),
    "no reason": (f"- {{case: {MIXED[0]}, since: 2026-01-31}}\n", "must have the texts case, reason, since"),
    "no date": (f"- {{case: {MIXED[0]}, reason: x, since: soon}}\n", "since must be a date"),
    "a case twice": (ENTRY.format(case=MIXED[0]) * 2, "stands there twice"),
    "no list": ("case: x\n", "must be a list"),
    "no YAML": ("[", "expected.yaml"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_file_of_expected_failures_stops_the_run(run, mistake):
    text, message = WRONG[mistake]
    done = run("NoCorrection", expected=text)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr.str() + done.stdout.str()


def test_the_target_of_the_command_line(run, pytester):
    pytester.makepyfile(test_target=f'{IMPORT}@cases("sgd", only="*.mixed")\ndef test_it(): ...\n')
    options = ("test_target.py", "--graftsim-target")
    run("Adam", *options, "torch.optim:SGD").assert_outcomes(passed=1)
    run("Adam", *options, "tests.suspects:Crashing").assert_outcomes(failed=1)
    done = run("Adam", "test_target.py")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*--graftsim-target TARGET*"])


def test_a_machine_without_cases_is_refused_where_it_stands(pytester, run):
    pytester.makepyfile(
        test_other='from graftsim_conformance.plugin import cases\n\n@cases("adm")\ndef test_it(): ...\n'
    )
    done = run("Adam", "test_other.py")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*did you mean 'adam'*"])
