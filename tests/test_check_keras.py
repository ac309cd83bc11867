"""Keras's optimizers are what their dialects say on each backend, and nothing else.

Keras has one backend a process, so each backend is asked in a process of its own: this file, run as a script, prints
what it found as JSON, and the tests judge that. It also keeps TensorFlow's warnings out of a run where they are
errors.
"""

from __future__ import annotations

import dataclasses
import decimal
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from graftsim import compiler, notation
from graftsim.errors import GraftsimError
from graftsim_conformance import candidates, dialects, golden
from graftsim_conformance.cases import settled
from graftsim_conformance.check import check
from graftsim_conformance.follow import BUDGET, Recorded, follow, record
from graftsim_conformance.probes import LAYOUT

BACKENDS = ("jax", "torch", "tensorflow")
NAMES = ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Adadelta", "Lion", "Lamb")
TARGETS = [f"keras.optimizers:{name}" for name in NAMES]
SCALARS = "scalars-through-float32"

WRONG = [
    # what is claimed, where it shows first, which step, the hint
    ("SGD", "momentum(form=heavy_ball)", "b", 1, "form=lr_inside"),
    ("SGD", "momentum(form=lr_inside, first_step=copy, dampening=0.5)", "b", 2, "own defaults"),
    ("SGD", "decay_in_gradient(momentum(form=lr_inside))", "inner.b", 1, "decay_decoupled"),
    ("Adagrad", "adagrad(eps_placement=outside)", "weights", 1, "eps_placement=inside"),
    ("Adagrad", "adagrad(eps_placement=inside, initial_accumulator=0)", "a", 0, "initial_accumulator_value=0.1"),
    ("RMSprop", "rmsprop(eps_placement=outside)", "weights", 1, "eps_placement=inside"),
    ("RMSprop", "rmsprop(eps_placement=inside, momentum_form=heavy_ball)", "b", 1, "momentum_form=lr_inside"),
    ("Adam", "adam(eps_placement=corrected)", "weights", 1, "eps_placement=hat"),
    ("Adam", "adam(eps_placement=hat, eps=1e-8)", "weights", 1, "epsilon=1e-07"),
    ("Adam", "decay_in_gradient(adam(eps_placement=hat))", "inner.m", 1, "decay_decoupled"),
    ("Adam", "amsgrad(maximum=corrected, eps_placement=hat)", "x", 1, "maximum=raw"),
    ("AdamW", "decay_decoupled(adam(eps_placement=corrected))", "weights", 1, "eps_placement=hat"),
    ("Adamax", "adamax(eps_placement=in_max)", "u", 1, "eps_placement=outside"),
    ("Nadam", "nadam(form=constant)", "weights", 1, "form=scheduled"),
    ("Nadam", "nadam(form=scheduled, momentum_decay=0.004)", "product", 1, "own defaults"),
    ("Lion", "decay_in_gradient(lion)", "inner.m", 1, "decay_decoupled"),
]


def wrong(backend: str) -> list[tuple[str, str, str, int, str]]:
    """On TensorFlow, which is slow, only the first: Adam agrees with no option there."""
    return WRONG[:5] if backend == "tensorflow" else WRONG


DEFAULTS = [
    ("Adagrad", "adagrad(eps_placement=inside, initial_accumulator=0.1, eps=1e-7)"),
    ("RMSprop", "rmsprop(eps_placement=inside, rho=0.9, eps=1e-7)"),
]

CORRECTED = ("Adam", "AdamW", "Adamax")
"""Whose bias correction multiplies the step, so that a rounding in it can be put into lr."""

STREAMS = ("mixed", "spike-zero")
"""The second has an initial accumulator that float32 does not hold."""

DECAY = 0.3
"""In place of the cases' 0.5, which float32 holds exactly."""


# -- in a process of its own -------------------------------------------------------------------------------------------


def findings() -> dict[str, Any]:
    """Everything that is asked of one backend."""
    return {
        "backend": candidates.backend("keras"),
        "right": [_told(target) for target in TARGETS],
        "wrong": [_told(f"keras.optimizers:{name}", machine) for name, machine, *_ in wrong(_backend())],
        "defaults": [check(f"keras.optimizers:{name}", machine).passed for name, machine in DEFAULTS],
        "rounded": {f"{row.target}, {row.variant}": _which_are_rounded(row) for row in _rows() if _explained(row)},
        "lr_inside": _first_difference_of_heavy_ball_in_the_weights(),
        "nan": [_moved_to_without_gradients(*asked) for asked in EPSILON_ZERO],
        "changing": _message_about_a_changing_momentum(),
        "floatx": _floatx(),
    }


def _backend() -> str:
    return candidates.backend("keras")[0]


def _told(target: str, machine: str | None = None) -> dict[str, Any]:
    report = check(target, machine)
    return report.to_json() | {"lines": report.lines()}


def _rows() -> list[dialects.Row]:
    return [row for row in dialects.rows() if row.target in TARGETS]


def _explained(row: dialects.Row) -> bool:
    """Whether it is expressible, or a factor on lr makes it so. Not on TensorFlow, only decay is asked about."""
    if _backend() != "tensorflow":
        return "weight_decay" in row.arguments
    return _backend() not in row.not_expressible or row.target.rpartition(":")[2] in CORRECTED


def _which_are_rounded(row: dialects.Row) -> dict[str, str]:
    """For each hyperparameter: whether the native agrees with it ``rounded`` to float32, ``exact``, or ``either``.

    The betas of Adam and Adamax are both: exact in the moments and, on TensorFlow, rounded in the bias correction.
    There it only multiplies the step, as lr does, so lr is given the factor that the rounding makes.
    """
    trials = []
    for stream in STREAMS if "initial_accumulator_value" in row.arguments else STREAMS[:1]:
        (case,) = [case for case in golden.of_machine(row.instance) if case.name.endswith(f".{stream}")]
        values = [{**each, "weight_decay": DECAY} if "weight_decay" in each else each for each in case.hyperparameters]
        case = dataclasses.replace(case, hyperparameters=values)
        steps = record(candidates.wrap("keras", candidates.load(row.target)), row, case, dialects.fixed(row.instance))
        trials.append((case, steps))

    def agrees(rounded: set[str]) -> bool:
        for case, steps in trials:
            used = [_seen(row, step, number, rounded) for number, step in enumerate(steps, 1)]
            program = compiler.build(settled(row.instance, used[0].settings), case.layout)
            if any((comparison.units > BUDGET).any() for comparison in follow(program, used)):
                return False
        return True

    listed = set(row.through_float32.get(_backend(), ()))
    assert agrees(listed), f"{row.target}, {row.variant}"
    answers = {(True, False): "rounded", (False, True): "exact", (True, True): "either", (False, False): "neither"}
    return {path: answers[agrees(listed | {path}), agrees(listed - {path})] for path in trials[0][1][0].settings}


def _seen(row: dialects.Row, step: Recorded, number: int, rounded: set[str]) -> Recorded:
    """The step with some hyperparameters rounded; and with Adam's lr corrected, which must not reach the decay."""
    settings = {path: float(np.float32(x)) if path in rounded else x for path, x in step.settings.items()}
    if _backend() in row.not_expressible:
        beta1, beta2 = (next(x for path, x in step.settings.items() if path.endswith(f"beta{k}")) for k in (1, 2))
        factor = _correction_factor(beta1, 0.0 if row.target.endswith("Adamax") else beta2, number)
        for path, value in settings.items():
            if path.endswith("lr"):
                settings[path] = float(decimal.Decimal(value) * factor)
            if path == "weight_decay":
                settings[path] = float(decimal.Decimal(value) / factor)
    return dataclasses.replace(step, settings=settings)


def _correction_factor(beta1: float, beta2: float, t: int) -> decimal.Decimal:
    """How much longer a step is when sqrt(1 - beta2 ** t) / (1 - beta1 ** t) has both betas rounded to float32."""
    with decimal.localcontext(prec=50):

        def correction(b1: float, b2: float) -> decimal.Decimal:
            return (1 - decimal.Decimal(b2) ** t).sqrt() / (1 - decimal.Decimal(b1) ** t)

        return correction(float(np.float32(beta1)), float(np.float32(beta2))) / correction(beta1, beta2)


def _first_difference_of_heavy_ball_in_the_weights() -> int:
    """The step at which lr outside the buffer is refuted by weights alone."""
    (row,) = [row for row in _rows() if row.target.endswith("SGD") and row.variant == "momentum"]
    row = dataclasses.replace(row, state={})
    (case,) = [case for case in golden.of_machine(row.instance) if case.name.endswith(".mixed")]
    float32 = row.through_float32.get(_backend(), ())
    steps = record(
        candidates.wrap("keras", candidates.load(row.target)), row, case, dialects.fixed(row.instance), float32
    )
    program = compiler.build(
        settled(notation.parse("momentum(form=heavy_ball, dampening=0)"), steps[0].settings), case.layout
    )
    return next(found.step for found in follow(program, steps) if (found.units > BUDGET).any())


EPSILON_ZERO = [("Adam", {}), ("RMSprop", {}), ("Adagrad", {"initial_accumulator_value": 0.0})]


def _moved_to_without_gradients(name: str, arguments: dict[str, float]) -> bool:
    """Whether every weight is NaN after a step with epsilon 0 and no gradient."""
    candidate = candidates.wrap("keras", candidates.load(f"keras.optimizers:{name}"))
    candidate.start(LAYOUT, np.ones(LAYOUT.size), {"epsilon": 0.0, **arguments})
    return bool(np.isnan(candidate.step(np.zeros(LAYOUT.size), {})).all())


def _message_about_a_changing_momentum() -> str:
    candidate = candidates.wrap("keras", candidates.load("keras.optimizers:SGD"))
    candidate.start(LAYOUT, np.ones(LAYOUT.size), {"learning_rate": 0.5, "momentum": 0.5})
    try:
        candidate.step(np.ones(LAYOUT.size), {"learning_rate": 0.5, "momentum": 0.25})
    except GraftsimError as error:
        return str(error)
    return ""


def _floatx() -> str:
    import keras

    return str(keras.config.floatx())


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=BACKENDS)
def found(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("keras")
    environment = {**os.environ, "KERAS_BACKEND": request.param, "KERAS_HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["backend"][0] == request.param
    return answer


def test_equivalent_under_its_dialect(found):
    backend, version = found["backend"]
    for target, report in zip(TARGETS, found["right"], strict=True):
        text = "\n".join(report["lines"])
        rows = {row.variant: row for row in dialects.targets()[target].rows}
        assert report["backend"] == backend
        assert report["versions"][backend] == version
        assert [row["variant"] for row in report["rows"]] == list(rows)
        for row in report["rows"]:
            known = rows[row["variant"]].not_expressible.get(backend, "")
            assert row["passed"] is not bool(known), text
            assert row["known"] == known
            assert row["cases"] == 6
            assert row["comparisons"] >= 700
            assert row["undecided"] == 0
            assert row["unread"] == []
            assert row["profile"] == (SCALARS if row["through_float32"] else "")
            assert not (row["through_float32"] or known) or backend == "tensorflow"
            verdict = text.partition(f"\n{row['variant']}: ")[2].partition(" to ")[0]
            expected = "equivalent" if row["passed"] else "NOT equivalent"
            assert verdict == expected + (f" under the profile {SCALARS}" if row["through_float32"] else "")


def test_what_is_not_expressible_is_the_size_of_a_float32_rounding(found):
    """A beta rounded to float32 moves 1 - beta ** t by up to 1.4e-5 (beta2 = 0.999), and a step by half of that."""
    factors = [abs(float(_correction_factor(0.9, 0.999, t)) - 1) for t in range(1, 9)]
    assert 6e-6 < max(factors) < 8e-6
    for target, report in zip(TARGETS, found["right"], strict=True):
        for row in report["rows"]:
            failure = row["failure"]
            if failure is not None:
                assert (failure["place"], failure["step"]) == ("m" if target.endswith("Nadam") else "weights", 1)
                apart = abs(float.fromhex(failure["got"]) / float.fromhex(failure["want"]) - 1)
                assert 1e-8 < apart < 8e-6, (target, apart)


def test_each_hyperparameter_is_rounded_where_the_dialect_says(found):
    """Rounding one more or one less is refuted. What a row fixes is 0, and a sign does not show Lion's beta1.

    For Adam on TensorFlow this is with lr corrected, so that the betas of the moments are found exact: what is not
    expressible is the bias correction, and nothing else.
    """
    rows = {f"{row.target}, {row.variant}": row for row in _rows()}
    left = {row.target.rpartition(":")[2] for name, row in rows.items() if name not in found["rounded"]}
    assert left == {"Nadam", "Lamb"} or found["backend"][0] != "tensorflow"
    for name, asked in found["rounded"].items():
        row = rows[name]
        listed = row.through_float32.get(found["backend"][0], ())
        either = {path for path in asked if row.target.endswith("Lion") and path.endswith("beta1")}
        either |= set(dialects.fixed(row.instance))
        for path, answer in asked.items():
            assert answer == ("either" if path in either else "rounded" if path in listed else "exact"), (name, path)


def test_not_equivalent_under_a_wrong_one(found):
    for (_, machine, place, step, hint), report in zip(wrong(found["backend"][0]), found["wrong"], strict=True):
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


def test_without_epsilon_and_gradients_the_native_is_nan(found):
    assert found["nan"] == [True] * len(EPSILON_ZERO)


def test_only_the_learning_rate_may_change(found):
    assert found["changing"] == "momentum must not change during a run of a Keras optimizer; it went to 0.25"


def test_a_report_for_people_names_the_backend_and_the_profile(found):
    backend, version = found["backend"]
    first, *_, last = found["right"][0]["lines"]
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
