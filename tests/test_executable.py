"""Programs over the line protocol: a candidate in C, the reference itself, and programs that misbehave."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftsim import notation
from graftsim.bounds import Bounds
from graftsim.engine import Engine
from graftsim.layouts import Layout
from graftsim_conformance import claim, golden, posing, wire
from graftsim_conformance.cases import read_parameters
from graftsim_conformance.channel import Limits
from graftsim_conformance.executable import ExecutableCandidate
from graftsim_conformance.follow import BUDGET
from graftsim_conformance.guard import guarded
from graftsim_conformance.hexfloat import to_hex
from graftsim_conformance.judge import Mode
from graftsim_conformance.verdicts import CandidateError, Verdict, overall
from tests.judging import judged

ROOT = Path(__file__).parent.parent
SOURCE = (ROOT / "docs" / "examples" / "adam_protocol.c").read_text()
ANSWERING = [sys.executable, str(Path(__file__).parent / "answering.py")]
ADAM = "adam(eps_placement=corrected)"
DTYPES = ("float64", "float32")
FAST = Limits(reply_seconds=20.0)


# -- a candidate in C --------------------------------------------------------------------------------------------------


def compiled(folder: Path, source: str, *flags: str) -> list[str]:
    """Compile with the command that the example itself gives."""
    (folder / "adam_protocol.c").write_text(source)
    command = re.search(r"^ +(cc .*)$", SOURCE, re.MULTILINE)[1].split()
    done = subprocess.run([*command, *flags], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [str(folder / "adam_protocol")]


@pytest.fixture(scope="module")
def adam(tmp_path_factory) -> list[str]:
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    return compiled(tmp_path_factory.mktemp("c"), SOURCE, *strict)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_program_in_c_is_adam(adam, dtype):
    with ExecutableCandidate(adam, ADAM) as candidate:
        judgements = judged(candidate, ADAM, dtype=dtype)
        assert (candidate.name, candidate.dtypes) == ("adam in C", DTYPES)
    assert len(judgements) == 6
    for found in judgements:
        assert found.verdict.passed, found
        assert found.comparisons >= 380
        assert found.undecided == 0


def test_the_program_in_c_on_the_edges(adam):
    """Missing gradients, NaN, infinity, zeros, subnormals, eps of 0 and 9475, late starts: all cases, in every mode."""
    edges = golden.of_machine(notation.parse(ADAM), edges=True)
    with ExecutableCandidate(adam, ADAM) as candidate:
        judgements = judged(candidate, ADAM, edges, modes=list(Mode))
    assert [found for found in judgements if not found.verdict.passed] == []
    assert not any(found.unread for found in judgements)
    assert len(judgements) > 100


WRONG = [
    # what stands in the source, what is put in its place, where it shows first, at which step
    ("r(r(sqrt(r(v[i] / c2))) + eps)", "r(sqrt(r(r(v[i] / c2) + eps)))", "weights", 1),
    ("r(v[i] / c2)", "v[i]", "weights", 1),
    ("r(r(beta1) * m[i]) + r(rest1 * g[i])", "r(r(beta1) * m[i]) + g[i]", "m", 1),
    ("r(beta2) * v[i]", "r(beta1) * v[i]", "v", 2),
    ("w[i] = r(w[i] + delta)", "w[i] = r(w[i] - delta)", "weights", 1),
    ("if (present[k] || advance)\n            t[k] += 1;", "t[k] = 1;", "t", 2),
    ("memset(m, 0, sizeof m);", "m[0] = 0x1p-1000;", "m", 0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("old", "new", "place", "step"), WRONG, ids=[row[1] for row in WRONG])
def test_a_change_of_it_is_seen_where_it_is(tmp_path, old, new, place, step, dtype):
    if dtype == "float32":
        new = new.replace("0x1p-1000", "0x1p-100")
    assert SOURCE.count(old) == 1
    with ExecutableCandidate(compiled(tmp_path, SOURCE.replace(old, new)), ADAM) as candidate:
        judgements = judged(candidate, ADAM, dtype=dtype)
    assert overall(found.verdict for found in judgements) is Verdict.DIFFERENT
    first = judgements[0].failure
    assert first is not None
    assert (first.case, first.place, first.step) == ("adam-corrected.mixed", place, step)
    assert first.units > 100


def test_it_declares_what_it_does_not_support(adam):
    with ExecutableCandidate(adam, "adam(eps_placement=hat)") as candidate:
        judgements = judged(candidate, "adam(eps_placement=hat)")
    assert {found.verdict for found in judgements} == {Verdict.NOT_SUPPORTED}
    assert {found.reason for found in judgements} == {"only adam(eps_placement=corrected)"}
    narrow = compiled_with(adam, SOURCE.replace('\\"float64\\",\\"float32\\"', '\\"float64\\"'))
    with ExecutableCandidate(narrow, ADAM) as candidate:
        (found, *_) = judged(candidate, ADAM, dtype="float32")
    assert (found.verdict, found.reason) == (Verdict.NOT_SUPPORTED, "it declares float64, and not float32")


def compiled_with(command: list[str], source: str) -> list[str]:
    folder = Path(command[0]).parent / "other"
    folder.mkdir()
    return compiled(folder, source)


@pytest.mark.parametrize("missing", ["hold", "advance"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_missing_gradients_and_a_late_start_in_c(adam, dtype, missing):
    """Restored at t = 10^6 in the middle of a run, then a step in which tensors lack gradients: within the bound."""
    machine = f"adam(missing={missing})"
    case = golden.stored("adam-corrected.mixed")
    settings = case.hyperparameters[0]
    program = claim.program_of(notation.parse(machine), case.layout, dtype, settings)
    weights, gradient = case.weights.astype(dtype), case.gradients[0].astype(dtype)
    state = {"t": np.array([1e6, 3.0, 7.0]), "m": gradient / 4, "v": gradient * gradient}
    parts = case.layout.unflatten(case.gradients[1].astype(dtype))
    given = [parts[0], None, parts[2]]
    want = Engine(program).step(weights, given, state, 10**6 + 1, settings)
    with ExecutableCandidate(adam, machine) as candidate:
        candidate.start(case.layout, weights, settings)
        candidate.step(gradient, settings)
        candidate.write_state(weights, state, 10**6)
        moved = candidate.step(given, settings)
        after = candidate.read_state({"t": "t", "m": "m", "v": "v"})
    assert after["t"].tolist() == want.state["t"].tolist() == [1e6 + 1, 3.0 + (missing == "advance"), 8.0]
    assert all(after[name].tobytes() == want.state[name].tobytes() for name in ("m", "v"))
    bounds = Bounds(program)
    exact = {path: bounds.exact(value) for path, value in state.items()}
    bound, _ = bounds.step(bounds.exact(weights), given, exact, 10**6 + 1, settings)
    assert np.all(np.abs(moved - want.weights) <= BUDGET * bound.error)
    assert moved[12:17].tobytes() == weights[12:17].tobytes()
    assert np.count_nonzero(moved != weights) > 8


# -- the reference over the protocol -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [[], ["stateless"]], ids=["restore", "stateless"])
def test_the_reference_over_the_protocol_has_its_own_bits(mode):
    """Grafts, their state and partitions come through unchanged in both directions."""
    verdicts = []
    for machine in ("adam#sgd", "graft(adagrad, momentum, partition=global)", "lamb#novograd"):
        with ExecutableCandidate(ANSWERING + mode, machine) as candidate:
            for dtype in DTYPES:
                verdicts += [found.verdict for found in judged(candidate, machine, dtype=dtype)]
    assert verdicts == [Verdict.EXACT] * len(verdicts)
    assert len(verdicts) == 12


@pytest.mark.parametrize("mode", [[], ["stateless"]], ids=["restore", "stateless"])
def test_state_info_and_missing_gradients_come_through(mode):
    """Odd names, empty and 0-d tensors, a step number of 2^24, infinities; the state is set and the info is read."""
    layout = Layout.of({'a"weights":[': (2, 1), "∂": (0,), "s": ()})
    machine = "graft(adam, sgd, partition=block(1))"
    settings = dict.fromkeys(read_parameters(claim.program_of(notation.parse(machine), layout, "float32", {})), 0.5)
    program = claim.program_of(notation.parse(machine), layout, "float32", settings)
    state = Engine(program).initial_state()
    state |= {"magnitude.t": np.array([5.0, 6.0, 7.0]), "magnitude.v": np.array([1, math.inf, 0.25], np.float32)}
    weights = np.array([1, -0.0, 3], np.float32)
    gradients = [np.array([[1], [2]], np.float32), np.zeros(0, np.float32), None]
    want = Engine(program).step(weights, gradients, state, 2**24, settings)
    with ExecutableCandidate(ANSWERING + mode, machine) as candidate:
        candidate.start(layout, weights + 1, settings)
        candidate.write_state(weights, state, 2**24 - 1)
        assert candidate.step(gradients, settings).tobytes() == want.weights.tobytes()
        after = candidate.read_state({path: path for path in program.slots})
        info = candidate.info()
    assert {path: x.tobytes() for path, x in after.items()} == {path: x.tobytes() for path, x in want.state.items()}
    assert {path: x.tobytes() for path, x in info.items()} == {path: x.tobytes() for path, x in want.info.items()}


@pytest.mark.parametrize("mode", [[], ["stateless"]], ids=["restore", "stateless"])
def test_matrices_come_through(mode):
    """State of one matrix a tensor, and its blocks are no coordinates."""
    machine = "graft(sgd, shampoo)"
    with ExecutableCandidate(ANSWERING + mode, machine) as candidate:
        (found,) = judged(candidate, machine, [posing.of_stream("graft-sgd-shampoo", machine, "mixed")])
    assert found.verdict is Verdict.EXACT, found
    assert found.comparisons > 300


def test_groups_are_told(tmp_path):
    """Of every partition that norms or state use, for each coordinate; an empty tensor has a group."""
    log = tmp_path / "start"
    program = f"hear(); say(HELLO); open({str(log)!r}, 'w').write(json.dumps(hear())); say({{'message': 'ready'}})"
    layout = Layout.of({"w": (2, 3), "e": (0,), "s": ()})
    machine = "scaled(graft(adam, sgd, partition=block(4)), factor={'w': 0.5, 'e': 2, 's': 0.25})"
    with ExecutableCandidate(odd(program), machine) as candidate:
        candidate.start(layout, np.zeros(7), {"inner.magnitude.lr": 0.5})
    start = json.loads(log.read_text())
    assert start["shapes"] == [[2, 3], [0], []]
    assert start["machine"].startswith("scaled(graft(adam(eps_placement=corrected, missing=hold), sgd, partition=")
    assert start["hyperparameters"] == {"inner.magnitude.lr": "0x1p-1", "factor": ["0x1p-1", "0x1p+1", "0x1p-2"]}
    assert start["groups"] == {
        "block(4)": {"count": 3, "of": [0, 0, 0, 0, 1, 1, 2]},
        "tensor": {"count": 3, "of": [0, 0, 0, 0, 0, 0, 2]},
    }


def test_what_it_cannot_do_is_not_asked_of_it():
    program = "hear(); say(HELLO); hear(); say({'message': 'ready'}); print(hear(), file=sys.stderr); say('rubbish')"
    with ExecutableCandidate(odd(program), "sgd") as candidate:
        candidate.start(Layout.of({"w": (1,)}), np.zeros(1), {"lr": 0.5})
        with pytest.raises(CandidateError, match="missing gradients") as missing:
            candidate.step([None], {"lr": 0.5})
        with pytest.raises(CandidateError, match="state can be set") as setting:
            candidate.write_state(np.zeros(1), {}, 3)
        with pytest.raises(CandidateError, match="at most 1048576 bytes") as large:
            candidate.start(Layout.of({"w": (2**17,)}), np.zeros(2**17), {"lr": 0.5})
    assert {error.value.verdict for error in (missing, setting, large)} == {Verdict.NOT_SUPPORTED}


@pytest.mark.parametrize("ability", ["restore", "stateless"])
def test_steps_are_numbered_on_from_where_the_state_was_set(ability):
    program = f"""
hear(); say(HELLO | {{"abilities": [{ability!r}]}}); hear(); say({{"message": "ready"}})
for line in sys.stdin:
    heard = json.loads(line)
    if heard["message"] == "bye": break
    weights = [[float(heard["step"]).hex()]]
    say({{"message": "ready"}} if heard["message"] == "restore" else {{"message": "stepped", "weights": weights}})
"""
    with ExecutableCandidate(odd(program), "sgd") as candidate:
        candidate.start(Layout.of({"w": (1,)}), np.zeros(1), {})
        assert candidate.step(np.zeros(1), {}).tolist() == [1.0]
        candidate.write_state(np.zeros(1), {}, 2**24)
        assert [candidate.step(np.zeros(1), {})[0] for _ in range(2)] == [2**24 + 1, 2**24 + 2]


def test_state_of_its_own_is_carried_for_a_stateless_candidate():
    """It counts in a slot that the machine lacks, of a shape of its own; it gets back what it said."""
    program = """
hear(); say(HELLO | {"abilities": ["stateless"]}); start = hear()
state = {"n": ["0x0p+0"], "h": [["0X1.80P+1"], [], ["inf", "0x3p0"]]}
say({"message": "ready", "state": state})
for line in sys.stdin:
    request = json.loads(line)
    if request["message"] == "bye": break
    n = float.fromhex(request["state"]["n"][0])
    assert request["state"]["h"] == [["0x1.8p+1"], [], ["inf", "0x1.8p+1"]], request
    assert request["step"] == n + 1, request
    w, g = ([float.fromhex(x) for part in request[k] for x in part] for k in ("weights", "gradients"))
    w = [[(x - float.fromhex(request["hyperparameters"]["lr"]) * y).hex()] for x, y in zip(w, g)]
    state["n"] = [(n + 1).hex()]
    say({"message": "stepped", "weights": w, "state": state, "info": {"n_g": ["0x1p+0"], "d": [["0x1p-1"], ["inf"]]}})
"""
    with ExecutableCandidate(odd(program), "sgd") as candidate:
        candidate.start(Layout.of({"w": (1,), "b": ()}), np.array([1.0, 2.0]), {"lr": 0.5})
        for number in range(1, 4):
            moved = candidate.step(np.array([1.0, -1.0]), {"lr": 0.5})
            assert moved.tolist() == [1 - number / 2, 2 + number / 2]
        assert {path: x.tolist() for path, x in candidate.info().items()} == {"n_g": [1.0], "d": [0.5, math.inf]}
        assert candidate.read_state({"m": "m", "n": "n"})["n"].tolist() == [3.0]


def test_the_machine_is_told_in_one_form():
    told = claim.text(notation.parse("decay_decoupled(adam(lr=0.1, missing=advance)#sgd, weight_decay=0.5)"))
    assert told == ("decay_decoupled(graft(adam(eps_placement=corrected, missing=advance), sgd, partition=tensor))")
    assert claim.text(notation.parse(told)) == told


# -- programs that misbehave -------------------------------------------------------------------------------------------

PRELUDE = """
import json, math, os, signal, subprocess, sys, time
HELLO = {"message": "describe", "protocol": 1, "name": "odd", "dtypes": ["float64"], "abilities": []}
def hear():
    return json.loads(sys.stdin.readline())
def say(reply):
    print(reply if isinstance(reply, str) else json.dumps(reply), flush=True)
def to_the_step():
    hear(); say(HELLO); start = hear(); say({"message": "ready"}); hear()
    return {"message": "stepped", "weights": start["weights"]}
def keep_saying(reply):
    say(reply)
    for _ in sys.stdin: say(reply)
"""

HOSTILE = {
    # what it does: (program, verdict, what the reason says, what the detail says)
    "hangs at once": ("time.sleep(60)", "timed out", "no reply within", ""),
    "hangs in a step": ("to_the_step(); time.sleep(60)", "timed out", "no reply within", ""),
    "never reads": ("say(HELLO); time.sleep(60)", "timed out", "no reply within", ""),
    "ignores SIGTERM and leaves children": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); subprocess.Popen(['sleep', '60']); time.sleep(60)",
        "timed out",
        "no reply within",
        "",
    ),
    "raises": ("to_the_step(); raise RuntimeError('broken beyond repair')", "crashed", "exit code 1", "beyond repair"),
    "exits": ("to_the_step(); sys.exit(7)", "crashed", "its output ended; exit code 7", ""),
    "exits with 0": ("to_the_step()", "crashed", "its output ended; exit code 0", ""),
    "is killed": ("to_the_step(); os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "killed by SIGSEGV", ""),
    "closes its output": ("to_the_step(); os.close(1); time.sleep(60)", "crashed", "its output ended", ""),
    "closes its input": ("hear(); say(HELLO); os.close(0); time.sleep(60)", "timed out", "no reply within", ""),
    "stops in a line": (
        "to_the_step(); os.write(1, b'{\"message\":'); sys.exit(0)",
        "crashed",
        "its output ended in the middle of a line: '{\"message\":'; exit code 0",
        "",
    ),
    "prints rubbish": ("hear(); say('Hello, world')", "crashed", "must be a JSON object; received 'Hello, world'", ""),
    "prints a banner first": ("say('v1.0'); hear(); say(HELLO)", "crashed", "received 'v1.0'", ""),
    "prints bytes that are no text": (
        "hear(); os.write(1, b'\\xff\\xfe\\n'); time.sleep(9)",
        "crashed",
        r"received '\\xff\\xfe'",
        "",
    ),
    "prints an array": ("hear(); say([1, 2])", "crashed", "it is a list", ""),
    "prints a deep array": ("hear(); say('[' * 100000)", "crashed", "must be a JSON object", ""),
    "prints a number of 10^5 digits": (
        "hear(); say('{\"protocol\":' + '9' * 10**5 + '}')",
        "crashed",
        "JSON object",
        "",
    ),
    "has a key twice": ('hear(); say(\'{"message":1,"message":2}\')', "crashed", "a key stands there twice", ""),
    "prints a line without end": (
        "hear()\nwhile True: os.write(1, b'x' * 65536)",
        "crashed",
        "a reply must have at most 1048576 bytes",
        "",
    ),
    "writes to stderr without end": (
        "hear()\nwhile True: os.write(2, b'all work and no play ' * 999)",
        "timed out",
        "no reply within",
        "all work and no play",
    ),
    "speaks another protocol": ("hear(); say(HELLO | {'protocol': 2})", "crashed", "must have protocol 1", ""),
    "declares an unknown ability": (
        "hear(); say(HELLO | {'abilities': ['fly']})",
        "crashed",
        "abilities must be a list out of restore, missing, stateless",
        "",
    ),
    "answers another message": ("hear(); say({'message': 'ready'})", "crashed", "the reply must be 'describe'", ""),
    "says twice": (
        "hear(); os.write(1, 2 * (json.dumps(HELLO) + chr(10)).encode()); time.sleep(9)",
        "crashed",
        "it wrote what nobody asked for: '{",
        "",
    ),
    "lacks the weights": ("to_the_step(); say({'message': 'stepped'})", "crashed", "'weights' differs", ""),
    "misspells a key": ("say(to_the_step() | {'infos': {}})", "crashed", "'infos' differs", ""),
    "sends numbers": ("a = to_the_step(); a['weights'][1][0] = 1.5; say(a)", "crashed", "received 1.5", ""),
    "sends a NaN literal": (
        "a = to_the_step(); a['weights'][1][0] = float('nan'); say(a)",
        "crashed",
        "NaN is not",
        "",
    ),
    "sends decimal text": ("a = to_the_step(); a['weights'][1][0] = '0.5'; say(a)", "crashed", "received '0.5'", ""),
    "sends NaN": ("a = to_the_step(); a['weights'][1][0] = '-nan'; keep_saying(a)", "different", "", ""),
    "sends one value less": (
        "a = to_the_step(); a['weights'][1].pop(); say(a)",
        "different",
        "weights, tensor 'b', must have 5 values; received 4",
        "",
    ),
    "sends one tensor less": (
        "a = to_the_step(); a['weights'].pop(); say(a)",
        "different",
        "weights must have 3 tensors; received 2",
        "",
    ),
    "sends more digits than a float64 has": (
        "a = to_the_step(); a['weights'][0][0] = '0x1.00000000000001p+0'; say(a)",
        "different",
        "is not a value of float64",
        "",
    ),
    "does not move": ("keep_saying(to_the_step())", "different", "", ""),
    "reports an error": (
        "to_the_step(); say({'message': 'error', 'reason': 'no such file'})",
        "crashed",
        "it reports an error: no such file",
        "",
    ),
    "does not support it": (
        "to_the_step(); say({'message': 'unsupported', 'reason': 'not on Sundays'})",
        "not supported",
        "not on Sundays",
        "",
    ),
}


def odd(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", PRELUDE + program]


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_program_does_is_a_verdict(name):
    program, verdict, reason, detail = HOSTILE[name]
    case = golden.stored("sgd.mixed")
    patience = 30.0 if verdict != "timed out" else 3.0 if detail else 0.5
    limits = Limits(reply_seconds=patience, end_seconds=0.5 if name == "closes its output" else 10.0)
    began = time.monotonic()
    with ExecutableCandidate(odd(program), "sgd", limits) as candidate:
        (found,) = judged(candidate, "sgd", [case])
    assert str(found.verdict) == verdict, found
    assert reason in found.reason
    assert detail in found.detail
    assert len(found.detail) <= limits.stderr_bytes
    assert time.monotonic() - began < 45  # each that hangs would hang for 60


def test_a_suite_goes_on_with_a_new_process_after_each_failure(tmp_path):
    """It crashes in its second run; the third meets a new process, whose first run it is."""
    log = tmp_path / "starts"
    program = (
        f"open({str(log)!r}, 'a').write('x')\n"
        + """
hear(); say(HELLO); runs = 0
for line in sys.stdin:
    request = json.loads(line)
    if request["message"] == "bye": break
    if request["message"] == "start":
        runs += 1
        if runs == 2: sys.exit(3)
        say({"message": "ready"})
    else:
        say({"message": "unsupported", "reason": f"run {runs}"})
"""
    )
    case = golden.stored("sgd.mixed")
    with ExecutableCandidate(odd(program), "sgd", FAST) as candidate:
        found = judged(candidate, "sgd", [case] * 4)
    assert [str(one.verdict) for one in found] == ["not supported", "crashed", "not supported", "crashed"]
    assert log.read_text() == "xx"


def test_an_interrupted_conversation_is_not_gone_on_with(tmp_path):
    """An alarm, or the user's interrupt, in the middle of a reply ends the process; the next run meets a new one."""
    layout = Layout.of({"w": (1,)})
    log = tmp_path / "starts"
    program = f"open({str(log)!r}, 'a').write('x'); to_the_step(); time.sleep(60)"
    with ExecutableCandidate(odd(program), "sgd") as candidate:
        for _ in range(2):
            with pytest.raises(CandidateError, match=r"it took more than 1\.5 s") as error:
                guarded(lambda: (candidate.start(layout, np.zeros(1), {}), candidate.step(np.zeros(1), {})), 1.5)
            assert error.value.verdict is Verdict.TIMED_OUT
    assert log.read_text() == "xx"


def test_all_replies_together_have_a_limit():
    program = "to_the_step()\nwhile True: time.sleep(0.6); say({'message': 'unsupported', 'reason': 'slow'}); hear()"
    case = golden.stored("sgd.mixed")
    limits = Limits(reply_seconds=20.0, total_seconds=3.0)
    with ExecutableCandidate(odd(program), "sgd", limits) as candidate:
        verdicts = [str(one.verdict) for one in judged(candidate, "sgd", [case] * 8)]
    assert verdicts[0] == "not supported"
    assert verdicts[-1] == "timed out"


def test_what_is_left_of_a_program_is_killed(tmp_path):
    """The process group goes with it: a child of the candidate that would write a file later never does."""
    late = tmp_path / "late"
    program = f"subprocess.Popen(['sh', '-c', 'sleep 0.7; echo > {late}']); time.sleep(60)"
    with ExecutableCandidate(odd(program), "sgd", Limits(reply_seconds=0.2)) as candidate:
        (found,) = judged(candidate, "sgd", [golden.stored("sgd.mixed")])
    assert found.verdict is Verdict.TIMED_OUT
    time.sleep(1.0)
    assert not late.exists()


def test_no_shell_reads_the_command(tmp_path):
    mark = tmp_path / "mark"
    with ExecutableCandidate([f"true; touch {mark}"], "sgd", FAST) as candidate:
        (found,) = judged(candidate, "sgd", [golden.stored("sgd.mixed")])
    assert found.verdict is Verdict.CRASHED
    assert found.reason.startswith("cannot start true; touch")
    assert not mark.exists()


def test_expected_values_and_case_names_are_never_sent(tmp_path):
    """All that the program hears, of a case whose name and answer are known."""
    log = tmp_path / "heard"
    program = f"""
log = open({str(log)!r}, "w")
for line in sys.stdin:
    log.write(line); log.flush()
    message = json.loads(line)["message"]
    if message == "bye": break
    say(HELLO if message == "hello" else {{"message": "ready"}} if message == "start" else
        {{"message": "stepped", "weights": [["0x0p+0"] * 12, ["0x0p+0"] * 5, ["0x0p+0"]]}})
"""
    case = golden.stored("adam-corrected.mixed")
    with ExecutableCandidate(odd(program), ADAM) as candidate:
        (found,) = judged(candidate, ADAM, [case])
    assert found.verdict is Verdict.DIFFERENT
    heard = log.read_text()
    steps = len(case.gradients)
    assert heard.isascii()
    assert [json.loads(line)["message"] for line in heard.splitlines()] == ["hello", "start", *["step"] * steps, "bye"]
    assert case.name not in heard
    assert "mixed" not in heard
    given = {to_hex(x) for x in [*case.weights, *np.concatenate(case.gradients)]}
    answers = {to_hex(x) for after in case.after for x in [*after.weights, *after.state["m"], *after.state["v"]]}
    answers -= given | {to_hex(0.0)}
    assert len(answers) > 200
    assert not any(f'"{text}"' in heard for text in answers)


def test_the_page_shows_what_is_said(tmp_path):
    """The conversation in spec/protocol.md, with the reference in the candidate's place."""
    page = (ROOT / "spec" / "protocol.md").read_text()
    shown = re.search(r"```text\n(.*?)```", page, re.DOTALL)[1].replace("\n   ", "").splitlines()
    requests, replies = ([line[2:] for line in shown if line[0] == mark] for mark in "><")
    log = tmp_path / "heard"
    program = f"""
replies, log = {replies!r}, open({str(log)!r}, "w")
for line in sys.stdin:
    log.write(line); log.flush()
    if replies: say(replies.pop(0))
"""
    layout = Layout.of({"w": (2,), "b": ()})
    with ExecutableCandidate(odd(program), "sgd") as candidate:
        candidate.start(layout, np.array([1.0, 2.0, 0.0]), {"lr": 0.5})
        moved = candidate.step(np.array([1.0, -1.0, 4.0]), {"lr": 0.5})
        assert moved.tolist() == [0.5, 2.5, -2.0]
        assert candidate.name == "mine"
    assert log.read_text().splitlines() == requests


# -- numbers -----------------------------------------------------------------------------------------------------------


@given(st.floats(allow_nan=False), st.sampled_from(DTYPES))
def test_every_way_to_write_a_float_is_read(value, dtype):
    with np.errstate(over="ignore"):
        value = float(np.dtype(dtype).type(value))
    texts = [value.hex(), to_hex(value), value.hex().upper()]
    if math.isfinite(value) and value:  # as some C libraries print: another first digit, zeros at the end
        digits, exponent = math.frexp(abs(value))
        texts.append(f"{'-' if value < 0 else '+'}0x{int(digits * 2**53):x}.00p{exponent - 53:d}")
    for text in texts:
        found = wire.read_number(text, dtype, "here")
        assert (found, math.copysign(1, found)) == (value, math.copysign(1, value))


@given(st.integers(1, 2**60), st.integers(-1200, 1100), st.sampled_from(DTYPES))
def test_what_is_no_value_of_the_dtype_is_refused(digits, exponent, dtype):
    """The exact rational number decides."""
    text, meant = f"0x{digits:x}p{exponent}", Fraction(digits) * Fraction(2) ** exponent
    try:
        with np.errstate(over="ignore"):
            near = float(np.dtype(dtype).type(float(meant)))
    except OverflowError:
        near = math.inf
    if math.isfinite(near) and Fraction(near) == meant:
        assert wire.read_number(text, dtype, "here") == near
    else:
        with pytest.raises(CandidateError, match="is not a value of"):
            wire.read_number(text, dtype, "here")


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("0x20000000000001p0", "float64"),  # 54 bits
        ("0x1p-1075", "float64"),
        ("0x3p-1075", "float64"),
        ("0x1p1024", "float64"),
        ("0x1.fffffffffffff8p1023", "float64"),
        ("0x1000001p0", "float32"),  # 25 bits
        ("0x1p-150", "float32"),
        ("0x1p128", "float32"),
        ("0x1.ffffffp127", "float32"),
    ],
)
def test_the_borders_of_the_dtypes(text, dtype):
    with pytest.raises(CandidateError, match="is not a value of"):
        wire.read_number(text, dtype, "here")
    for inside in (np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).eps + 1):
        assert wire.read_number(float(inside).hex(), dtype, "here") == float(inside)


def test_no_process_is_left_open(adam):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        with ExecutableCandidate(adam, ADAM) as candidate:
            assert candidate.name == "adam in C"
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before


def test_the_guide_runs_as_it_stands(adam, capsys, monkeypatch):
    """The command of docs/candidates.md is that of the example, and its Python block passes on what it makes."""
    page = (ROOT / "docs" / "candidates.md").read_text()
    assert re.search(r"^\$ (cc .*)$", page, re.MULTILINE)[1] == re.search(r"^ +(cc .*)$", SOURCE, re.MULTILINE)[1]
    monkeypatch.chdir(Path(adam[0]).parent)
    exec(re.search(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[1], {})
    assert capsys.readouterr().out.count(" e") > 100
