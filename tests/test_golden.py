"""Golden trajectories: the files are the reference's bits, an oracle agrees, and a bad file is refused in one line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftsim.bounds import Bounds, arbitrary
from graftsim.errors import GraftsimError
from graftsim_conformance import case_files, edges, golden, posing, probes
from graftsim_conformance.cases import Case, parts
from graftsim_conformance.hexfloat import from_hex, to_hex

NAME = "graft-adam-sgd.mixed"
NAMES = sorted(file.name.removesuffix(".json") for file in golden.folder().iterdir() if file.name.endswith(".json"))


def test_the_files_are_what_the_reference_gives_now():
    assert golden.differences() == []
    assert set(NAMES) == set(posing.names())
    assert len(NAMES) >= len(probes.NATIVE) * 6 + len(probes.REFERENCE) * 2 + len(edges.posed())


def test_files_are_small():
    assert all(len((golden.folder() / f"{name}.json").read_bytes()) < 60_000 for name in NAMES)


@pytest.fixture
def few(tmp_path, monkeypatch):
    """A golden folder of three machines, for what would take long with all."""
    kept = [row for row in posing.streams() if row[0].partition(".")[0] in ("sgd", "graft-adam-sgd")]
    monkeypatch.setattr(posing, "streams", lambda: kept)
    monkeypatch.setattr(edges, "EDGES", [edge for edge in edges.EDGES if edge.name in ("missing", "late_10000")])
    for name in posing.names():
        shutil.copy(str(golden.folder() / f"{name}.json"), tmp_path)
    monkeypatch.setattr(golden, "folder", lambda: tmp_path)
    return tmp_path


def test_the_check_mode_sees_a_changed_a_missing_and_a_foreign_file(few):
    assert golden.differences() == []
    (few / f"{NAME}.json").write_bytes((few / f"{NAME}.json").read_bytes() + b"\n")
    (few / "sgd.missing.json").unlink()
    (few / "foreign.x.json").write_text("{}")
    assert [line.split(":")[0] for line in golden.differences()] == [
        "sgd.missing.json",
        "foreign.x.json",
        f"{NAME}.json",
    ]
    golden.write()
    assert golden.differences() == []


def test_a_diff_names_case_quantity_step_place_and_size(few, capsys, monkeypatch):
    place = few / f"{NAME}.json"
    content = json.loads(place.read_text())
    weight = content["steps"][2]["weights"]["w"][1]
    content["steps"][2]["weights"]["w"][1] = to_hex(np.nextafter(float.fromhex(weight), np.inf))
    content["steps"][4]["state"]["magnitude.v"]["b"][0] = "nan"
    content["about"] = "something else"
    place.write_text(json.dumps(content))
    (few / "sgd.missing.json").unlink()
    (few / "foreign.x.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["golden", "diff"])
    assert golden.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"{NAME}: other about",
        f"{NAME}: weights at step 3, w[1]: {to_hex(np.nextafter(float.fromhex(weight), np.inf))} is now {weight}; "
        "1 values in all, at most 1 ulps",
    ]
    assert lines[2].startswith(f"{NAME}: state magnitude.v at step 5, b[0]: nan is now 0x1")
    assert lines[3:] == ["sgd.missing: is new", "foreign.x: belongs to no case any more"]
    monkeypatch.setattr("sys.argv", ["golden", "diff", "--write"])
    assert golden.main() == 0
    monkeypatch.setattr("sys.argv", ["golden", "diff"])
    assert golden.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "all golden trajectories are what the reference gives"


@pytest.mark.parametrize(
    "name", [NAME, "adam-corrected.late_10000", "missing-graft-global.missing", "pair-adam-sgd.grafted-float32"]
)
def test_what_is_read_is_what_was_written(name):
    case = golden.stored(name)
    assert case_files.text(case) == (golden.folder() / f"{name}.json").read_text("utf-8")


STREAMS = [name for name in NAMES if name.partition(".")[2] in ("mixed", "options")]
EDGES = [
    edges.name_of(edge, machine, dtype, twin)
    for edge, machine, dtype, twin in edges.posed()
    if not twin and machine in ("pair-adam-sgd", *edges.DIVIDED, *edges.NESTED, "lamb")
]


@pytest.mark.parametrize("names", [STREAMS, EDGES], ids=["streams", "edges"])
def test_every_expected_value_lies_within_the_bound_of_the_oracle(names):
    """One step at a time from the golden state, 40 digits against bits: sees a wrong operation in the engine."""
    for name in names:
        with np.errstate(all="ignore"):
            for step, place, got, want, error in against_the_oracle(golden.stored(name)):
                decided = np.isfinite(got) & np.isfinite(error)
                distance = np.abs((np.where(decided, got, 0) - want).astype(float))
                assert (distance[decided] <= error[decided]).all(), (name, step, place)


def against_the_oracle(case: Case):
    """Step, place, the stored values, the oracle's and its bound, of everything that a case expects."""
    oracle = Bounds(case.program, arbitrary(40))
    state, weights = dict(case.start), case.weights
    rows = zip(case.gradients, case.hyperparameters, case.after, strict=True)
    for step, (gradients, settings, after) in enumerate(rows, case.taken + 1):
        exact = {path: oracle.exact(value) for path, value in state.items()}
        found, outcome = oracle.step(oracle.exact(weights), parts(case.layout, gradients), exact, step, settings)
        yield step, "weights", after.weights, found.value, found.error
        for path in after.state:
            yield step, path, after.state[path], outcome.state[path].value, outcome.state[path].error
        for path in after.info:
            yield step, path, after.info[path], outcome.info[path].value, outcome.info[path].error
        weights, state = after.weights, dict(after.state)


def test_probes_do_what_they_are_for():
    """Gradients below eps, exact zeros, a spike, a changing lr, and zero twins: else cases lose their point unseen."""
    tiny, mixed = golden.stored("adam-corrected.tiny"), golden.stored("adam-corrected.mixed")
    assert max(np.abs(g).max() for g in tiny.gradients) < 0.01 * tiny.hyperparameters[0]["eps"]
    assert any((g == 0).any() for g in mixed.gradients)
    spike = [np.abs(g).max() for g in golden.stored("adam-corrected.spike").gradients]
    assert max(spike) > 1000 * spike[0] > 1000 * spike[-1] / 4
    for name in NAMES:
        if golden.is_stream(name) and name.partition(".")[0] in (
            "lamb",
            "adagrad-inside",
            "decay_decoupled-adam-corrected",
        ):
            case = golden.stored(name)
            assert (case.weights == 0).all() == name.endswith("-zero")
            for path in case.hyperparameters[0]:
                changing = len({values[path] for values in case.hyperparameters}) > 1
                assert changing == (path.split(".")[-1] == "lr")
                if path.split(".")[-1] == "eps":
                    assert case.hyperparameters[0][path] >= 0.01


@pytest.mark.parametrize(
    ("name", "elsewhere"),
    [
        ("keras-adam-momentum.placed", ("eps_placement=hat", "eps_placement=corrected")),
        ("keras-momentum-adam.placed", ("eps_placement=hat", "eps_placement=inside")),
        ("keras-rmsprop-adagrad.placed", ("rmsprop(eps_placement=inside", "rmsprop(eps_placement=outside")),
        ("keras-adagrad-rmsprop.placed", ("adagrad(eps_placement=inside", "adagrad(eps_placement=outside")),
        ("keras-adamax-adadelta.placed", ("eps_placement=outside", "eps_placement=in_max")),
        ("keras-adadelta-adamax.placed", ("eps_placement=outside", "eps_placement=in_max")),
    ],
)
def test_where_keras_has_eps_shows(name, elsewhere):
    """In both roles, in the weights, and by far more than any budget; the numbers are exact in float32 as well."""
    case = golden.stored(name)
    other = golden.solved(dataclasses.replace(case, machine=case.machine.replace(*elsewhere), after=()))
    assert np.abs(case.after[-1].weights - other.after[-1].weights).max() > 1e-4
    values = np.array([value for row in case.hyperparameters for value in row.values()])
    assert (values.astype(np.float32) == values).all(), "TensorFlow takes some of them through float32"


def test_where_gradients_lack_one_count_is_another_adam():
    case = golden.stored("keras-missing-adam-sgd.missing")
    held = golden.solved(dataclasses.replace(case, machine=case.machine.replace("advance", "hold"), after=()))
    assert case.after[3].state["magnitude.t"].tolist() == [4] * 6
    assert held.after[3].state["magnitude.t"].tolist() == [4, 2, 4, 3, 3, 3]
    assert (held.after[3].weights != case.after[3].weights).any()


def test_the_integers_of_the_streams_are_those_of_the_published_generator():
    first = [next(iterator) for iterator in [probes.integers(1234567)] for _ in range(3)]
    assert first == [6457827717110365317, 3203168211198807973, 9817491932198370423]


# -- floats ------------------------------------------------------------------------------------------------------------


@given(st.floats(width=64, allow_nan=True))
def test_floats_survive_and_have_one_text(x):
    text = to_hex(x)
    assert np.float64(from_hex(text, "float64", "here")).tobytes() == np.float64(x).tobytes() or x != x
    assert text == "nan" or float.fromhex(text) == x
    assert len(text) <= len(x.hex())


@given(st.floats(width=32, allow_nan=False))
def test_float32_values_are_read_as_float32(x):
    assert from_hex(to_hex(x), "float32", "here") == x


@pytest.mark.parametrize(
    "text",
    ["0.1", "0x1.0p+0", "0x2p+0", "0x1p0", "0X1p+0", "0x1p+00", "0x0p-1", "0x1p+1024", "0x1p-1075", "+inf", "NaN", "",
     "-nan", "0x1.99999999999999p-4", " 0x1p+0", "0x1p+0\n", "infinity", "0x1.8000000000001p-1074"],
)  # fmt: skip
def test_any_other_text_is_refused(text):
    with pytest.raises(GraftsimError):
        from_hex(text, "float64", "here")


def test_a_float64_is_no_float32():
    with pytest.raises(GraftsimError, match="float32"):
        from_hex(to_hex(0.1), "float32", "here")


# -- bad files ---------------------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(GraftsimError) as found:
        case_files.read(path)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.fixture
def good(tmp_path):
    return Path(shutil.copy(str(golden.folder() / f"{NAME}.json"), tmp_path / "case.json"))


def resigned(path: Path, edit) -> Path:
    """The file after an edit of its content, with a digest that fits: what lies behind the digest must hold alone."""
    content = json.loads(path.read_text())
    edit(content)
    text = json.dumps(content | {"sha256": case_files.ZEROS}, sort_keys=True)
    path.write_text(text.replace(case_files.ZEROS, hashlib.sha256(text.encode()).hexdigest()))
    return path


def test_a_resigned_file_is_read(good):
    assert case_files.read(resigned(good, lambda content: None)).name == NAME


def test_a_truncated_file(good):
    good.write_bytes(good.read_bytes()[:-100])
    assert "must be JSON" in refused(good)


@pytest.mark.parametrize(("old", "new"), [("p-4", "p-5"), ("  ", " "), ("\n", "\r\n"), ('"0x0p+0"', '"-0x0p+0"')])
def test_an_altered_file(good, old, new):
    good.write_bytes(good.read_bytes().replace(old.encode(), new.encode(), 1))
    assert "digest" in refused(good)


def test_a_literal_nan(good):
    good.write_text(re.sub(r'"0x0p\+0"', "NaN", good.read_text(), count=1))
    assert "NaN is not JSON" in refused(good)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda c: c.update(schema="golden/1"), "schema"),
        (lambda c: c.pop("machine"), "machine"),
        (lambda c: c.update(more=1), "more"),
        (lambda c: c.update(dtype="float16"), "dtype"),
        (lambda c: c.update(machine="adamm#sgd"), "did you mean 'adam'"),
        (lambda c: c.update(machine="__import__('os')"), "unknown machine '__import__'"),
        (lambda c: c.update(steps=c["steps"][:1] * 17), "at steps"),
        (lambda c: c.update(tensors=c["tensors"] * 2), "different names"),
        (lambda c: c["tensors"][0].update(shape=[64] * 8), "at most 64 coordinates"),
        (lambda c: c["tensors"][0].update(shape=[10**9, 0]), "1000000000"),
        (lambda c: c["tensors"][0].update(shape=[4, 4]), "weights, w must be a list of 16"),
        (lambda c: c["start"]["weights"].pop("b"), "'b'"),
        (lambda c: c["start"]["weights"]["w"].__setitem__(0, "0.5"), "weights, w: a float must be text"),
        (lambda c: c["start"]["weights"]["w"].__setitem__(0, 0.5), "0.5"),
        (lambda c: c["start"]["weights"].update(w=7), "list of 12"),
        (lambda c: c["start"]["weights"].update(w=None), "None"),
        (lambda c: c["start"]["state"].pop("magnitude.m"), "magnitude.m"),
        (lambda c: c["start"].update(step=-1), "-1"),
        (lambda c: c.update(rules=[]), "rules"),
        (lambda c: c.update(about=""), "about"),
        (lambda c: c["steps"][2]["gradients"].pop("s"), "'s'"),
        (lambda c: c["steps"][2]["gradients"].update(w=None, b=["0x1p+0"]), "gradients, b must be a list of 5"),
        (lambda c: c["steps"][2]["state"].pop("magnitude.m"), "magnitude.m"),
        (lambda c: c["steps"][2]["info"]["ratio"].pop("s"), "'s'"),
        (lambda c: c["steps"][0]["hyperparameters"].pop("magnitude.lr"), "magnitude.lr"),
        (lambda c: c["steps"][3]["hyperparameters"].update({"lr": "0x1p+0"}), "'lr'"),
        (lambda c: c["steps"][3]["state"]["magnitude.t"].update(w=-1), "-1"),
    ],
)
def test_content_that_does_not_fit(good, edit, says):
    assert says in refused(resigned(good, edit))


def test_sizes_are_bounded(good):
    good.write_bytes(good.read_bytes() + b" " * 60_000)
    assert "at most 60000 bytes" in refused(good)
    good.write_text("[" * 50_000)
    assert "must be JSON" in refused(good)
    assert "cannot read" in refused(good.parent / "absent.json")


def test_a_file_of_another_form_than_the_schema_s_is_a_difference(few):
    resigned(few / f"{NAME}.json", lambda content: content.update(about=3))
    assert golden.differences() == [
        f"{NAME}.json: differs from what the reference gives",
        f"{NAME}.json: at about: 3 is not of type 'string'",
    ]
