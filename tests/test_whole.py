"""Whole compiled runs and ensembles have the bits of the reference, step by step and member by member."""

import pytest

from graftsim.engine import Engine
from graftsim.ensemble import ensemble
from graftsim.errors import GraftsimError
from graftsim.simulate import resume, simulate
from graftsim.trajectory import Trajectory, load

PROBLEMS = ["quadratic(dimension=7)", "quadratic(eigenvalues=[0, 3.5, 1e-3])", "not_descent()", "divergent()"]
MACHINES = [
    "adam(lr=0.1)#momentum(lr=0.1/sqrt(step))",
    "graft(rmsprop, adagrad(eps=0, lr_decay=0.1), partition=global, eps=0.01, scale=1/step)",
    "(adam#sgd)#momentum(nesterov=on)",
    "momentum_after(sgd(lr=0.01)#second_moment, nesterov=on)",
    "decay_outside(decay_decoupled(adam)#in_place(sgd), rate=0.1)",
    "adagrad(lr=0.5)",
    "graft(adam, sgd, partition=block(2))",
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("machine", MACHINES)
def test_a_compiled_run_is_the_reference_s(machine: str, dtype: str) -> None:
    for problem in PROBLEMS:
        for every in (1, 4, 100):
            slow = simulate(problem, machine, 25, dtype=dtype, record_every=every)
            fast = simulate(problem, machine, 25, dtype=dtype, record_every=every, engine="compiled")
            assert slow.digest == fast.digest, (problem, every)


def test_blocks_of_steps_are_invisible(monkeypatch) -> None:
    from graftsim.compiled import whole

    expected = simulate(PROBLEMS[0], MACHINES[0], 40, record_every=3)
    for steps in (1, 2, 7, 40):
        monkeypatch.setattr(whole, "STEPS", steps)
        assert simulate(PROBLEMS[0], MACHINES[0], 40, record_every=3, engine="compiled").digest == expected.digest


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_weights_and_state_may_be_kept_more_seldom(engine: str) -> None:
    every = simulate(PROBLEMS[0], MACHINES[0], 25, record_every=2)
    seldom = simulate(PROBLEMS[0], MACHINES[0], 25, record_every=2, keep_every=6, engine=engine)
    assert seldom.steps.tolist() == every.steps.tolist()
    assert seldom.kept.tolist() == [0, 6, 12, 18, 24, 25]
    assert seldom.loss.tobytes() == every.loss.tobytes()
    assert all(seldom.info[path].tobytes() == values.tobytes() for path, values in every.info.items())
    rows = [every.kept_row(step) for step in seldom.kept.tolist()]
    assert seldom.weights.tobytes() == every.weights[rows].tobytes()
    assert all(seldom.state[path].tobytes() == values[rows].tobytes() for path, values in every.state.items())
    for at in (6, 18, 25):
        half = resume(seldom, PROBLEMS[0], 40, at=at, engine=engine)
        assert half.digest == simulate(PROBLEMS[0], MACHINES[0], 40, record_every=2, keep_every=6).digest
    with pytest.raises(GraftsimError, match="step 8 must be one that was kept: every 6 from 0 to 25"):
        resume(seldom, PROBLEMS[0], 40, at=8)
    with pytest.raises(GraftsimError, match="keep_every must be a multiple of record_every, 2; received 3"):
        simulate(PROBLEMS[0], MACHINES[0], 5, record_every=2, keep_every=3)


def test_a_kept_trajectory_is_saved_and_read(tmp_path) -> None:
    seldom = simulate(PROBLEMS[0], MACHINES[0], 25, record_every=5, keep_every=10)
    seldom.save(tmp_path / "run.npz")
    assert load(tmp_path / "run.npz").digest == seldom.digest
    found = ensemble(PROBLEMS[0], [MACHINES[0]], 25, record_every=5, keep_every=10)
    assert digests(found) == [seldom.digest]


def test_a_run_goes_on_from_one_engine_to_the_other() -> None:
    expected = simulate(PROBLEMS[0], MACHINES[0], 30)
    for first, second in (("numpy", "compiled"), ("compiled", "numpy"), ("compiled", "compiled")):
        half = simulate(PROBLEMS[0], MACHINES[0], 13, engine=first)
        assert resume(half, PROBLEMS[0], 30, engine=second).digest == expected.digest
        assert resume(half, PROBLEMS[0], 30, at=5, engine=second).digest == expected.digest


@pytest.mark.parametrize(
    ("problem", "machine"),
    [
        ("rare(coordinates=8)", "sgd"),
        ("quadratic(dimension=3, rotation=1)", "sgd"),
        ("quadratic(dimension=3)", "graft(adam, sgd, partition=coordinate)"),
    ],
)
def test_what_cannot_be_one_loop_is_compiled_step_by_step(problem: str, machine: str, monkeypatch) -> None:
    """There is no compiled gradient, or groups do not lie in long runs."""
    monkeypatch.setattr(Engine, "step", lambda *a, **more: pytest.fail("the reference was used"))
    fast = simulate(problem, machine, 5, engine="compiled")
    monkeypatch.undo()
    assert fast.digest == simulate(problem, machine, 5).digest


def test_a_schedule_that_leaves_its_domain_says_when() -> None:
    with pytest.raises(GraftsimError, match="lr must lie in >= 0; at step 7 it is -1"):
        simulate(PROBLEMS[0], "sgd(lr=6-step)", 20, engine="compiled")


def digests(trajectories: list[Trajectory]) -> list[str]:
    return [trajectory.digest for trajectory in trajectories]


@pytest.mark.parametrize("threads", [1, 3])
def test_members_have_the_bits_that_they_have_alone(threads: int) -> None:
    machines = [f"adam(lr={lr}, beta2={b})#momentum(lr={lr})" for lr in (0.1, 0.01, 0.5) for b in (0.9, 0.999)]
    machines += ["adagrad(lr=0.1, initial_accumulator=0.5)", "adagrad(lr=0.2)", "adagrad(eps_placement=inside)"]
    found = ensemble(PROBLEMS[0], machines, 20, dtype="float32", threads=threads)
    assert digests(found) == digests([simulate(PROBLEMS[0], machine, 20, dtype="float32") for machine in machines])


def test_members_of_a_problem_that_cannot_be_compiled() -> None:
    found = ensemble("rare(coordinates=8)", ["sgd(lr=1)", "sgd(lr=0.5)", "adagrad"], 6, seeds=[1, 2, 3], threads=2)
    alone = [
        simulate("rare(coordinates=8)", m, 6, s) for m, s in (("sgd(lr=1)", 1), ("sgd(lr=0.5)", 2), ("adagrad", 3))
    ]
    assert digests(found) == digests(alone)


def test_seeds_and_members_must_fit() -> None:
    with pytest.raises(GraftsimError, match="one seed for each of 2 members; received 1"):
        ensemble(PROBLEMS[0], ["sgd", "adam"], 1, seeds=[1])
