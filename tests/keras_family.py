"""What is asked of Keras's optimizers and of TensorFlow's alike, each time in a process of its own.

Keras has one backend a process, and TensorFlow's warnings stay out of a run where they are errors. A test file is
therefore also a program that prints what it found as JSON, and its tests judge that.
"""

from __future__ import annotations

import dataclasses
import decimal
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from graftsim import compiler
from graftsim_conformance import candidates, dialects, golden
from graftsim_conformance.cases import settled
from graftsim_conformance.check import check
from graftsim_conformance.follow import BUDGET, Recorded, follow, record
from graftsim_conformance.probes import LAYOUT

CORRECTED = ("Adam", "AdamW", "Adamax")
"""Whose bias correction multiplies the step, so that a rounding in it can be put into lr."""

INEXACT = {"weight_decay": 0.3, "decay_power": -0.7, "eps1": 0.001, "eps2": 0.1, "clip": 0.3, "lr_decay": 0.1}
"""In place of values of the cases that float32 holds exactly."""

STREAMS = ("mixed", "spike-zero")
"""The second has an initial accumulator that float32 does not hold, and weights that start at zero."""

SCALARS, NARROW = "scalars-through-float32", "scalars-in-float32"

T = TypeVar("T")


def answer(module: str, home: Path, **environment: str) -> dict[str, Any]:
    """What a test file prints when it is run as a program."""
    variables = {**os.environ, "KERAS_HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def found_by(target: str, machine: str | None = None, mode: str = "", dtype: str = "float64") -> dict[str, Any]:
    """The report on a native, for JSON."""
    report = check(target, machine, mode=mode, dtype=dtype)
    return report.to_json() | {"lines": report.lines()}


def after_no_gradients(framework: str, target: str, arguments: Mapping[str, float]) -> str:
    """Where a step without gradients leads with such arguments: ``nan`` every weight, or ``still``."""
    candidate = candidates.wrap(framework, candidates.load(target))
    candidate.start(LAYOUT, np.ones(LAYOUT.size), arguments)
    weights = candidate.step(np.zeros(LAYOUT.size), arguments)
    return "nan" if np.isnan(weights).all() else "still" if (weights == 1).all() else "otherwise"


def assert_as_told(report: Mapping[str, Any], rows: Mapping[str, dialects.Row], backend: str, dtype: str) -> None:
    """Each row is equivalent if and only if nothing is said to be not expressible; and it was compared in full.

    In float32 a row may need scalars in float32, where the machine's are float64, and no row needs more.

    What is not expressible is a float32 rounding: a beta that is rounded moves 1 - beta ** t, or 1 - beta, by up to
    2 ** -25 / (1 - beta), which is 3e-5 of it for 0.999.
    """
    text = "\n".join(report["lines"])
    for row in report["rows"]:
        known = told(rows[row["variant"]].not_expressible, backend, dtype) or ""
        assert row["passed"] is not bool(known), text
        assert row["known"] == known, text
        assert row["cases"] == 6
        assert row["comparisons"] >= 600, text
        assert row["undecided"] == 0, text
        under = {SCALARS} if row["through_float32"] else set()
        allowed = {NARROW} if dtype == "float32" else set()
        assert under <= profiles(row), text
        assert known or profiles(row) <= under | allowed, text  # what fails, fails under all that is granted
        verdict = text.partition(f"\n{row['variant']}: ")[2].partition(" to ")[0]
        expected = "equivalent" if row["passed"] else "NOT equivalent"
        assert verdict == expected + (f" under the profile {row['profile']}" if row["profile"] else "")
        if known:
            apart = abs(float.fromhex(row["failure"]["got"]) / float.fromhex(row["failure"]["want"]) - 1)
            assert 1e-11 < apart < 3e-5, text


def profiles(row: Mapping[str, Any]) -> set[str]:
    """The profiles that a row's verdict is under."""
    return set(row["profile"].split(" and ")) - {""}


def told(by_backend: Mapping[str, T], backend: str, dtype: str) -> T | None:
    """What a row says of a backend and a dtype; a key is one of them or both."""
    return next((by_backend[key] for key in (f"{backend} {dtype}", backend, dtype) if key in by_backend), None)


def which_are_rounded(row: dialects.Row, framework: str, backend: str) -> dict[str, str]:
    """For each hyperparameter: whether the native agrees with it ``rounded`` to float32, ``exact``, or ``either``.

    The betas of Adam and Adamax are both: exact in the moments and, on TensorFlow, rounded in the bias correction.
    There it only multiplies the step, as lr does, so lr is given the factor that the rounding makes.
    """
    trials = []
    for stream in STREAMS:
        (case,) = [case for case in golden.of_machine(row.instance) if case.name.endswith(f".{stream}")]
        values = [{path: _inexact(path.split(".")[-1], x) for path, x in each.items()} for each in case.hyperparameters]
        case = dataclasses.replace(case, hyperparameters=values)
        steps = record(candidates.wrap(framework, candidates.load(row.target)), row, case, dialects.fixed(row.instance))
        trials.append((case, steps))

    def agrees(rounded: set[str]) -> bool:
        for case, steps in trials:
            used = [_seen(row, step, number, rounded, backend) for number, step in enumerate(steps, 1)]
            program = compiler.build(settled(row.instance, used[0].settings), case.layout)
            if any((comparison.units > BUDGET).any() for comparison in follow(program, used)):
                return False
        return True

    listed = set(told(row.through_float32, backend, "float64") or ())
    assert agrees(listed), f"{row.target}, {row.variant}"
    answers = {(True, False): "rounded", (False, True): "exact", (True, True): "either", (False, False): "neither"}
    paths = set().union(*map(dialects.paths, row.arguments.values()))
    return {path: answers[agrees(listed | {path}), agrees(listed - {path})] for path in sorted(paths)}


def _inexact(name: str, value: float) -> float:
    """A value that float32 does not hold; also for a learning rate that is a power of two."""
    return 0.7 * value if name == "lr" and np.float32(value) == value else INEXACT.get(name, value)


def _seen(row: dialects.Row, step: Recorded, number: int, rounded: set[str], backend: str) -> Recorded:
    """The step with some hyperparameters rounded; and with Adam's lr corrected, which must not reach the decay."""
    settings = {path: float(np.float32(x)) if path in rounded else x for path, x in step.settings.items()}
    if told(row.not_expressible, backend, "float64"):
        beta1, beta2 = (next(x for path, x in step.settings.items() if path.endswith(f"beta{k}")) for k in (1, 2))
        factor = correction_factor(beta1, 0.0 if row.target.endswith("Adamax") else beta2, number)
        for path, value in settings.items():
            if path.endswith("lr"):
                settings[path] = float(decimal.Decimal(value) * factor)
            if path == "weight_decay":
                settings[path] = float(decimal.Decimal(value) / factor)
    return dataclasses.replace(step, settings=settings)


def correction_factor(beta1: float, beta2: float, t: int) -> decimal.Decimal:
    """How much longer a step is when sqrt(1 - beta2 ** t) / (1 - beta1 ** t) has both betas rounded to float32."""
    with decimal.localcontext(prec=50):

        def correction(b1: float, b2: float) -> decimal.Decimal:
            return (1 - decimal.Decimal(b2) ** t).sqrt() / (1 - decimal.Decimal(b1) ** t)

        return correction(float(np.float32(beta1)), float(np.float32(beta2))) / correction(beta1, beta2)
