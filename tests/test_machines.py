"""Machine files: each mistake is one line that names the file, the equation and the remedy."""

import pytest

from graftsim import compiler, documents, machines
from graftsim.errors import GraftsimError

GOOD = """
machine: mine
title: Mine
source: none
hyperparameters:
  lr: {default: 0.1, domain: ">= 0"}
options:
  sign: [minus, plus]
state:
  t: {kind: counter}
  m: {kind: coordinate}
step:
  - t = t + 1
  - m = 0.5 * m + g
  - sign:
      minus: delta = -(lr * m)
      plus: [u = lr * m, delta = u]
"""

REFUSED = {
    "an unknown name": ("0.5 * m + g", "0.5 * q + g", "unknown name 'q'"),
    "a near name": ("-(lr * m)", "-(lrr * m)", "did you mean 'lr'?"),
    "an unknown key": ("title: Mine", "titel: Mine", "titel"),
    "no delta in one choice": ("delta = u]", "delta2 = u]", "delta must be assigned under {'sign': 'plus'}"),
    "a name assigned twice": ("[u = lr * m,", "[u = lr * m, u = m,", "u must be assigned once"),
    "an assigned hyperparameter": ("m = 0.5 * m + g", "lr = 0.5 * m + g", "lr is not state"),
    "a missing case": ("      plus: [u = lr * m, delta = u]\n", "", "the cases of sign must be minus, plus"),
    "an unknown option": ("  - sign:\n      minus", "  - sgn:\n      minus", "'sgn' is not an option of this machine"),
    "a reserved name": ("  lr: {default", "  g: {default", "'g' has another meaning"),
    "a domain of another kind": ('">= 0"', '"positive"', "a domain is '>= a'"),
    "a default outside the domain": ("default: 0.1", "default: -1", "the default must lie in >= 0"),
    "no equation": ("m = 0.5 * m + g", "0.5 * m + g", "must read 'name = expression'"),
    "a comparison for an equation": ("m = 0.5 * m + g", "m == 0.5", "must read 'name = expression'"),
    "a call of another function": ("0.5 * m + g", "open(m)", "is not a function of the language"),
    "a child that is none": ("0.5 * m + g", "inner.delta", "'inner' is not a child"),
    "an initial value of an unknown": (
        "m: {kind: coordinate}",
        "m: {kind: coordinate, initial: g}",
        "unknown name 'g'",
    ),
    "a kind that is none": ("kind: coordinate", "kind: vector", "vector"),
}


@pytest.mark.parametrize(("old", "new", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    with pytest.raises(GraftsimError) as caught:
        machines.from_document(documents.parse_yaml(GOOD.replace(old, new, 1), "mine.yaml"), "mine.yaml")
    assert problem in str(caught.value)
    assert str(caught.value).startswith("mine.yaml")
    assert "\n" not in str(caught.value)


KINDS = {
    "a power of a gradient": ("0.5 * m + g", "m + g ** 2", "write x * x"),
    "a power with a real exponent": ("-(lr * m)", "-(lr ** 0.5 * m)", "made of counters and integers"),
    "a comparison in arithmetic": ("-(lr * m)", "(lr > 0) * m", "'where' needs a comparison first"),
    "a comparison by itself": (
        "minus: delta = -(lr * m)",
        "minus: [u = m > 0, delta = m]",
        "first argument of 'where'",
    ),
    "where without a comparison": ("-(lr * m)", "where(lr, m, g)", "'where' needs a comparison first"),
    "a counter of reals": ("t = t + 1", "t = t + 0.5", "a counter must be made of"),
    "a coordinate in a counter": ("t = t + 1", "t = t + g", "a counter must be made of"),
    "a coordinate in a group": ("m: {kind: coordinate}", "m: {kind: group}", "m is group over tensor"),
    "a group value in a scalar": ("m = 0.5 * m + g", "m = norm(g)", "m is scalar over tensor"),
}


@pytest.mark.parametrize(("old", "new", "problem"), KINDS.values(), ids=KINDS)
def test_kind_mismatch_is_one_line(old: str, new: str, problem: str, tmp_path) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    if problem == "m is scalar over tensor":
        text = text.replace("m: {kind: coordinate}", "m: {kind: scalar}")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(GraftsimError) as caught:
        compiler.build("mine", {"w": (2, 3)}, machines=machines.Library([tmp_path / "mine.yaml"]))
    assert problem in str(caught.value)
    assert "kind mismatch" in str(caught.value) or problem == "first argument of 'where'"
    assert "\n" not in str(caught.value)


def test_a_file_may_not_take_a_name_of_the_spec(tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD.replace("machine: mine", "machine: adam"))
    with pytest.raises(GraftsimError, match="has a machine 'adam' already"):
        machines.Library([tmp_path / "mine.yaml"])


def test_reading_a_child_hyperparameter_that_is_not_there() -> None:
    with pytest.raises(GraftsimError, match=r"unknown name 'inner\.lr'"):
        compiler.build("decay_decoupled(adam#sgd)", {"w": (2,)})


@pytest.mark.parametrize(
    ("dtype", "problem"), [("float16", "float32 or float64"), ("int32", "float32 or float64"), ("what", "float32 or")]
)
def test_dtypes(dtype: str, problem: str) -> None:
    with pytest.raises(GraftsimError, match=problem):
        compiler.build("sgd", {"w": (2,)}, dtype)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("scaled(sgd, factor={'w': 1})", "'b' differs"),
        ("sgd(lr=[1, 2])", "with several tensors"),
        ("sgd(lr={'w': [1, 2], 'b': [1]})", "must have shape"),
        ("sgd(lr={'w': [[1], [1, 2]], 'b': [1]})", "nested lists of the tensor's shape"),
        ("rank_one", "rank_one needs a value of v"),
    ],
)
def test_values_of_the_wrong_shape(expression: str, problem: str) -> None:
    with pytest.raises(GraftsimError, match=problem):
        compiler.build(expression, {"w": (2, 3), "b": (1,)})
