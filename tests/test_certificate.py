"""Certificates: who gets one, what stands in it, and that it cannot be altered."""

from __future__ import annotations

import dataclasses
import json

import pytest

from graftsim.errors import GraftsimError
from graftsim_conformance import certificate, golden, suite
from graftsim_conformance.subjects import Asked
from graftsim_conformance.verdicts import Verdict

ADAM = ("adam(eps_placement=corrected)",)


def report(name, machines=ADAM, **more):
    return suite.run(Asked(f"tests.suspects:{name}", machines, **more))


@pytest.fixture(scope="module")
def adam():
    return report("Adam")


@pytest.fixture(scope="module")
def graft():
    return report("Graft", ("sgd#lion",))


def test_it_names_edition_versions_device_dtype_and_every_case(adam):
    found = certificate.certificate(adam)
    assert found["spec"] == {"edition": "0.1"}
    assert {"graftsim", "numpy"} <= set(found["versions"])
    assert found["device"]["machine"]
    assert found["dtype"] == "both"
    (claim,) = found["claims"]
    assert claim["verdict"] == "equivalent"
    without = {case for row in claim["not_supported"] for case in row["cases"]}
    assert claim["recipes"]["follow"].keys() | without == set(golden.names_of(adam.claims[0].claim.instance))
    errors = [error for _, error in certificate.errors(claim) if error != "exact"]
    assert max(errors) == claim["largest"] >= adam.claims[0].largest > 0
    assert claim["state"] == "compared"
    assert claim["laws"].keys() >= {"rate", "restore"}
    assert [row["reason"] for row in claim["not_supported"]] == ["it does not declare missing gradients"] * 2


def test_a_graft_has_two_parts(graft):
    claim = certificate.certificate(graft)["claims"][0]
    assert len(claim["composition"]) >= 4
    assert claim["composition"].keys() == claim["recipes"]["follow"].keys()


def test_the_composition_is_judged_apart_from_the_children():
    other = report("OtherChild", ("sgd#lion",)).claims[0]
    assert all(one.passed for one in other.composition)
    assert any(one.verdict is Verdict.DIFFERENT for one in other.results)
    wrong = report("Inverted", ("sgd#lion",)).claims[0]
    assert any(one.verdict is Verdict.DIFFERENT for one in wrong.composition)
    assert {one.failure.place for one in wrong.composition if one.failure} <= {"n_m", "n_d", "ratio", "weights"}


def test_state_that_cannot_be_read_is_said():
    claim = certificate.certificate(report("Blind"))["claims"][0]
    assert claim["state"] == "weights only"
    assert claim["unread"] == ["t", "m", "v"]


def test_no_certificate_for_a_required_skip():
    found = report("Picky")
    assert found.passed, "what it does not support is not held against it in the verdict"
    with pytest.raises(GraftsimError, match=r"is required and is not supported: an eps above 1e-3"):
        certificate.certificate(found)


@pytest.mark.parametrize(
    ("name", "more", "text"),
    [
        ("Adam", {"quick": True}, "must stand for all cases"),
        ("Adam", {"only": "*.mixed"}, "must stand for all cases"),
        ("NoCorrection", {}, "is different: first difference"),
    ],
)
def test_no_certificate(name, more, text):
    with pytest.raises(GraftsimError, match=text):
        certificate.certificate(report(name, **more))


def test_a_native_must_have_run_its_edges():
    with pytest.raises(GraftsimError, match="--all"):
        certificate.certificate(suite.run(Asked("optax:sgd")))


def test_an_altered_certificate_is_refused(adam, tmp_path):
    path = tmp_path / "adam.json"
    certificate.write(certificate.certificate(adam), path)
    assert certificate.read(path)["target"] == "tests.suspects:Adam"
    document = json.loads(path.read_text())
    next(iter(document["claims"][0]["recipes"]["follow"].values()))[1] += 1
    path.write_text(json.dumps(document))
    with pytest.raises(GraftsimError, match="it was altered"):
        certificate.read(path)


def test_the_schema_holds_no_failing_case(adam, tmp_path):
    document = certificate.certificate(adam)
    entry = next(iter(document["claims"][0]["recipes"]["follow"].values()))
    path = tmp_path / "adam.json"
    for error, text in (("different", "different"), (4.01, "must be within the budget; it has 4.01")):
        entry[0] = error
        document["digest"] = certificate.digest(document)
        path.write_text(json.dumps(document))
        with pytest.raises(GraftsimError, match=text):
            certificate.read(path)


def test_two_runs_give_one_certificate(adam):
    again = certificate.certificate(dataclasses.replace(report("Adam")))
    assert again == certificate.certificate(adam)
