"""What a report says of a candidate that failed: the option, the mutant, and a snippet that shows it again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from graftsim_conformance import mutants, suite
from graftsim_conformance.subjects import Asked

ADAM = "adam(eps_placement=corrected)"


def of(target, machine, **more):
    report = suite.run(Asked(target, (machine,), **more))
    (one,) = report.claims
    return report, one.diagnosis


def test_a_candidate_that_passes_has_none():
    _, found = of("tests.suspects:Adam", ADAM, quick=True)
    assert found.lines() == []
    assert found.snippet == ""


def test_the_neighbouring_option_is_named():
    _, found = of("tests.suspects:Adam", "adam(eps_placement=hat)")
    assert found.hint == "it agrees with eps_placement=corrected"


def test_a_mutant_of_equations_is_named():
    report, found = of("tests.suspects:NoCorrection", ADAM)
    assert found.mutants == ("adam.adam.no_bias_correction_of_m",)
    assert "  equals the mutant adam.adam.no_bias_correction_of_m" in report.lines()


def test_a_mutant_of_the_ratio_is_named():
    _, found = of("tests.suspects:Inverted", "sgd#lion")
    assert "graft.roles.ratio_inverted" in found.mutants


def test_a_mutant_of_behaviour_is_named(monkeypatch, tmp_path):
    name = next(name for name, mutant in mutants.catalogue().items() if mutant.changes is not None and not mutant.same
                and ".checkpoint." not in name and mutants.stored()[name])  # fmt: skip
    case = mutants.stored()[name][0]
    (tmp_path / "behaving.py").write_text(
        "from graftsim_conformance import golden, mutants\n"
        f"def Mine():\n    return mutants.catalogue()[{name!r}].candidate(golden.stored({case!r}).machine)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from graftsim_conformance import golden

    _, found = of("behaving:Mine", golden.stored(case).machine, only=case)
    assert name in found.mutants


@pytest.mark.parametrize(
    ("target", "machine"), [("tests.suspects:NoCorrection", ADAM), ("torch.optim:SGD", "sgd(lr=0.5)")]
)
def test_the_snippet_runs_and_shows_the_same_failure(target, machine):
    report, found = of(target, machine, only="*.mixed")
    done = subprocess.run([sys.executable, "-c", found.snippet], capture_output=True, text=True, check=True)
    first = report.claims[0].broken[0].failure.lines()
    assert done.stdout.splitlines()[-len(first) :] == first
    assert len(found.snippet.splitlines()) <= 5
