"""``graftsim check`` on the command line: every output, exit codes, and one line for each mistake."""

from __future__ import annotations

import functools
import json
from xml.etree import ElementTree as Xml

import pytest

from graftsim_conformance import certificate

ADAM = ("--as", "adam(eps_placement=corrected)")


@pytest.fixture
def run(run, own_cache):
    return functools.partial(run, "check", columns=100)


def test_all_outputs_at_once(run, tmp_path):
    outputs = ("--report", "r.html", "--certificate", "c.json", "--junit", "j.xml", "--json", "r.json")
    code, out, _ = run("tests.suspects:Adam", *ADAM, *outputs)
    assert code == 0
    assert out.splitlines()[-1].startswith("equivalent")
    assert certificate.read(tmp_path / "c.json")["claims"][0]["verdict"] == "equivalent"
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["passed"] is True
    tests = Xml.parse(tmp_path / "j.xml").getroot().find("testsuite").get("tests")
    assert int(tests) == sum(len(report["rows"][0][part]) for part in ("results", "composition", "laws"))


def test_a_failure_is_1_and_leaves_no_certificate(run, tmp_path):
    (tmp_path / "c.json").write_text("an old one")
    code, out, err = run("tests.suspects:NoCorrection", *ADAM, "--certificate", "c.json")
    assert code == 1
    for text in ("first difference", "equals the mutant", "suite.reproduce(", "NOT equivalent"):
        assert text in out
    assert "no certificate: adam-corrected." in err
    assert not (tmp_path / "c.json").exists()


def test_several_targets_are_one_report(run, tmp_path):
    targets = ("tests.suspects:Adam", "tests.suspects:NoCorrection")
    code, _, _ = run(*targets, *ADAM, "--quick", "--report", "r.html", "--json", "r.json")
    assert code == 1
    assert [one["passed"] for one in json.loads((tmp_path / "r.json").read_text())["targets"]] == [True, False]
    page = (tmp_path / "r.html").read_text()
    assert all(f'">{target}</a>' in page for target in targets)


def test_list_names_the_cases_and_runs_none(run):
    code, out, _ = run("tests.suspects:Crashing", *ADAM, "--list", "--only", "*.nan*")
    assert code == 0
    assert "  adam-corrected.nan\n" in out
    assert "mixed" not in out


def test_the_edges_of_a_native_that_compiles_are_asked_for(run):
    code, out, _ = run("optax:sgd", "--list")
    assert "more with --all" in out
    code, out, _ = run("optax:sgd", "--all", "--list")
    assert "more with --all" not in out
    assert code == 0


MISTAKES = {
    "no target": ([], "name a target"),
    "no such dtype": (["torch.optim:SGD", "--dtype", "float16"], "--dtype must be float64 or float32"),
    "no process": (["torch.optim:SGD", "-j", "0"], "-j must be at least 1"),
    "a certificate of two": (["torch.optim:SGD", "torch.optim:Adam", "--certificate", "c.json"], "of one target"),
    "a folder that is a file": (["torch.optim:SGD", "--json", "file/r.json"], "cannot write"),
    "a rule that is none": (["torch.optim:SGD", "--rules", "no-such"], "there is no rule 'no-such'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_2_and_one_line(run, tmp_path, mistake):
    (tmp_path / "file").write_text("")
    arguments, text = MISTAKES[mistake]
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert text in err
    assert err.count("\n") == 1
