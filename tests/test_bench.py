"""The benchmark measures what it says: every kind of case at tiny sizes. No time is ever compared with another here."""

import json
from pathlib import Path

import numpy as np
import pytest

from graftsim.bench import cases, field, machine, report, runs, suite, timing, workload
from graftsim.bench.cases import Case, Goal, Group
from graftsim.bench.timing import Contestant, Times
from graftsim.bench.workload import Equations, Rates
from graftsim.cli import benching
from graftsim.engine import Engine
from graftsim.errors import GraftsimError

RATES = {"adam_lr": 1e-3, "momentum_lr": 1e-2}
TINY = {
    "step": {"size": 600, "tensors": 7, "dtype": "float32", **RATES},
    "step in float64": {"size": 600, "tensors": 7, "dtype": "float64", **RATES},
    "run": {"dimension": 10, "steps": 70, "eager_steps": 60, **RATES},
    "ensemble": {"dimension": 10, "members": 3, "steps": 60, **RATES},
    "norm": {"size": 3000, "dtype": "float32"},
    "scaling": {"sizes": [300, 600], "tensors": [1, 400], "dtype": "float32", **RATES},
    "torch": {"size": 600, "tensors": 7, "momentum": 0.9, **RATES},
    "torch without momentum": {"size": 600, "tensors": 7, "momentum": 0, **RATES},
    "jax": {"size": 600, "tensors": 7, "adam_lr": 1e-3},
}
CONTESTANTS = {
    "step": 8,  # ours, two limits, three pairs of torch, two grafts of torch
    "step in float64": 8,
    "run": 5,
    "ensemble": 2,
    "norm": 4,
    "scaling": 4,
    "torch": 8,  # a copy, two grafts of ours, three pairs of torch, two other grafts
    "torch without momentum": 8,
    "jax": 4,  # a copy, our graft, both of its children, Adam alone
}


def measured(kind: str, goals=(), threads=2):
    case = Case(kind.split()[0], TINY[kind])
    return suite.one(Group("tiny", "", (case,), tuple(goals), ("a case",)), case, 0.0, threads)


@pytest.mark.parametrize("kind", TINY)
def test_every_kind_of_case(kind: str) -> None:
    """Contestants agree with the equations (else this raises), each has its row, and the document is JSON."""
    found = measured(kind)
    assert len(found["rows"]) == CONTESTANTS[kind]
    assert not found["absent"]
    assert found["rounds"] >= timing.ROUNDS
    for row in found["rows"]:
        assert 0 < row["least"] <= row["median"]
    ours = [row for row in found["rows"] if row["name"].startswith("graftsim") and "unrecorded" not in row["name"]]
    assert all(row["difference"] is not None for row in ours)
    assert found["remarks"][-1] == "left out: a case"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_kinds_of_the_packaged_cases_are_the_ones_tested() -> None:
    groups = cases.load()
    kinds = {case.kind for group in groups for case in group.cases}
    assert kinds == set(suite.KINDS) == {kind.split()[0] for kind in TINY}


def test_goals_name_contestants_that_there_are() -> None:
    """A goal whose contestant was renamed would silently vanish from the table."""
    for group in cases.load():
        kinds = {case.kind for case in group.cases}
        names = {c.name for kind in kinds for c in suite.KINDS[kind](Case(kind, TINY[kind]), 1).contestants}
        for goal in group.goals:
            assert {goal.of, goal.to} <= names, goal
            assert any(goal.concerns(case) for case in group.cases), goal


def test_the_equations_of_the_check_are_the_machine() -> None:
    """The plain float64 equations agree with the reference engine, so that neither can be wrong alone."""
    from graftsim import build

    rates = Rates(0.1, 0.2)
    program = build(rates.machine, workload.shapes(5, 1), "float64")
    engine, equations = Engine(program), Equations(rates, np.zeros(5))
    weights, state = np.zeros(5), engine.initial_state()
    for number, factor in enumerate(workload.FACTORS, 1):
        g = factor * np.arange(1.0, 6.0)
        step = engine.step(weights, g, state, number)
        weights, state = step.weights, step.state
        equations.graft(g)
        assert equations.record[-1] == pytest.approx([step.info[name][0] for name in ("n_m", "n_d", "ratio")], 1e-14)
    assert equations.weights == pytest.approx(weights, rel=1e-14)  # some 50 roundings


def test_a_wrong_contestant_is_refused() -> None:
    want = np.array([1.0, -2.0])
    assert field.difference("right", np.array([1.0, -2.0 + 2e-6]), want, 1e-5) == pytest.approx(1e-6)
    for wrong in ([1.0, -2.1], [np.nan, -2.0], [1.0, -2.0, 0.0]):
        with pytest.raises(GraftsimError, match="'wrong' must"):
            field.difference("wrong", np.array(wrong), want, 1e-5)


def test_a_check_sees_a_wrong_beta(monkeypatch) -> None:
    case = Case("step", TINY["step"])
    suite.KINDS["step"](case, 1).check()
    monkeypatch.setattr(workload, "BETA2", 0.99)
    with pytest.raises(GraftsimError, match="must agree with the equations"):
        suite.KINDS["step"](case, 1).check()


def test_runs_that_come_near_subnormal_numbers_are_refused() -> None:
    """A high learning rate converges within the run: its last steps would be measured on subnormal numbers."""
    values = {"dimension": 2, "steps": 9000, "eager_steps": 1, "adam_lr": 1e-2, "momentum_lr": 1e-2}
    ours = runs.Simulation(Rates.of(values), runs._quadratic(2), 9000, 1)
    with pytest.raises(GraftsimError, match="must stay above 1e-100"):
        runs._far_from_subnormal([ours.run("compiled")])


def test_what_is_missing_is_named(monkeypatch) -> None:
    monkeypatch.setattr(machine, "has", lambda library: False)
    kinds = {"step": "[torch]", "torch": "[torch]", "jax": "[jax]", "run": "[jax]", "ensemble": "[jax]"}
    for kind, hint in kinds.items():
        absent = measured(kind)["absent"]
        assert absent
        assert any(row["why"].endswith(f"pip install graftsim{hint}") for row in absent)
    assert "threadpoolctl is not installed" in measured("norm")["remarks"][0]


# ---- timing ---------------------------------------------------------------------------------------------------------


def test_contestants_take_turns(monkeypatch) -> None:
    """Interleaved, not one after the other: a noisy minute must fall on all of them."""
    monkeypatch.setattr(timing, "BATCH", 0.0)
    order = []
    both = [Contestant(name, lambda name=name: order.append(name), 1) for name in "ab"]
    times = timing.play(both, 0.0)
    assert "".join(order) == "ab" + "ab" + "aabb" * timing.ROUNDS  # first calls, calls that set the batch, turns
    assert [len(each.rounds) for each in times] == [timing.ROUNDS] * 2


def test_time_is_for_one_unit(monkeypatch) -> None:
    clock = iter(np.arange(0, 1000, 2.0).tolist())
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    steps = Contestant("ten steps", lambda: None, 10, scale=3.0)
    assert timing.play([steps], 0.0)[0].rounds[0] == pytest.approx(2.0 / 10 * 3)


def test_ratios() -> None:
    """The least against the least, and the median of what stood side by side."""
    slow, fast = Times((4.0, 30.0, 9.0)), Times((2.0, 10.0, 9.0))
    assert timing.ratio(slow, fast) == (2.0, 2.0)
    assert timing.ratio(Times((4.0, 40.0, 9.0)), Times((2.0, 10.0, 1.0))) == (4.0, 4.0)
    assert (slow.least, slow.median) == (4.0, 9.0)


GOALS = [(1.25, None, 1.25, True), (1.25, None, 1.26, False), (None, 3, 3, True), (None, 3, 2.9, False)]


@pytest.mark.parametrize(("at_most", "at_least", "ratio", "met"), [*GOALS, (None, None, 1, None)])
def test_goals(at_most, at_least, ratio, met) -> None:
    assert Goal("a", "b", at_most, at_least, {}).met(ratio) is met


def test_a_goal_for_large_cases_leaves_small_ones_alone() -> None:
    goal = Goal("a", "b", 1.25, None, {}, 1000)
    assert goal.within(Case("step", {"size": 1000})).met(2.0) is False
    assert goal.within(Case("step", {"size": 999})).met(2.0) is None
    assert goal.within(Case("run", {"dimension": 10})).met(2.0) is False


# ---- cases as data --------------------------------------------------------------------------------------------------


def test_size_takes_the_place_of_every_size() -> None:
    groups = cases.choose(cases.load(), [], 100)
    for case in (case for group in groups for case in group.cases):
        assert case.values.get("size", 100) == 100
        assert case.values.get("sizes", [100]) == [100]
        assert np.max(case.values.get("tensors", 1)) <= 100
        assert case.values.get("dimension") != 100 or case.kind in ("run", "ensemble")
    step = next(group for group in groups if group.name == "step")
    assert len(step.cases) == 2  # 1e6 and 1e7 have become one; Adam, and LAMB


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(GraftsimError, match="unknown benchmark 'stepp'; did you mean 'step'"):
        cases.choose(cases.load(), ["stepp"], None)
    wrong = tmp_path / "cases.yaml"
    wrong.write_text("title: x\ngroups: [{name: a, about: b, cases: [{kind: step, size: 0.5}]}]\n")
    with pytest.raises(GraftsimError, match=r"cases\.yaml"):
        cases.load(wrong)
    for bad in ({"size": 0.0}, {"size": 1e10}, {"seconds": -1.0}, {"seconds": float("nan")}, {"threads": 0}):
        asked = {"size": None, "seconds": 1.0, "threads": 1, **bad}
        with pytest.raises(GraftsimError, match=f"--{next(iter(bad))} must be"):
            benching.bench(["norm"], json=None, cases=None, **asked)


def test_command_prints_tables_and_writes_json(tmp_path: Path, capsys) -> None:
    file = tmp_path / "out" / "results.json"
    benching.bench(["norm"], 500, 0.0, 1, file, None)
    printed = capsys.readouterr().out
    results = json.loads(file.read_text())
    assert results["format"] == suite.FORMAT
    assert results["machine"]["versions"]["numpy"] == np.__version__
    assert {case["case"]["dtype"] for case in results["cases"]} == {"float32", "float64"}
    assert "graftsim norm, 1 thread / np.dot(x, x)" in printed
    assert "at most" not in printed  # its goals are for 1e7 elements


def test_durations() -> None:
    assert [report.duration(t) for t in (2.0, 1.5e-3, 2e-6, 3.25e-10)] == ["2 s", "1.5 ms", "2 us", "0.325 ns"]
