"""The project's own certificates: what is committed, and that a renewal sees what changes."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import threading

import pytest

from graftsim.errors import GraftsimError
from graftsim_conformance import certificate, suite
from graftsim_conformance.certificates import __main__ as renewal
from graftsim_conformance.certificates import table
from graftsim_conformance.certificates.changes import changes
from graftsim_conformance.mutants import catalogue
from graftsim_conformance.mutated import ReferenceCandidate
from graftsim_conformance.subjects import Asked, subject

SIZE = 300_000


class Showing(ReferenceCandidate):
    """The reference, which shows the steps of a graft's children."""

    def start(self, layout, weights, arguments):
        super().start(layout, weights, arguments)
        steps = {f"{child}.delta": f"{child}.delta" for child in self.program.instance.children}
        self.engine.program = dataclasses.replace(self.program, info={**self.program.info, **steps})


def family(machine):
    """An adapter, which an environment variable makes wrong, or less able."""
    mutant = catalogue().get(os.environ.get("MUTANT", ""))
    candidate = mutant.candidate(machine) if mutant else Showing(machine)
    if "DEAF" in os.environ:
        candidate.abilities = ()
    return candidate


family.machines = ("graft(sgd, lion, partition=tensor)",)
ROWS = """
reference:
  graft: {{target: "tests.test_certificates:family", dtype: float64, environment: {environment}}}
"""


@pytest.fixture(scope="module")
def document():
    return certificate.certificate(suite.run(Asked("tests.test_certificates:family", dtype="float64", every=True)))


@pytest.fixture
def renew(tmp_path, capsys):
    """Renews the certificate of the family in a folder of its own: (exit code, what was said)."""

    def call(*arguments, environment="{}"):
        table.rows.cache_clear()
        (tmp_path / "table.yaml").write_text(ROWS.format(environment=environment))
        code = renewal.main([*arguments, "--folder", str(tmp_path)])
        return code, capsys.readouterr().out

    return call


# -- what is committed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", table.rows(), ids=lambda row: row.name)
def test_a_committed_certificate_is_whole(row):
    path = table.HERE / row.file
    assert path.stat().st_size < SIZE
    document = certificate.read(path)
    assert (document["target"], document["dtype"], document["mode"]) == (row.target, row.dtype or "both", row.mode)


@pytest.mark.parametrize(
    "row", [row for row in table.rows() if row.adapter == "graftsim_torch"], ids=lambda row: row.name
)
def test_a_committed_certificate_is_of_the_cases_that_there_are(row):
    document = certificate.read(table.HERE / row.file)
    found = subject(Asked(row.target, mode=row.mode, dtype=row.dtype, every=True))
    claims = [claim for claim in found.claims if claim.cases]
    assert len(claims) == len(document["claims"])
    for claim, said in zip(claims, document["claims"], strict=True):
        without = {case for entry in said["not_supported"] for case in entry["cases"]}
        assert set(said["recipes"]["follow"]) | without == set(claim.cases)
        assert said["composition"].keys() == (said["recipes"]["follow"].keys() if said["composition"] else set())


def test_no_file_is_of_no_row():
    assert {path.name for path in table.HERE.glob("*.json")} == {row.file for row in table.rows()}


def test_keras_is_certified_eagerly_in_a_function_and_with_xla():
    rows = [row for row in table.rows() if row.adapter == "graftsim_tf"]
    assert {(row.target.partition(":")[2], row.mode, row.dtype) for row in rows} == {
        (target, mode, dtype)
        for target in ("Machines", "Grafts")
        for mode in ("", "compiled", "xla")
        for dtype in ("float64", "float32")
    }
    for target in ("Machines", "Grafts"):
        first, *others = [_machines(row) for row in rows if row.target.endswith(target) and row.dtype == "float64"]
        assert all(other == first for other in others)


def test_adam_of_keras_is_certified_as_magnitude_and_as_direction():
    for row in table.rows():
        if row.adapter == "graftsim_tf" and "Grafts" in row.target:
            grafts = " ".join(_machines(row))
            assert "graft(adam(eps_placement=hat" in grafts
            assert ", adam(eps_placement=hat" in grafts
            lacking = {case for claim in certificate.read(table.HERE / row.file)["claims"]
                       for case in claim["recipes"]["follow"] if ".missing" in case}  # fmt: skip
            assert bool(lacking) == (row.dtype == "float64")


def _machines(row):
    return [claim["machine"] for claim in certificate.read(table.HERE / row.file)["claims"]]


def test_the_torch_adapter_is_certified_in_both_parts_and_dtypes():
    rows = [row for row in table.rows() if row.adapter == "graftsim_torch"]
    assert {(row.target.partition(":")[2], row.dtype) for row in rows} == {
        (target, dtype) for target in ("Machines", "Grafts") for dtype in ("float64", "float32")
    }
    for row in rows:
        claims = certificate.read(table.HERE / row.file)["claims"]
        grafts = [claim for claim in claims if claim["machine"].startswith("graft(")]
        assert grafts
        assert all(claim["composition"] for claim in grafts)
        assert not any(claim["profile"] for claim in claims)


# -- what changes ------------------------------------------------------------------------------------------------------


def first(document):
    return document["claims"][0]


def case(document):
    return next(iter(first(document)["recipes"]["follow"]))


SAME = {
    "other versions": lambda d: d["versions"].update(numpy="3.0"),
    "another device": lambda d: d["device"].update(machine="aarch64"),
    "another error": lambda d: first(d)["recipes"]["follow"].update({case(d): [3.9, *values(d)]}),
}
OTHER = {
    "a machine that went": (lambda d: d["claims"].append({**first(d), "machine": "adam"}), "new: adam"),
    "another dtype": (lambda d: d.update(dtype="both"), "dtype was 'float64' and is 'both'"),
    "another backend": (lambda d: d["device"].update(backend="torch"), "backend was '' and is 'torch'"),
    "a case that went": (lambda d: first(d)["recipes"]["follow"].pop(case(d)), "follow: no longer there: pair"),
    "a mode that went": (lambda d: first(d)["recipes"].pop("restore"), "restore: no longer there: pair"),
    "a law that went": (lambda d: first(d)["laws"].pop("sign"), "laws: no longer there: sign"),
    "no composition": (lambda d: first(d).update(composition={}), "composition: no longer there"),
    "a profile more": (lambda d: first(d).update(profile="flush-to-zero"), "passes only under flush-to-zero now"),
    "fewer values": (lambda d: first(d)["recipes"]["follow"].update({case(d): [0.0, 1, 0]}), "and is 1 values"),
    "unread state": (lambda d: first(d).update(unread=["direction.m"]), "unread was [] and is ['direction.m']"),
    "a reason": (
        lambda d: first(d)["not_supported"].append({"mode": "follow", "reason": "tired", "cases": ["new"]}),
        "not supported: new: new, follow",
    ),
}


def values(document):
    return first(document)["recipes"]["follow"][case(document)][1:]


@pytest.mark.parametrize("change", SAME)
def test_what_is_no_change(document, change):
    other = copy.deepcopy(document)
    SAME[change](other)
    assert changes(document, other) == []


@pytest.mark.parametrize("change", OTHER)
def test_what_is_a_change(document, change):
    make, text = OTHER[change]
    other = copy.deepcopy(document)
    make(other)
    assert text in "\n".join(changes(document, other))
    assert changes(other, document) or change == "a profile more", "which is given up again"


# -- renewing ----------------------------------------------------------------------------------------------------------


def test_a_certificate_is_written_and_stands(renew, document, tmp_path, monkeypatch):
    assert renew("--write", "graft")[0] == 0
    assert certificate.read(tmp_path / "graft.json") == document, "from another process"
    monkeypatch.setattr(renewal, "renewed", lambda row, count: document)
    code, said = renew("reference")
    assert (code, "graft: as committed; largest error" in said) == (0, True)
    (tmp_path / "graft.json").unlink()
    code, said = renew()
    assert (code, "there is no file yet" in said) == (1, True)


def test_a_wrong_adapter_has_no_certificate_any_more(renew, document, tmp_path):
    certificate.write(document, tmp_path / "graft.json")
    code, said = renew(environment="{MUTANT: graft.roles.ratio_inverted}")
    assert code == 1
    assert "graft: no certificate: " in said
    assert "is different: first difference" in said
    assert certificate.read(tmp_path / "graft.json") == document


def test_an_adapter_that_can_do_less_is_a_change(renew, document, tmp_path):
    certificate.write(document, tmp_path / "graft.json")
    code, said = renew(environment="{DEAF: yes}")
    assert code == 1
    assert "graft: changed" in said
    assert "laws: no longer there: missing" in said
    assert "0 of 1 certificates stand; not graft" in said


def test_an_altered_certificate_does_not_stand(renew, document, tmp_path, monkeypatch):
    monkeypatch.setattr(renewal, "renewed", lambda row, count: document)
    altered = json.loads(json.dumps(document))
    altered["budget"] = 40.0
    certificate.write(altered, tmp_path / "graft.json")
    code, said = renew()
    assert code == 1
    assert "it was altered" in said


TWO = """
one:
  first: {target: "tests.test_certificates:family", dtype: float64}
other:
  second: {target: "tests.test_certificates:family", dtype: float64}
"""


def test_rows_are_renewed_beside_each_other_with_a_process_each(document, tmp_path, monkeypatch, capsys):
    (tmp_path / "table.yaml").write_text(TWO)
    both, asked = threading.Barrier(2, timeout=10), {}

    def renewed(row, processes):
        asked[row.name] = processes
        both.wait()
        if row.name == "second":
            return document
        raise GraftsimError("it is no graft")

    monkeypatch.setattr(renewal, "renewed", renewed)
    assert renewal.main(["--folder", str(tmp_path), "-j", "2", "--write"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert asked == {"first": 1, "second": 1}
    assert said[-1] == "1 of 2 certificates stand; not first"
    assert "first: no certificate: it is no graft" in said
    assert (tmp_path / "second.json").exists()
    assert not (tmp_path / "first.json").exists()


def test_a_row_alone_has_all_processes(document, tmp_path, monkeypatch):
    (tmp_path / "table.yaml").write_text(TWO)
    asked = []
    monkeypatch.setattr(renewal, "renewed", lambda row, processes: asked.append(processes) or document)
    renewal.main(["--folder", str(tmp_path), "-j", "3", "first"])
    assert asked == [3]


def test_a_check_that_hangs_ends(monkeypatch):
    monkeypatch.setattr(renewal, "SECONDS", 0.01)
    with pytest.raises(GraftsimError, match=r"check tests\.test_certificates:family .* took longer than 0 s"):
        renewal.renewed(table.Row("first", "one", "tests.test_certificates:family"), 1)


def test_an_unknown_name_is_one_line(capsys):
    assert renewal.main(["graftsim_torc"]) == 2
    assert "did you mean 'graftsim_torch'" in capsys.readouterr().err


def test_a_table_is_checked(tmp_path):
    for text in ("[]", "a: {b: {goal: x}}", "a: {n: {target: x}}\nb: {n: {target: y}}"):
        path = tmp_path / f"{len(text)}.yaml"
        path.write_text(text)
        with pytest.raises(GraftsimError, match="must"):
            table.rows(path)
