"""The optimizers of tf_keras, of its legacy part and of tf.compat.v1.train are what their dialects say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from graftsim.errors import GraftsimError
from graftsim_conformance import candidates, dialects
from graftsim_conformance.probes import LAYOUT
from tests.keras_family import (
    CORRECTED,
    after_no_gradients,
    answer,
    assert_as_told,
    found_by,
    told,
    which_are_rounded,
)

TARGETS = {
    path: target for path, target in dialects.targets().items() if target.framework in ("tf_keras", "tensorflow")
}
V2, LEGACY, V1 = "tf_keras.optimizers", "tf_keras.optimizers.legacy", "tensorflow.compat.v1.train"

CARRIED = {V2: {"r", "c", "v"}, LEGACY: set(), V1: {"t"}}
"""r and c of Adafactor belong to matrices alone, where v is their product; tf.compat.v1.train keeps no counter."""

WRONG = [
    # what is claimed, where it shows first, which step, the hint
    (f"{V2}:SGD", "momentum(form=heavy_ball)", "b", 1, "form=lr_inside"),
    (f"{V2}:Adagrad", "adagrad(eps_placement=outside)", "weights", 1, "eps_placement=inside"),
    (f"{V2}:RMSprop", "rmsprop(eps_placement=outside)", "weights", 1, "eps_placement=inside"),
    (f"{V2}:Adadelta", "decay_in_gradient(adadelta)", None, 0, "its machines are adadelta"),
    (f"{V2}:Lion", "decay_in_gradient(lion)", "inner.m", 1, "decay_decoupled"),
    (f"{V2}:Adafactor", "adafactor(eps1_placement=clamp, beta2_cap=1, least_size=0)", "weights", 1, "=add"),
    (f"{LEGACY}:SGD", "momentum(form=heavy_ball)", "b", 1, "form=lr_inside"),
    (f"{LEGACY}:Adagrad", "adagrad(eps_placement=inside)", "weights", 1, "eps_placement=outside"),
    (f"{LEGACY}:RMSprop", "rmsprop(eps_placement=inside)", "weights", 1, "eps_placement=outside"),
    (f"{LEGACY}:RMSprop", "rmsprop(momentum_form=lr_inside)", "b", 1, "eps_placement=inside"),
    (f"{LEGACY}:Adam", "adam(eps_placement=corrected)", "weights", 1, "eps_placement=hat"),
    (f"{LEGACY}:Adam", "amsgrad(maximum=corrected, eps_placement=hat)", "x", 1, "maximum=raw"),
    (f"{LEGACY}:Adamax", "adamax(eps_placement=in_max)", "u", 1, "eps_placement=outside"),
    (f"{LEGACY}:Adadelta", "adadelta(rho=0.9)", "v", 1, "rho=0.95"),
    (f"{V1}:MomentumOptimizer", "momentum(form=lr_inside)", "b", 1, "form=heavy_ball"),
    (f"{V1}:AdagradOptimizer", "adagrad(eps=1e-7)", "weights", 1, "own defaults"),
    (f"{V1}:AdagradOptimizer", "adagrad(eps=0, initial_accumulator=0)", "a", 1, "initial_accumulator_value=0.1"),
    (f"{V1}:RMSPropOptimizer", "rmsprop(eps_placement=inside, initial_accumulator=0)", "v", 1, "own defaults"),
    (f"{V1}:RMSPropOptimizer", "rmsprop(eps_placement=outside)", "weights", 1, "eps_placement=inside"),
    (f"{V1}:AdadeltaOptimizer", "adadelta(eps=1e-7)", "x", 1, "own defaults"),
]

XLA = (f"{V2}:RMSprop",)
OLD_COMPILED = (f"{LEGACY}:RMSprop", f"{LEGACY}:Nadam")

EPSILON_ZERO = {
    f"{V2}:Adagrad": {"epsilon": 0.0, "initial_accumulator_value": 0.0},
    f"{LEGACY}:Adagrad": {"epsilon": 0.0, "initial_accumulator_value": 0.0},
    f"{V2}:Adafactor": {"epsilon_1": 0.0},
    **{f"{module}:{name}": {} for module in (V2, LEGACY) for name in ("SGD", "Lion")},
    **{f"{V1}:{name}Optimizer": {} for name in ("GradientDescent", "Adagrad")},
    f"{V1}:MomentumOptimizer": {"momentum": 0.5},
}
"""The arguments of an optimizer under which it could divide by 0, where it is not ``epsilon`` alone."""


# -- in a process of its own -------------------------------------------------------------------------------------------


def findings() -> dict[str, Any]:
    """Everything that is asked."""
    compiled = [*OLD_COMPILED, *(path for path in TARGETS if _module(path) == V2)]
    return {
        "version": candidates.backend("tf_keras")[1],
        "public": {module: _public(module) for module in (V2, LEGACY, V1)},
        "right": {path: found_by(path) for path in TARGETS},
        "float32": {path: found_by(path, _last(path).machine, dtype="float32") for path in TARGETS},
        "compiled": {path: found_by(path, _last(path).machine, "compiled") for path in compiled},
        "xla": {path: found_by(path, _last(path).machine, "xla") for path in XLA},
        "wrong": [_wrong(path, machine) for path, machine, *_ in WRONG],
        "rounded": {
            f"{row.target}, {row.variant}": which_are_rounded(row, TARGETS[row.target].framework, "tensorflow")
            for row in _rows()
            if _explained(row)
        },
        "nan": {path: after_no_gradients(target.framework, path, _given(path)) for path, target in TARGETS.items()},
        "changing": _message_about_a_changing_momentum(),
        "mode": _message_about_a_mode(),
        "floatx": _floatx(),
    }


def _public(module: str) -> list[str]:
    """The optimizers that a module exports."""
    exported = candidates.load(f"{module}:Optimizer"), __import__(module, fromlist=["Optimizer"])
    base, names = exported[0], vars(exported[1])
    return [name for name, found in names.items() if isinstance(found, type) and issubclass(found, base)]


def _wrong(path: str, machine: str) -> dict[str, Any]:
    try:
        return found_by(path, machine)
    except GraftsimError as error:
        return {"refused": str(error)}


def _module(path: str) -> str:
    return path.partition(":")[0]


def _last(path: str) -> dialects.Row:
    """The row of a target that has most to it, which stands last."""
    return TARGETS[path].rows[-1]


def _rows() -> list[dialects.Row]:
    return [row for target in TARGETS.values() for row in target.rows]


def _explained(row: dialects.Row) -> bool:
    """Whether it is expressible, or a factor on lr makes it so."""
    if not told(row.not_expressible, "tensorflow", "float64"):
        return True
    return row.target.rpartition(":")[2] in CORRECTED and row.variant != "adaptive_epsilon"


def _given(path: str) -> dict[str, float]:
    given = EPSILON_ZERO.get(path, {"epsilon": 0.0})
    return {"learning_rate": 0.5, **given} if path.startswith(V1) else given


def _message_about_a_changing_momentum() -> str:
    candidate = candidates.wrap("tf_keras", candidates.load(f"{LEGACY}:SGD"))
    candidate.start(LAYOUT, np.ones(LAYOUT.size), {"learning_rate": 0.5, "momentum": 0.5})
    try:
        candidate.step(np.ones(LAYOUT.size), {"learning_rate": 0.5, "momentum": 0.25})
    except GraftsimError as error:
        return str(error)
    return ""


def _message_about_a_mode() -> str:
    try:
        candidates.wrap("tensorflow", candidates.load(f"{V1}:AdamOptimizer"), "compiled")
    except GraftsimError as error:
        return str(error)
    return ""


def _floatx() -> str:
    import tf_keras

    return str(tf_keras.backend.floatx())


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return answer(__name__, tmp_path_factory.mktemp("tf_keras"))


@pytest.mark.parametrize("module", [V2, LEGACY, V1])
def test_every_optimizer_has_rows_or_a_reason(found, module):
    described = {path.rpartition(":")[2] for path in TARGETS if _module(path) == module}
    reasons = set(dialects.absent()[module.partition(".")[0]])
    public = set(found["public"][module]) - {"Optimizer"}
    assert described == public - reasons
    assert not described & reasons
    assert reasons <= public


def test_equivalent_under_its_dialect(found):
    for path, report in found["right"].items():
        rows = {row.variant: row for row in TARGETS[path].rows}
        assert report["versions"]["tensorflow"] == found["version"]
        assert [row["variant"] for row in report["rows"]] == list(rows)
        assert_as_told(report, rows, "tensorflow", "float64")
        carried = CARRIED[_module(path)] if not path.startswith(V2) or path.endswith("Adafactor") else set()
        for row in report["rows"]:
            assert {slot.removeprefix("inner.") for slot in row["unread"]} <= carried, path


@pytest.mark.parametrize(("how", "dtype"), [("float32", "float32"), ("compiled", "float64"), ("xla", "float64")])
def test_in_float32_and_compiled(found, how, dtype):
    for path, report in found[how].items():
        if (how, path) == ("compiled", f"{V2}:Nadam"):
            continue
        assert report["dtype"] == dtype
        assert report["mode"] == ("" if how == "float32" else how)
        assert_as_told(report, {_last(path).variant: _last(path)}, "tensorflow", dtype)


def test_a_compiled_nadam_multiplies_its_product_twice_for_three_tensors(found):
    """After the first step it is the square of what it should be: the mark of having done it is a Python number."""
    (row,) = found["compiled"][f"{V2}:Nadam"]["rows"]
    failure = row["failure"]
    got, want = (float.fromhex(failure[name]) for name in ("got", "want"))
    assert (failure["place"], failure["step"]) == ("product", 1)
    assert abs(got / want**2 - 1) < 1e-7  # what the rounded 0.96 makes of it eagerly is 2e-8, here squared


def test_each_hyperparameter_is_rounded_where_the_dialect_says(found):
    """Rounding one more or one less is refuted. A sign does not show Lion's beta1."""
    rows = {f"{row.target}, {row.variant}": row for row in _rows()}
    left = {name for name in rows if name not in found["rounded"]}
    nadams = {f"{module}:Nadam, plain" for module in (V2, LEGACY)}
    assert left == {*nadams, f"{V2}:Adam, adaptive_epsilon", f"{V1}:AdamOptimizer, plain"}
    for name, asked in found["rounded"].items():
        listed = rows[name].through_float32.get("tensorflow", ())
        for path, answered in asked.items():
            hidden = "Lion" in name and path.endswith("beta1")
            expected = "either" if hidden else "rounded" if path in listed else "exact"
            assert answered == expected, (name, path)


def test_not_equivalent_under_a_wrong_one(found):
    for (path, machine, place, step, hint), report in zip(WRONG, found["wrong"], strict=True):
        if place is None:
            assert hint in report["refused"]
            continue
        (row,) = report["rows"]
        failure = row["failure"]
        text = "\n".join(report["lines"])
        assert not report["passed"], (path, machine)
        assert (failure["place"], failure["step"]) == (place, step), text
        assert float(failure["units"]) > 1e6, text
        assert hint in row["hint"], text


def test_without_epsilon_and_gradients_the_native_is_nan_where_its_notes_say_so(found):
    noted = {path for path, target in TARGETS.items() if any("NaN with epsilon" in note for note in target.notes)}
    assert found["nan"] == {path: "nan" if path in noted else "still" for path in TARGETS}
    assert not any(path.startswith(LEGACY) for path in noted)


def test_one_line_for_each_mistake(found):
    assert found["changing"] == "momentum must not change during a run of SGD; it went to 0.25"
    assert found["mode"] == "for this optimizer mode must be left out; received 'compiled'"


def test_the_framework_is_left_as_it_was(found):
    assert found["floatx"] == "float32"


if __name__ == "__main__":
    print(json.dumps(findings(), allow_nan=False))
