"""Python objects as candidates: right ones pass, wrong ones are located, and whatever one does is a verdict."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
import pytest

from graftsim import notation
from graftsim.engine import Engine
from graftsim.errors import GraftsimError
from graftsim.layouts import Layout
from graftsim_conformance import claim, golden
from graftsim_conformance.guard import guarded
from graftsim_conformance.judge import Mode
from graftsim_conformance.python_candidate import PythonCandidate
from graftsim_conformance.verdicts import WORST_FIRST, CandidateError, Verdict, overall
from tests.judging import judged

CASE = golden.stored("adam-corrected.mixed")
ADAM = "adam(eps_placement=corrected)"
DTYPES = ("float64", "float32")


class Adam:
    """Written as one would, in another order of operations than the reference's: the mean by its difference."""

    def init(self, weights, hyperparameters):
        zeros = {name: np.zeros_like(w) for name, w in weights.items()}
        return {"t": 0, "m": zeros, "v": {name: z.copy() for name, z in zeros.items()}}

    def step(self, weights, gradients, state, step, hyperparameters):
        lr, beta1, beta2, eps = (hyperparameters[name] for name in ("lr", "beta1", "beta2", "eps"))
        t = state["t"] + 1
        m = {k: x + (1 - beta1) * (gradients[k] - x) for k, x in state["m"].items()}
        v = {k: beta2 * x + (1 - beta2) * gradients[k] ** 2 for k, x in state["v"].items()}
        moved = {
            k: w - lr * (m[k] / (1 - beta1**t)) / (np.sqrt(v[k] / (1 - beta2**t)) + eps) for k, w in weights.items()
        }
        # w - ... of a 0-d array is a NumPy scalar, which has the dtype and the shape that are asked for
        return moved, {"t": t, "m": m, "v": v}


def scalars(hyperparameters):
    return {path: value for path, value in hyperparameters.items() if isinstance(value, float)}


class Reference:
    """The reference engine as an object, its state nested by machine."""

    abilities = ("missing",)

    def __init__(self, machine):
        self.machine = machine

    def init(self, weights, hyperparameters):
        layout = Layout.of({name: w.shape for name, w in weights.items()})
        dtype = str(next(iter(weights.values())).dtype)
        self.program = claim.program_of(notation.parse(self.machine), layout, dtype, scalars(hyperparameters))
        return self.nested(Engine(self.program).initial_state())

    def named(self, flat):
        layout = self.program.layout
        return dict(zip(layout.names, layout.unflatten(flat), strict=True))

    def nested(self, state):
        found = {}
        for path, value in state.items():
            *children, name = path.split(".")
            inner = found
            for child in children:
                inner = inner.setdefault(child, {})
            coordinate = claim.by_tensor(self.program.slots[path].kind)
            inner[name] = self.named(value) if coordinate else dict(zip(self.program.layout.names, value, strict=True))
        return found

    def flat(self, state):
        found = {}
        for path, slot in self.program.slots.items():
            inner = state
            for name in path.split("."):
                inner = inner[name]
            wide = claim.by_tensor(slot.kind)
            found[path] = (
                np.concatenate([np.reshape(x, -1) for x in inner.values()]) if wide else np.array(list(inner.values()))
            )
        return found

    def step(self, weights, gradients, state, step, hyperparameters):
        flat = np.concatenate([w.reshape(-1) for w in weights.values()])
        for path, (kind, values) in claim.tables(self.program).items():
            given = hyperparameters[path]
            given = np.concatenate([x.reshape(-1) for x in given.values()]) if claim.by_tensor(kind) else given
            assert given.tobytes() == values.tobytes()
        settings = scalars(hyperparameters)
        out = Engine(self.program).step(flat, list(gradients.values()), self.flat(state), step, settings)
        return self.named(out.weights), self.nested(out.state), out.info


# -- right and wrong ---------------------------------------------------------------------------------------------------


def test_another_order_of_operations_is_equivalent():
    judgements = judged(PythonCandidate(Adam(), ADAM), ADAM)
    assert [found.case for found in judgements] == [case.name for case in golden.of_machine(CASE.program.instance)]
    for found in judgements:
        assert found.verdict is Verdict.EQUIVALENT, found
        assert found.comparisons >= 380
        assert 0 < found.largest < 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("machine", ["adam#sgd", "lamb#novograd", "decay_in_gradient(adadelta)"])
def test_the_reference_has_its_own_bits(machine, dtype):
    """Nested state, counters and group values by tensor, and info come through."""
    candidate = PythonCandidate(Reference(machine), machine)
    judgements = judged(candidate, machine, dtype=dtype)
    assert {found.verdict for found in judgements} == {Verdict.EXACT}
    assert len(judgements) == (6 if "decay" in machine else 2)
    assert not any(found.unread for found in judgements)
    if "#" in machine:
        assert set(candidate.info()) >= {"n_m", "n_d", "ratio"}
        assert candidate.info()["ratio"].shape == (3,)


TABLES = [
    "scaled(adam#sgd, factor={'w': 0.5, 'b': 2, 's': 0.25})",
    "rank_one(v={'w': [[0.5, -2, 1, 0.25], [-0.75, 3, 1, -1], [0.125, 2, -0.5, 1.5]], "
    "'b': [0.75, -3, 1, 0.5, 2], 's': -1})",
]
"""Those of golden cases: one value a group, one a coordinate."""


@pytest.mark.parametrize("machine", ["adam#sgd", *TABLES])
def test_the_reference_on_the_edges(machine):
    """Missing gradients, NaN, zeros, late starts, tables: whatever the cases are, and in every mode."""
    cases = golden.of_machine(notation.parse(machine), edges=True)
    judgements = judged(PythonCandidate(Reference(machine), machine), machine, cases, modes=list(Mode))
    assert {found.verdict for found in judgements} == {Verdict.EXACT}, [j for j in judgements if not j.passed]
    assert len(judgements) >= 6


def test_hyperparameters_that_are_written_hold_in_all_cases():
    class Fixed(Adam):
        def step(self, weights, gradients, state, step, hyperparameters):
            assert hyperparameters["eps"] == 0.25
            return super().step(weights, gradients, state, step, hyperparameters)

    assert judged(PythonCandidate(Fixed(), ADAM), "adam(eps=0.25)")[0].verdict is Verdict.EQUIVALENT


def wrong(change):
    """Adam with one thing done to what its step returns."""

    class Wrong(Adam):
        def step(self, weights, gradients, state, step, hyperparameters):
            found = super().step(weights, gradients, state, step, hyperparameters)
            return change(self, weights, gradients, state, found)

    return Wrong()


def with_part(found, name, part):
    moved, state = found
    return {**moved, name: part}, state


def in_place(array, value=0):
    array[...] = value


def behind(arrays, name):
    """Put a copy in the place of an array that is then changed."""
    array = arrays[name]
    arrays[name] = array.copy()
    array[...] = 7


WRONG = {
    # what it does: (change, verdict, what the reason says)
    "a float32 tensor": (lambda s, w, g, h, f: with_part(f, "b", f[0]["b"].astype("f4")), "'b', must have shape (5,)"),
    "a list": (lambda s, w, g, h, f: with_part(f, "b", list(f[0]["b"])), "received a list"),
    "another shape": (lambda s, w, g, h, f: with_part(f, "w", f[0]["w"].T), "received shape (4, 3) and dtype float64"),
    "a flat tensor": (lambda s, w, g, h, f: with_part(f, "w", f[0]["w"].ravel()), "received shape (12,)"),
    "a tensor more": (lambda s, w, g, h, f: with_part(f, "x", f[0]["b"]), "weights must map w, b, s to arrays"),
    "a tensor less": (lambda s, w, g, h, f: ({"w": f[0]["w"]}, f[1]), "received ['w']"),
    "an array": (lambda s, w, g, h, f: (np.zeros(18), f[1]), "received shape (18,)"),
    "weights only": (lambda s, w, g, h, f: f[0], "step must return (weights, state) or (weights, state, info)"),
    "a bad slot": (lambda s, w, g, h, f: (f[0], {**f[1], "m": np.zeros(18)}), "state m must map w, b, s"),
    "a bad counter": (lambda s, w, g, h, f: (f[0], {**f[1], "t": [1, 2]}), "one for each of 3 groups of tensor"),
    "changed weights": (lambda s, w, g, h, f: (in_place(w["b"]), f)[1], "it changed weights['b']"),
    "changed gradients": (lambda s, w, g, h, f: (in_place(g["w"]), f)[1], "it changed gradients['w']"),
    "changed state": (lambda s, w, g, h, f: (in_place(h["m"]["s"], 7), f)[1], "it changed state['m']['s']"),
    "state changed behind a copy": (lambda s, w, g, h, f: (behind(h["v"], "w"), f)[1], "it changed state['v']['w']"),
    "a popped gradient": (lambda s, w, g, h, f: (g.pop("b"), f)[1], "it changed gradients['b']"),
    "a counter in place": (lambda s, w, g, h, f: (h.update(t=5), f)[1], "it changed state['t']"),
    "a key in the state": (lambda s, w, g, h, f: (h.update(x=5), f)[1], "it added state['x']"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes_and_changed_inputs_are_different(name):
    change, reason = WRONG[name]
    (found,) = judged(PythonCandidate(wrong(change), ADAM), ADAM, [CASE])
    assert found.verdict is Verdict.DIFFERENT, found
    assert reason in found.reason
    assert found.failure is None


def test_a_wrong_value_is_located():
    candidate = PythonCandidate(wrong(lambda s, w, g, h, f: with_part(f, "b", f[0]["b"] * (1 + 2.0**-40))), ADAM)
    (found,) = judged(candidate, ADAM, [CASE])
    assert found.verdict is Verdict.DIFFERENT
    assert (found.failure.step, found.failure.place) == (1, "weights")
    assert found.failure.where.startswith("b[")
    assert found.reason.startswith("first difference: case adam-corrected.mixed, at step 1, weights of b[")


def test_state_that_is_not_shown_is_carried():
    """An opaque state: weights alone are compared, and a mistake shows in them all the same."""

    class Opaque(Adam):
        def init(self, weights, hyperparameters):
            return [super().init(weights, hyperparameters)]

        def step(self, weights, gradients, state, step, hyperparameters):
            moved, inner = super().step(weights, gradients, state[0], step, hyperparameters)
            return moved, [inner]

    class Forgetful(Opaque):
        def step(self, weights, gradients, state, step, hyperparameters):
            start = super().init(weights, hyperparameters) if step == 3 else state
            return super().step(weights, gradients, start, step, hyperparameters)

    (right,) = judged(PythonCandidate(Opaque(), ADAM), ADAM, [CASE])
    (other,) = judged(PythonCandidate(Forgetful(), ADAM), ADAM, [CASE])
    assert right.verdict is Verdict.EQUIVALENT
    assert right.comparisons == 18 * len(CASE.gradients)
    assert (other.verdict, other.failure.place, other.failure.step) == (Verdict.DIFFERENT, "weights", 3)


# -- what it does instead ----------------------------------------------------------------------------------------------


def raising(error):
    def run(*_):
        raise error

    return run


def test_what_it_raises_is_a_crash_with_its_traceback():
    for error in (
        ZeroDivisionError("by nought"),
        SystemExit(3),
        RecursionError("deep"),
        StopIteration(),
        MemoryError(),
    ):
        (found,) = judged(PythonCandidate(wrong(raising(error)), ADAM), ADAM, [CASE])
        assert found.verdict is Verdict.CRASHED
        assert found.reason.startswith(type(error).__name__)
        assert "in run" in found.detail
    with pytest.raises(KeyboardInterrupt):
        judged(PythonCandidate(wrong(raising(KeyboardInterrupt())), ADAM), ADAM, [CASE])


def test_what_it_declares_is_not_supported():
    narrow = Adam()
    narrow.dtypes = ("float64",)
    (found,) = judged(PythonCandidate(narrow, ADAM), ADAM, [CASE], dtype="float32")
    assert (found.verdict, found.reason) == (Verdict.NOT_SUPPORTED, "it declares float64, and not float32")
    (found,) = judged(PythonCandidate(wrong(raising(NotImplementedError("no Adam"))), ADAM), ADAM, [CASE])
    assert (found.verdict, found.reason) == (Verdict.NOT_SUPPORTED, "no Adam")
    assert not found.verdict.passed


def swallowing(*_):
    with contextlib.suppress(BaseException):  # once; the alarm rings again
        time.sleep(60)
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)


def test_a_candidate_that_hangs_times_out():
    candidate = PythonCandidate(wrong(swallowing), ADAM, seconds=0.2)
    began = time.monotonic()
    (found,) = judged(candidate, ADAM, [CASE])
    assert (found.verdict, found.reason) == (Verdict.TIMED_OUT, "it took more than 0.2 s")
    assert time.monotonic() - began < 20
    time.sleep(0.3)  # the alarm is off: it would end the process
    assert judged(PythonCandidate(Adam(), ADAM), ADAM, [CASE])[0].verdict is Verdict.EQUIVALENT


def test_an_overflow_is_no_event():
    assert guarded(lambda: np.float64(1e308) * 10, 1.0) == np.inf


def test_in_another_thread_it_runs_without_an_alarm():
    found = []
    thread = threading.Thread(target=lambda: found.append(guarded(lambda: [], 0.01)))
    thread.start()
    thread.join()
    assert found == [[]]


# -- state that is set -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_can_be_set(dtype):
    """A run that is set to the middle of another goes on with its bits; slots take the form that they had."""
    candidate = PythonCandidate(Reference("adam#sgd"), "adam#sgd")
    case = golden.stored("graft-adam-sgd.mixed")
    settings, paths = case.hyperparameters[0], {path: path for path in case.program.slots}
    gradients = [row.astype(dtype) for row in case.gradients]
    candidate.start(case.layout, case.weights.astype(dtype), settings)
    middle = [candidate.step(gradient, settings) for gradient in gradients[:3]][-1]
    state = candidate.read_state(paths)
    want = candidate.step(gradients[3], settings)
    candidate.start(case.layout, case.weights.astype(dtype), settings)
    candidate.write_state(middle, state, 3)
    assert candidate.step(gradients[3], settings).tobytes() == want.tobytes()
    assert candidate.read_state(paths)["magnitude.t"].tolist() == [4.0] * 3


def test_one_number_for_all_groups_cannot_hold_several():
    candidate = PythonCandidate(Adam(), ADAM)
    candidate.start(CASE.layout, CASE.weights, CASE.hyperparameters[0])
    candidate.write_state(CASE.weights, {"t": np.full(3, 10.0**6)}, 10**6)
    candidate.step(CASE.gradients[0], CASE.hyperparameters[0])
    assert candidate.read_state({"t": "t"})["t"].tolist() == [10.0**6 + 1] * 3
    with pytest.raises(CandidateError, match="one number for all groups"):
        candidate.write_state(CASE.weights, {"t": np.array([1.0, 2.0, 3.0])}, 3)
    with pytest.raises(CandidateError, match="has no 'u'"):
        candidate.write_state(CASE.weights, {"u": np.zeros(18)}, 3)


def test_steps_are_numbered_on_and_what_is_returned_is_the_callers():
    class Counting(Adam):
        def step(self, weights, gradients, state, step, hyperparameters):
            return {name: w + step for name, w in weights.items()}, state

    candidate = PythonCandidate(Counting(), ADAM)
    candidate.start(CASE.layout, np.zeros(18), CASE.hyperparameters[0])
    candidate.step(CASE.gradients[0], CASE.hyperparameters[0]).fill(np.nan)
    assert candidate.step(CASE.gradients[0], CASE.hyperparameters[0]).tolist() == [3.0] * 18
    candidate.write_state(np.zeros(18), {}, 2**24)
    assert candidate.step(CASE.gradients[0], CASE.hyperparameters[0]).tolist() == [2.0**24 + 1] * 18


def test_missing_gradients_are_none():
    seen = []

    class Looking(Adam):
        def step(self, weights, gradients, state, step, hyperparameters):
            seen.append({name: part is None for name, part in gradients.items()})
            return weights, state

    candidate = PythonCandidate(Looking(), ADAM)
    candidate.start(CASE.layout, CASE.weights, CASE.hyperparameters[0])
    parts = CASE.layout.unflatten(CASE.gradients[0])
    moved = candidate.step([parts[0], None, parts[2]], CASE.hyperparameters[0])
    assert seen == [{"w": False, "b": True, "s": False}]
    assert moved.tobytes() == CASE.weights.tobytes()


# -- verdicts ----------------------------------------------------------------------------------------------------------


def test_the_worst_verdict_is_that_on_all():
    assert sorted(WORST_FIRST) == sorted(Verdict)
    assert [verdict for verdict in Verdict if verdict.passed] == [Verdict.EXACT, Verdict.EQUIVALENT]
    assert overall([Verdict.EXACT, Verdict.NOT_SUPPORTED]) is Verdict.NOT_SUPPORTED
    assert overall([Verdict.NOT_SUPPORTED, Verdict.CRASHED, Verdict.DIFFERENT]) is Verdict.DIFFERENT
    assert not overall([]).passed


def test_mistakes_of_the_user_are_told_in_one_line():
    with pytest.raises(GraftsimError, match="unknown machine 'adma'"):
        PythonCandidate(Adam(), "adma")
    with pytest.raises(GraftsimError, match=r"must have init and step; <object object at 0x.* has no init"):
        PythonCandidate(object(), ADAM)
    odd = Adam()
    odd.abilities = ("mising",)
    with pytest.raises(GraftsimError, match="unknown ability 'mising'; did you mean 'missing'"):
        PythonCandidate(odd, ADAM)
