"""Translations are held to what both native optimizers do on the probes; nothing expected here is merely typed.

Keras has one backend a process, so its pairs are run by this file as a script, which prints what it found as JSON.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import subprocess
import sys
from itertools import cycle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftsim import notation
from graftsim.errors import GraftsimError
from graftsim_conformance import candidates, carrying, constructors, dialects, difference, readings
from graftsim_conformance.constructors import Constructor
from graftsim_conformance.difference import RATES, STREAMS, Trajectories
from graftsim_conformance.follow import BUDGET
from graftsim_conformance.probes import LAYOUT, PROBES, start
from graftsim_conformance.translate import translate, understood

ALL = tuple(STREAMS)
NO_ZERO = ("tiny", "spike")
"""Streams without a zero gradient, where natives with eps=0 are NaN and the machines do not move."""

Pair = tuple[str, str, tuple[str, ...]]
EQUIVALENT: list[Pair] = [
    ("optax.adagrad(0.1)", "torch", ALL),
    ("torch.optim.Adagrad(lr=0.1, eps=0)", "optax", NO_ZERO),
    ("torch.optim.SGD(lr=0.1, momentum=0.9)", "optax", ALL),
    ("torch.optim.SGD(lr=0.1, momentum=0.9, nesterov=True)", "optax", ALL),
    ("torch.optim.Adam(params, 1e-3, weight_decay=0.1)", "optax", ALL),
    ("torch.optim.AdamW()", "optax", ALL),
    ("torch.optim.RMSprop(momentum=0.9)", "optax", ALL),
    ("torch.optim.Adamax()", "optax", ALL),
    ("torch.optim.Adadelta(weight_decay=0.5)", "optax", ALL),
    ("optax.rmsprop(0.01, eps=0, bias_correction=True)", "torch", NO_ZERO),
]
APART: list[Pair] = [
    ("torch.optim.Adagrad(lr=0.1)", "optax", ALL),
    ("torch.optim.Adagrad(lr=0.1, weight_decay=0.5)", "optax", ALL),
    ("torch.optim.SGD(lr=0.1, momentum=0.9, dampening=0.5)", "optax", ALL),
    ("torch.optim.Adam(amsgrad=True)", "optax", ALL),
    ("optax.rmsprop(0.01)", "torch", ALL),
    ("optax.yogi(0.01)", "torch", ALL),
]
KERAS_EQUIVALENT: list[Pair] = [
    ("optax.adagrad(0.1)", "keras", ALL),
    ("keras.optimizers.Adagrad(0.1)", "torch", ALL),
    ("torch.optim.SGD(lr=0.1, momentum=0.9)", "keras", ALL),
    ("keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)", "optax", ALL),
    ("keras.optimizers.RMSprop(weight_decay=0.25)", "optax", ALL),
    ("optax.signum(1e-3)", "keras", ALL),
]
KERAS_APART: list[Pair] = [
    ("torch.optim.Adam()", "keras", ALL),
    ("keras.optimizers.Adamax()", "torch", ALL),
]
WRONG = [
    # what a port by name alone writes
    ("torch.optim.Adagrad(lr=0.1)", "optax.adagrad(0.1)"),
    ("torch.optim.RMSprop(lr=0.01)", "optax.rmsprop(0.01)"),
    ("torch.optim.AdamW(lr=1e-3)", "optax.adamw(1e-3)"),
    ("torch.optim.NAdam(lr=1e-3)", "optax.nadam(1e-3)"),
]


# -- both natives on the probes ----------------------------------------------------------------------------------------


def natively(text: str, stream: str, zero: bool, changing: bool) -> list[np.ndarray]:
    """The weights of a native optimizer after each step; ``optax.chain`` is read here, and only here."""
    chain, inner = _unchained(text)
    constructor = constructors.parse(inner)
    native = candidates.load(constructor.target.path)
    candidate = candidates.wrap(constructor.target.framework, chain(native))
    arguments = dict(constructor.arguments)
    rate = "lr" if "lr" in arguments else "learning_rate"
    candidate.start(LAYOUT, start(zero), arguments)
    factors = cycle(RATES if changing else (1.0,))
    return [
        candidate.step(row.copy(), arguments | {rate: arguments[rate] * factor})
        for row, factor in zip(PROBES[stream].gradients(), factors, strict=False)
    ]


def _unchained(text: str) -> tuple[Any, str]:
    decay = "optax.add_decayed_weights("
    if not text.startswith("optax.chain("):
        return lambda native: native, text
    import optax

    body = text.removeprefix("optax.chain(").removesuffix(")")
    if body.startswith(decay):
        number, _, inner = body.removeprefix(decay).partition("), ")
        return (
            lambda native: lambda **given: optax.chain(optax.add_decayed_weights(float(number)), native(**given)),
            inner,
        )
    inner, _, number = body.removesuffix(")").rpartition(f", {decay}")
    return lambda native: lambda **given: optax.chain(native(**given), optax.add_decayed_weights(float(number))), inner


def findings(source: str, to: str, streams: tuple[str, ...]) -> dict[str, Any]:
    """What a translation says, and beside it how far both natives are apart and by how much each may be off.

    A native lies within the budget of its own machine, so the difference of two natives lies within the budgets of
    both of the difference of the machines.
    """
    translation = translate(source, to)
    match = translation.matches[0]
    found: dict[str, Any] = {"text": str(match), "same": match.difference.same, "rows": []}
    found["same_at_changing_rate"] = match.at_changing_rate is not None and match.at_changing_rate.same
    for changing, told in ((False, match.difference), (True, match.at_changing_rate)):
        if told is None:
            continue
        runs = [Trajectories(each, changing).full() for each in (translation.source.instance, match.instance)]
        for stream in streams:
            apart, room = 0.0, 0.0
            for zero in (False, True):
                first, second = (natively(text, stream, zero, changing) for text in (source, str(match)))
                a, b = (run[stream][zero] for run in runs)
                for x, y, step, e, f in zip(first, second, a.steps, a.errors, b.errors, strict=True):
                    apart = max(apart, float(np.max(np.abs(x - y) / step)))
                    room = max(room, float(np.max(BUDGET * (e + f) / step)))
            found["rows"].append({"stream": stream, "apart": apart, "room": room, "told": told.distances[stream]})
    return found


def judge(found: dict[str, Any]) -> None:
    for row in found["rows"]:
        assert row["room"] < 1e-6, row
        assert abs(row["apart"] - row["told"]) <= row["room"], row


@pytest.fixture(scope="module")
def keras_found() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("source", "to", "streams"), EQUIVALENT, ids=str)
def test_equivalent(source: str, to: str, streams: tuple[str, ...]) -> None:
    found = findings(source, to, streams)
    assert found["same"]
    judge(found)


@pytest.mark.parametrize(("source", "to", "streams"), APART, ids=str)
def test_apart_by_as_much_as_told(source: str, to: str, streams: tuple[str, ...]) -> None:
    found = findings(source, to, streams)
    assert not found["same"]
    judge(found)
    assert any(row["apart"] > 2 * row["room"] for row in found["rows"])


@pytest.mark.parametrize("same", [True, False])
def test_keras(keras_found: dict[str, Any], same: bool) -> None:
    pairs = KERAS_EQUIVALENT if same else KERAS_APART
    for source, to, _ in pairs:
        found = keras_found[f"{source} to {to}"]
        assert found["same"] is same, source
        judge(found)


def test_where_only_a_changing_rate_tells(keras_found: dict[str, Any]) -> None:
    """Keras has the learning rate inside the buffer; torch and optax outside."""
    assert not keras_found["torch.optim.SGD(lr=0.1, momentum=0.9) to keras"]["same_at_changing_rate"]
    assert translate("torch.optim.SGD(lr=0.1, momentum=0.9)", "optax").matches[0].at_changing_rate.same


@pytest.mark.parametrize(("source", "wrong"), WRONG)
def test_a_port_by_name_is_wrong(source: str, wrong: str) -> None:
    """Both what the machines say and what the natives do."""
    first, second = (Trajectories(understood(text).instance) for text in (source, wrong))
    told = difference.full(first.full(), second.full())
    assert not told.same
    a, b = (natively(text, "mixed", False, False) for text in (source, wrong))
    assert max(np.max(np.abs(x - y)) for x, y in zip(a, b, strict=True)) > 1e-6


# -- what is read ------------------------------------------------------------------------------------------------------


NO_ROW_BY_DEFAULT = {"pytorch_optimizer:AdaFactor": {"betas": (None, 0.999)}}
"""By default it has a momentum in bfloat16."""


def _required(target: dialects.Target) -> Constructor:
    """With its defaults, and a learning rate where there is none."""
    asked: dict[str, Any] = {name: 0.25 for name in constructors.names(target) if name not in target.defaults}
    for name, value in target.defaults.items():
        if name in ("lr", "learning_rate") and value is None:
            asked[name] = 0.25
        if isinstance(value, list) and None in value:
            asked[name] = [1e-30 if each is None else each for each in value]
    asked |= NO_ROW_BY_DEFAULT.get(target.path, {})
    return constructors.parse(f"{target.path}({', '.join(f'{name}={value}' for name, value in asked.items())})")


@pytest.mark.parametrize("path", dialects.targets())
def test_every_target_is_read_and_written(path: str) -> None:
    target = dialects.targets()[path]
    constructor = _required(target)
    assert constructors.parse(str(constructor)) == constructor
    reading = readings.read(constructor)
    expression = carrying.expression(translate(str(constructor), "spec").source.instance)
    assert reading.row in target.rows
    assert notation.parse(expression).machine.name == reading.instance.machine.name
    for row in target.rows:
        values = {path: value or 0.375 for path, value in carrying.values_of(row.instance).items()}
        written = readings.write(target, row, values)
        assert readings.read(written).row is row, f"{written} is read as another row"


@pytest.mark.parametrize("path", [path for path in dialects.targets() if path.startswith(("torch.", "optax:"))])
def test_hidden_defaults_are_the_natives(path: str) -> None:
    target, signature = dialects.targets()[path], inspect.signature(candidates.load(path))
    for name, value in target.defaults.items():
        default = signature.parameters[name].default
        assert default == (tuple(value) if isinstance(value, list) else value), name


def test_ways_to_write_a_call() -> None:
    same = [
        "torch.optim.Adam(lr=0.002, betas=(0.8, 0.99))",
        "torch.optim:Adam(lr=2e-3, betas=[0.8, 0.99])",
        "torch.optim.Adam(model.parameters(), 2e-3, (0.8, 0.99))",
        "torch.optim.Adam(params=net.parameters(), lr=0.002, betas=(0.8, 0.99), foreach=True, maximize=False)",
        "optim.Adam(net.parameters(), lr=0.002, betas=(0.8, 0.99))",
    ]
    assert len({str(constructors.parse(text)) for text in same}) == 1
    assert str(constructors.parse("optax.rmsprop(1, 0.5)")).startswith("optax.rmsprop(learning_rate=1, decay=0.5, eps=")
    assert constructors.parse("tf.keras.optimizers.Adam()") == constructors.parse("keras.optimizers:Adam")


@given(lr=st.floats(0, 10), momentum=st.floats(0, 0.999), nesterov=st.booleans())
@settings(max_examples=25, deadline=None)
def test_numbers_pass_exactly(lr: float, momentum: float, nesterov: bool) -> None:
    source = understood(f"keras.optimizers.SGD(learning_rate={lr!r}, momentum={momentum!r}, nesterov={nesterov})")
    if nesterov and momentum == 0:
        return
    assert str(notation.parse(str(source.instance))) == str(source.instance)
    assert readings.read(constructors.parse(source.text)).instance == source.instance


MISTAKES = {
    "torch.optim.Adan(lr=1)": "did you mean 'torch.optim.Adam'?",
    "torch.optim.LBFGS()": "evaluates the loss several times",
    "torch.optim.Adam(learning_rate=1)": "has no argument 'learning_rate'",
    "torch.optim.Adam(beta=(0.9, 0.99))": "did you mean 'betas'?",
    "torch.optim.Adam(0.1)": "the first argument of torch.optim.Adam is the weights",
    "torch.optim.Adam(maximize=True)": "no row of the dialect of torch.optim.Adam has maximize=True",
    "torch.optim.Adam(lr=-1)": "torch.optim.Adam, lr: must lie in >= 0; received -1",
    "torch.optim.Adam(betas=(0.9, 1.0))": "torch.optim.Adam, betas: must lie in [0, 1); received 1",
    "torch.optim.Adam(betas=0.9)": "betas=0.9",
    "torch.optim.Adam(lr=0.1, lr=0.2)": "lr",
    "torch.optim.Adam(**given)": "'**' is not allowed",
    "torch.optim.SGD(lr=0.1, dampening=0.5)": "dampening=0.5",
    "optax.adam()": "needs its learning_rate",
    "optax.adam(1e-3, eps_root=1e-8)": "eps_root=1e-08",
    "optax.adam(optax.cosine_decay_schedule(0.1, 10))": "must be a number",
    "optax.adam(__import__('os').getpid())": "must be a number",
    "optax.sgd(1, 2, 3, 4, 5, 6, 7)": "by position",
    "adam(lr=t)": "unknown 't'",
    "adam(lr=cos_shape(1, 2))": "",
    "adam(lr=0.1*step)": "only a number can be translated",
    "": "",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_one_line(text: str) -> None:
    with pytest.raises(GraftsimError) as caught:
        translate(text, "optax")
    assert MISTAKES[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_framework_is_named() -> None:
    with pytest.raises(GraftsimError, match="did you mean 'torch'"):
        translate("sgd", "pytorch")


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(run):
    return functools.partial(run, columns=80)


def test_the_constructor_stands_on_one_line(run) -> None:
    code, out, err = run("translate", "optax.adagrad(0.1)", "--to", "torch")
    assert (code, err) == (0, "")
    assert str(translate("optax.adagrad(0.1)", "torch").matches[0]) in out.splitlines()


def test_no_equivalent_is_exit_code_1_with_distances_and_reasons(run) -> None:
    code, out, _ = run("translate", "torch.optim.Adagrad(lr=0.1)", "--to", "optax")
    match = translate("torch.optim.Adagrad(lr=0.1)", "optax").matches[0]
    assert code == 1
    assert "optax has no equivalent" in out
    assert "eps_placement is inside, not outside" in out
    for distance in match.difference.distances.values():
        assert f"{distance:.1e}" in out


def test_a_machine_and_the_spec(run) -> None:
    assert run("translate", "optax.adam(1e-3)", "--to", "spec")[1].strip() == (
        "adam(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, eps_placement=corrected)"
    )
    assert run("translate", "adam#sgd", "--to", "torch")[0] == 1
    assert run("translate", "adann", "--to", "torch")[0] == 2
    assert "torch has no yogi; the nearest is" in run("translate", "yogi", "--to", "torch")[1]


def test_backends_are_remarked_on(run) -> None:
    assert "On tensorflow" in run("translate", "optax.adam(1e-3)", "--to", "keras")[1]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", ["adagrad", "adam", "rmsprop"])
def test_the_table_of_dialects_loses_nothing(run, name: str, columns: int) -> None:
    code, out, _ = run("show", name, "--dialects", columns=columns)
    assert code == 0
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= columns
    for row in dialects.rows():
        if row.instance.machine.name == name:
            state = [part for source in row.state.values() for part in source.split(".")]
            words = [constructors.dotted(row.target), *row.variant.split("_"), *row.arguments, *state]
            assert [word for word in words if word not in out] == []


def test_the_table_says_who_has_none(run) -> None:
    assert "torch has none." in run("show", "yogi", "--dialects")[1]
    assert "SparseAdam" in run("show", "adam", "--dialects")[1]
    assert run("show", "adam#sgd", "--dialects")[0] == 2


if __name__ == "__main__":
    print(json.dumps({f"{pair[0]} to {pair[1]}": findings(*pair) for pair in KERAS_EQUIVALENT + KERAS_APART}))
