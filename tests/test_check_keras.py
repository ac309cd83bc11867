"""Keras's optimizers are what their dialects say on each backend, and nothing else."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from graftsim import compiler, notation
from graftsim.errors import GraftsimError
from graftsim_conformance import candidates, dialects, golden
from graftsim_conformance.cases import settled
from graftsim_conformance.follow import BUDGET, follow, record
from graftsim_conformance.probes import LAYOUT
from tests.keras_family import (
    CORRECTED,
    NARROW,
    SCALARS,
    after_no_gradients,
    answer,
    assert_as_told,
    correction_factor,
    found_by,
    profiles,
    told,
    which_are_rounded,
)

BACKENDS = ("jax", "torch", "tensorflow")
TARGETS = {path: target for path, target in dialects.targets().items() if target.framework == "keras"}
CARRIED = {"r", "c", "v"}
"""Of Adafactor: r and c belong to matrices alone, and v is the product of them there, where the machine keeps none."""

EVERYWHERE = [
    # what is claimed, where it shows first, which step, the hint
    ("SGD", "momentum(form=heavy_ball)", "b", 1, "form=lr_inside"),
    ("SGD", "momentum(form=lr_inside, first_step=copy, dampening=0.5)", "b", 2, "own defaults"),
    ("SGD", "decay_in_gradient(momentum(form=lr_inside))", "inner.b", 1, "decay_decoupled"),
    ("Adagrad", "adagrad(eps_placement=outside)", "weights", 1, "eps_placement=inside"),
    ("Adagrad", "adagrad(eps_placement=inside, initial_accumulator=0)", "a", 0, "initial_accumulator_value=0.1"),
    ("Adadelta", "adadelta(rho=0.9)", "v", 1, "rho=0.95"),
    ("Adadelta", "decay_in_gradient(adadelta)", "inner.v", 1, "decay_decoupled"),
]
EXACT = [
    # where float64 is no rounding away, which is not so of the tensorflow backend
    ("RMSprop", "rmsprop(eps_placement=outside)", "weights", 1, "eps_placement=inside"),
    ("RMSprop", "rmsprop(eps_placement=inside, momentum_form=heavy_ball)", "b", 1, "momentum_form=lr_inside"),
    ("RMSprop", "rmsprop(eps_placement=inside, momentum_form=lr_inside, nesterov=on)", "weights", 1, "nesterov=off"),
    ("Adam", "adam(eps_placement=corrected)", "weights", 1, "eps_placement=hat"),
    ("Adam", "adam(eps_placement=hat, eps=1e-8)", "weights", 1, "epsilon=1e-07"),
    ("Adam", "decay_in_gradient(adam(eps_placement=hat))", "inner.m", 1, "decay_decoupled"),
    ("Adam", "amsgrad(maximum=corrected, eps_placement=hat)", "x", 1, "maximum=raw"),
    ("AdamW", "decay_decoupled(adam(eps_placement=corrected))", "weights", 1, "eps_placement=hat"),
    ("Adamax", "adamax(eps_placement=in_max)", "u", 1, "eps_placement=outside"),
    ("Adamax", "decay_in_gradient(adamax(eps_placement=outside))", "inner.m", 1, "decay_decoupled"),
    ("Nadam", "nadam(form=constant)", "weights", 1, "form=scheduled"),
    ("Nadam", "nadam(form=scheduled, momentum_decay=0.004)", "product", 1, "own defaults"),
    ("Lion", "decay_in_gradient(lion)", "inner.m", 1, "decay_decoupled"),
    ("Lamb", "lamb(bias_correction=in_rate, ratio_eps=0)", "weights", 1, "bias_correction=on"),
    ("Lamb", "decay_decoupled(lamb(weight_decay=0, ratio_eps=0))", "weights", 1, "no other options"),
]
MEANS = [
    # where the means of Adafactor are exact
    ("Adafactor", "adafactor(eps1_placement=clamp, beta2_cap=1, least_size=0)", "weights", 1, "eps1_placement=add"),
    ("Adafactor", "adafactor(rate=plain, beta2_cap=1, least_size=0)", "weights", 4, "rate=minimum"),
    ("Adafactor", "adafactor(beta2_cap=1, least_size=5)", "weights", 1, "own defaults"),
    ("Adafactor", "decay_decoupled(adafactor(beta2_cap=1, least_size=0))", "weights", 1, "no other options"),
]
WRONG = {"jax": EXACT, "torch": EVERYWHERE + EXACT, "tensorflow": EVERYWHERE + MEANS}

DEFAULTS = [
    ("Adagrad", "adagrad(eps_placement=inside, initial_accumulator=0.1, eps=1e-7)"),
    ("RMSprop", "rmsprop(eps_placement=inside, rho=0.9, eps=1e-7)"),
]

COMPILED = {"jax": ("compiled",), "torch": (), "tensorflow": ("compiled",)}
XLA = ("SGD", "RMSprop")

EPSILON_ZERO = {
    "SGD": {},
    "Adagrad": {"epsilon": 0.0, "initial_accumulator_value": 0.0},
    "Lion": {},
    "Adafactor": {"epsilon_1": 0.0},
}
"""The epsilons of an optimizer that can be 0, where it is not ``epsilon`` alone."""


# -- in a process of its own -------------------------------------------------------------------------------------------


def findings() -> dict[str, Any]:
    """Everything that is asked of one backend."""
    name = _backend()
    return {
        "backend": candidates.backend("keras"),
        "public": _public(),
        "right": {path: found_by(path) for path in TARGETS},
        "float32": {path: found_by(path, _in_float32(path), dtype="float32") for path in TARGETS},
        "compiled": {path: found_by(path, _last(path).machine, mode) for mode in COMPILED[name] for path in TARGETS},
        "xla": {path: found_by(path, _last(path).machine, "xla") for path in _with_xla()},
        "wrong": [found_by(f"keras.optimizers:{name}", machine) for name, machine, *_ in WRONG[name]],
        "defaults": [found_by(f"keras.optimizers:{name}", machine)["passed"] for name, machine in DEFAULTS],
        "rounded": {
            f"{row.target}, {row.variant}": which_are_rounded(row, "keras", name) for row in _rows() if _explained(row)
        },
        "lr_inside": _first_difference_of_heavy_ball_in_the_weights(),
        "nan": {path: after_no_gradients("keras", path, _without_epsilon(path)) for path in TARGETS},
        "changing": _message_about_a_changing_momentum(),
        "mode": _message_about_a_mode(),
        "floatx": _floatx(),
    }


def _backend() -> str:
    return candidates.backend("keras")[0]


def _public() -> list[str]:
    """The optimizers that Keras exports."""
    import keras

    base = keras.optimizers.Optimizer
    exported = {name: getattr(keras.optimizers, name) for name in dir(keras.optimizers)}
    return [
        name
        for name, found in exported.items()
        if isinstance(found, type) and issubclass(found, base) and found is not base
    ]


def _last(path: str) -> dialects.Row:
    """The row of a target that has most to it, which stands last."""
    return TARGETS[path].rows[-1]


def _in_float32(path: str) -> str | None:
    """All rows on torch, which is quick, and the last one elsewhere."""
    return None if _backend() == "torch" else _last(path).machine


def _with_xla() -> list[str]:
    return [f"keras.optimizers:{name}" for name in XLA] if _backend() == "tensorflow" else []


def _without_epsilon(path: str) -> dict[str, float]:
    return EPSILON_ZERO.get(path.rpartition(":")[2], {"epsilon": 0.0})


def _rows() -> list[dialects.Row]:
    return [row for target in TARGETS.values() for row in target.rows]


def _explained(row: dialects.Row) -> bool:
    """Whether it is expressible, or a factor on lr makes it so. Not on TensorFlow, only decay is asked about."""
    expressible = not told(row.not_expressible, _backend(), "float64")
    if _backend() != "tensorflow":
        return expressible and "weight_decay" in row.arguments
    return expressible or row.target.rpartition(":")[2] in CORRECTED


def _first_difference_of_heavy_ball_in_the_weights() -> int:
    """The step at which lr outside the buffer is refuted by weights alone."""
    (row,) = [row for row in _rows() if row.target.endswith("SGD") and row.variant == "momentum"]
    row = dataclasses.replace(row, state={})
    (case,) = [case for case in golden.of_machine(row.instance) if case.name.endswith(".mixed")]
    rounded = row.through_float32.get(_backend(), ())
    steps = record(
        candidates.wrap("keras", candidates.load(row.target)), row, case, dialects.fixed(row.instance), rounded
    )
    program = compiler.build(
        settled(notation.parse("momentum(form=heavy_ball, dampening=0)"), steps[0].settings), case.layout
    )
    return next(found.step for found in follow(program, steps) if (found.units > BUDGET).any())


def _message_about_a_changing_momentum() -> str:
    candidate = candidates.wrap("keras", candidates.load("keras.optimizers:SGD"))
    ones = golden.stored("sgd.mixed").weights * 0 + 1
    candidate.start(LAYOUT, ones, {"learning_rate": 0.5, "momentum": 0.5})
    try:
        candidate.step(ones, {"learning_rate": 0.5, "momentum": 0.25})
    except GraftsimError as error:
        return str(error)
    return ""


def _message_about_a_mode() -> str:
    try:
        candidates.wrap("keras", candidates.load("keras.optimizers:SGD"), "jit")
    except GraftsimError as error:
        return str(error)
    return ""


def _floatx() -> str:
    import keras

    return str(keras.config.floatx())


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=BACKENDS)
def found(request, tmp_path_factory):
    answered = answer(__name__, tmp_path_factory.mktemp("keras"), KERAS_BACKEND=request.param)
    assert answered["backend"][0] == request.param
    return answered


def test_every_optimizer_has_rows_or_a_reason(found):
    described = {path.rpartition(":")[2] for path in TARGETS}
    reasons = dialects.absent()["keras"]
    assert sorted(found["public"]) == sorted([*described, *reasons])


def test_equivalent_under_its_dialect(found):
    backend, version = found["backend"]
    for path, report in found["right"].items():
        rows = {row.variant: row for row in TARGETS[path].rows}
        assert report["backend"] == backend
        assert report["versions"][backend] == version
        assert [row["variant"] for row in report["rows"]] == list(rows)
        assert_as_told(report, rows, backend, "float64")
        for row in report["rows"]:
            unread = {slot.removeprefix("inner.") for slot in row["unread"]}
            assert unread == (CARRIED if path.endswith("Adafactor") else set())
            assert not row["through_float32"] or backend == "tensorflow"


def test_in_float32(found):
    """Those that correct a bias need the profile of scalars that are formed in float32."""
    for path, report in found["float32"].items():
        assert report["dtype"] == "float32"
        assert len(report["rows"]) == (len(TARGETS[path].rows) if found["backend"][0] == "torch" else 1)
        assert_as_told(report, {row.variant: row for row in TARGETS[path].rows}, found["backend"][0], "float32")
    adam, sgd = (found["float32"][f"keras.optimizers:{name}"]["rows"][-1] for name in ("Adam", "SGD"))
    assert NARROW in profiles(adam)
    assert NARROW not in profiles(sgd)


def test_compiled(found):
    backend = found["backend"][0]
    assert set(found["compiled"]) == (set() if backend == "torch" else set(TARGETS))
    for mode in ("compiled", "xla"):
        for path, report in found[mode].items():
            (row,) = report["rows"]
            assert (report["mode"], row["variant"]) == (mode, _last(path).variant)
            assert_as_told(report, {row["variant"]: _last(path)}, backend, "float64")


def test_a_mode_that_a_backend_lacks_is_refused(found):
    modes = {"jax": "compiled", "torch": "left out", "tensorflow": "compiled, xla"}[found["backend"][0]]
    assert found["mode"] == f"on {found['backend'][0]} mode must be {modes}; received 'jit'"


def test_each_hyperparameter_is_rounded_where_the_dialect_says(found):
    """Rounding one more or one less is refuted. A sign does not show Lion's beta1.

    For Adam on TensorFlow this is with lr corrected, so that the betas of the moments are found exact: what is not
    expressible is the bias correction, and nothing else.
    """
    backend = found["backend"][0]
    rows = {f"{row.target}, {row.variant}": row for row in _rows()}
    left = {row.target.rpartition(":")[2] for name, row in rows.items() if name not in found["rounded"]}
    assert left == {"Nadam", "Lamb"} or backend != "tensorflow"
    for name, asked in found["rounded"].items():
        listed = told(rows[name].through_float32, backend, "float64") or ()
        for path, answered in asked.items():
            hidden = "Lion" in name and path.endswith("beta1")
            expected = "either" if hidden else "rounded" if path in listed else "exact"
            assert answered == expected, (name, path)


def test_the_factor_that_a_rounded_beta_makes():
    """1 - beta ** t moves by up to 1.4e-5 (beta2 = 0.999), and a step by half of that."""
    factors = [abs(float(correction_factor(0.9, 0.999, t)) - 1) for t in range(1, 9)]
    assert 6e-6 < max(factors) < 8e-6


def test_not_equivalent_under_a_wrong_one(found):
    for (_, machine, place, step, hint), report in zip(WRONG[found["backend"][0]], found["wrong"], strict=True):
        (row,) = report["rows"]
        failure = row["failure"]
        text = "\n".join(report["lines"])
        assert not report["passed"], machine
        assert (failure["place"], failure["step"]) == (place, step), text
        assert float(failure["units"]) > 1e6, text
        assert hint in row["hint"], text


def test_lr_outside_the_buffer_is_refuted_by_the_weights_when_lr_changes(found):
    """lr is 0.1, 0.1, 0.01: until the third step the two forms have the same weights."""
    assert found["lr_inside"] == 3


def test_defaults_can_be_claimed(found):
    assert found["defaults"] == [True] * len(DEFAULTS)


def test_without_epsilon_and_gradients_the_native_is_nan_where_its_notes_say_so(found):
    noted = {path for path, target in TARGETS.items() if any("NaN with epsilon" in note for note in target.notes)}
    assert found["nan"] == {path: "nan" if path in noted else "still" for path in TARGETS}
    assert {path.rpartition(":")[2] for path in set(TARGETS) - noted} == {"SGD", "Lion"}


def test_only_the_learning_rate_may_change(found):
    assert found["changing"] == "momentum must not change during a run of a Keras optimizer; it went to 0.25"


def test_a_report_for_people_names_the_backend_and_the_profile(found):
    backend, version = found["backend"]
    first, *_, last = found["right"]["keras.optimizers:SGD"]["lines"]
    assert first.startswith(f"keras.optimizers:SGD on {backend} (graftsim ")
    assert f"{backend} {version}" in first
    assert last.startswith(f"equivalent under the profile {SCALARS}:" if backend == "tensorflow" else "equivalent:")


def test_the_framework_is_left_as_it_was(found):
    assert found["floatx"] == "float32"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"through_float32": {"tensorflow": ["momentun"]}}, "did you mean 'momentum'"),
        ({"through_float32": {"tensorflow": []}}, "through_float32"),
        ({"not_expressible": {"tensorflow": 1}}, "not_expressible"),
    ],
)
def test_what_is_rounded_must_be_an_argument(changes, says):
    row = {"machine": "momentum(dampening=0)", "arguments": {"lr": "lr", "momentum": "momentum"}} | changes
    document = {"framework": "keras", "distributions": ["keras"], "targets": {"keras:X": {"rows": {"plain": row}}}}
    with pytest.raises(GraftsimError, match="here") as raised:
        dialects.read(document, "here")
    assert says in str(raised.value)


if __name__ == "__main__":
    print(json.dumps(findings(), allow_nan=False))
