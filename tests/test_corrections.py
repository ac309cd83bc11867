"""Corrections without a framework: what is discovered, and files of it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftsim import corrections
from graftsim.layouts import Layout
from graftsim.trajectory import Meta, Trajectory

GROUPS = ("a", "b")


def record(n_m, n_d, steps=None):
    """A trajectory with nothing in it but norms, of rows of two groups."""
    n_m, n_d = np.array(n_m, np.float64), np.array(n_d, np.float64)
    rows = np.array([0, *(steps or range(1, len(n_m) + 1))])
    groups = {"n_m": GROUPS, "n_d": GROUPS}
    meta = Meta("adam#sgd", "", Layout.of({"a": (1,), "b": (1,)}), "float64", 0, 1, int(rows[-1]), True, groups)
    loss = np.full(len(rows), math.nan)
    return Trajectory(meta, rows, np.array([0]), np.zeros((1, 2)), loss, {}, {"n_m": n_m, "n_d": n_d})


def test_medians_of_steps_with_a_direction():
    n_m = [[2.0, 1.0], [9.0, math.inf], [8.0, 5.0], [3.0, 7.0]]
    n_d = [[1.0, 4.0], [0.0, 1.0], [2.0, math.nan], [1.0, 1.0]]
    assert corrections.discover(record(n_m, n_d)) == {"a": 3.0, "b": (0.25 + 7.0) / 2}
    assert corrections.discover(record(n_m, n_d), steps=3) == {"a": 3.0, "b": 0.25}
    assert corrections.discover(record(n_m, n_d, steps=[5, 10, 15, 20]), steps=9) == {"a": 2.0, "b": 0.25}


def test_a_group_without_a_direction_has_no_correction():
    with pytest.raises(ValueError, match="'b' must have a step whose direction is not zero"):
        corrections.discover(record([[1.0, 1.0]], [[1.0, 0.0]]))
    plain = record([[1.0, 1.0]], [[1.0, 1.0]])
    del plain.info["n_d"]
    with pytest.raises(ValueError, match=r"the record of a graft; received info \['n_m'\]"):
        corrections.discover(plain)


def test_silent_groups():
    assert corrections.silent(record([[1.0, 1.0]] * 3, [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])) == {"a": 1, "b": 3}
    assert corrections.silent(record([[1.0, 1.0]], [[1.0, math.nan]])) == {}


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)


@given(st.dictionaries(NAMES, st.floats(0, allow_infinity=False, allow_subnormal=True), min_size=1))
def test_what_is_saved_is_read(tmp_path_factory, factors):
    """Every digit, and names with quotes, colons and what YAML would take for a number."""
    path = tmp_path_factory.mktemp("corrections") / "found.yaml"
    corrections.save(path, factors, "pattern(a='x', rest=None)")
    found = corrections.read(path)
    assert (found.factors, found.partition, found.where) == (factors, "pattern(a='x', rest=None)", str(path))


@pytest.mark.parametrize("name", ["'", "a: b", "1e-3", "no", "- x", "#", "~"])
def test_names_that_yaml_reads_otherwise(name, tmp_path):
    corrections.save(tmp_path / "found.yaml", {name: 0.1}, "tensor")
    assert corrections.read(tmp_path / "found.yaml").factors == {name: 0.1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("factors: [1]\n", "must have the keys"),
        ("partition: tensor\n", "must have the keys"),
        ("factors: {a: 1.0}\nlr: 3\n", "must have the keys"),
        ("- 1\n", "must have the keys"),
        ("partition: 3\nfactors: {a: 1.0}\n", "must be text such as tensor; received 3"),
        ("factors: {a: -1.0}\n", "'a' must be a finite number that is at least 0"),
        ("factors: {a: .inf}\n", "finite"),
        ("factors: {a: true}\n", "finite number"),
        ("factors: {a: one}\n", "received 'one'"),
    ],
)
def test_mistakes_in_files(text, says, tmp_path):
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(ValueError, match="file") as found:
        corrections.read(tmp_path / "file.yaml")
    assert says in str(found.value)
    assert "\n" not in str(found.value)


def test_a_mistake_writes_no_file(tmp_path):
    with pytest.raises(ValueError, match="finite number"):
        corrections.save(tmp_path / "found.yaml", {"a": math.nan}, "tensor")
    assert not list(tmp_path.iterdir())


def test_there_is_one_factor_for_each_group():
    found = corrections.read({"a.weight": 1, "b": 2.0})
    found.check_groups(["b", "a.weight", "b"])
    with pytest.raises(ValueError, match=r"'a\.wait' has no factor; did you mean 'a\.weight'"):
        found.check_groups(["a.weight", "b", "a.wait"])
    with pytest.raises(ValueError, match="'b' is no group"):
        found.check_groups(["a.weight"])
