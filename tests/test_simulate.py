"""Runs and their record: resumed and interrupted runs lose no bit, files come back whole or not at all."""

import dataclasses
import json
import zipfile

import numpy as np
import pytest

from graftsim import GraftsimError, archives, build, notation, problems, trajectory
from graftsim.simulate import resume, simulate

MACHINES = [
    "adam(lr=0.1/sqrt(step))",
    "graft(momentum, adagrad(eps=0), partition=row)",
    "graft(adam#sgd, rmsprop, partition=coordinate, scale=1/step)",
    "momentum_after(adagrad#sgd(lr=0.3))",
]
PROBLEMS = [
    "wilson(positives=4, negatives=3, batch=3)",
    "rare(coordinates=12, share=0.5, replacement=True)",
    "least_squares(samples=10, dimension=4, batch=4)",
    "quadratic(dimension=4, rotation=1)",
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_resume_from_any_step_gives_the_same_bits(problem, machine, dtype):
    """State left out, a schedule or batch counted from the resumed step, a weight kept in another dtype: all show."""
    whole = simulate(problem, machine, 9, seed=3, dtype=dtype)
    assert len(np.unique(whole.weights, axis=0)) > 4  # it moves
    for at in range(10):
        again = resume(whole, problem, 9, at=at)
        assert again.digest == whole.digest
        assert (again.weights == whole.weights).all()


@pytest.mark.parametrize("at", [0, 3, 6, 8])
def test_resume_with_sparse_rows_drops_the_early_end(at):
    """A run to 8 has rows 0, 3, 6, 8; row 8 is none of the longer run's, but may be gone on from."""
    problem, machine = problems.parse(PROBLEMS[0]), MACHINES[1]
    whole, part = (simulate(problem, machine, steps, record_every=3) for steps in (13, 8))
    assert part.steps.tolist() == [0, 3, 6, 8]
    assert resume(part, problem, 13, at=at).digest == whole.digest
    assert resume(part, problem, 13, at=at).steps.tolist() == [0, 3, 6, 9, 12, 13]


def test_resume_goes_on_from_a_file(tmp_path):
    part = simulate(PROBLEMS[0], MACHINES[2], 5, seed=2**64 - 1)
    part.save(tmp_path / "part.npz")
    whole = simulate(PROBLEMS[0], MACHINES[2], 9, seed=2**64 - 1)
    assert resume(trajectory.load(tmp_path / "part.npz"), PROBLEMS[0], 9).digest == whole.digest


def test_resume_refuses_another_run():
    done = simulate(PROBLEMS[0], "sgd", 4, record_every=2)
    with pytest.raises(GraftsimError, match="the problem must be the one that was run"):
        resume(done, "wilson(positives=3, negatives=4, batch=3)", 9)
    with pytest.raises(GraftsimError, match="the machine must be the one that was run"):
        resume(done, PROBLEMS[0], 9, machine=notation.parse("sgd(lr=0.1)"))
    with pytest.raises(GraftsimError, match="step 3 must be one that was kept: every 2 from 0 to 4"):
        resume(done, PROBLEMS[0], 9, at=3)
    with pytest.raises(GraftsimError, match="steps: must be an integer from 4"):
        resume(done, PROBLEMS[0], 3)


@pytest.mark.parametrize("every", [1, 4])
def test_an_interrupted_run_loses_nothing(every):
    def stop(step):
        if step == 6:
            raise KeyboardInterrupt

    found = simulate(PROBLEMS[0], MACHINES[1], 11, record_every=every, progress=stop)
    whole = simulate(PROBLEMS[0], MACHINES[1], 11, record_every=every)
    assert not found.meta.complete
    assert whole.meta.complete
    assert found.steps[-1] == 6
    assert found.digest != whole.digest
    assert resume(found, PROBLEMS[0], 11).digest == whole.digest


def test_a_record_holds_what_the_engine_gave():
    run = simulate("wilson(positives=3, negatives=2)", "graft(sgd, adam)#momentum", 5, record_every=2)
    assert run.steps.tolist() == [0, 2, 4, 5]
    assert run.weights.shape == (4, 28)
    assert run.loss.shape == (4,)
    assert run.state["magnitude.direction.m"].shape == (4, 28)
    assert run.state["magnitude.direction.t"][:, 0].tolist() == [0, 2, 4, 5]
    assert set(run.info) == {f"{path}{name}" for path in ("", "magnitude.") for name in ("n_m", "n_d", "ratio")}
    assert all(values.shape == (3, 2) for values in run.info.values())
    assert run.meta.groups["magnitude.ratio"] == ("shared", "own")
    assert (run.info["n_m"] / run.info["n_d"] == run.info["ratio"]).all()
    assert run.loss[-1] == problems.parse(run.meta.problem).loss(run.last)


def test_a_machine_may_be_text_instance_or_program():
    problem = problems.parse(PROBLEMS[3])
    program = build(MACHINES[0], problem.layout)
    runs = [simulate(problem, machine, 3) for machine in (MACHINES[0], notation.parse(MACHINES[0]), program)]
    assert len({run.digest for run in runs}) == 1
    with pytest.raises(GraftsimError, match="the program must be built for the problem's layout"):
        simulate(problem, program, 3, dtype="float32")


def test_a_start_of_ones_own():
    start = np.array([3.0, 4.0, 5.0])
    run = simulate("quadratic(eigenvalues=[1, 1, 1])", "sgd(lr=0.5)", 2, start=start)
    assert run.weights.tolist() == [[3, 4, 5], [1.5, 2, 2.5], [0.75, 1, 1.25]]
    assert start.tolist() == [3, 4, 5]
    with pytest.raises(GraftsimError, match=r"the start must have shape \(3,\) and dtype float32"):
        simulate("quadratic(eigenvalues=[1, 1, 1])", "sgd", 1, dtype="float32", start=start)


def test_no_steps_is_a_run():
    run = simulate(PROBLEMS[0], MACHINES[1], 0)
    assert run.steps.tolist() == [0]
    assert run.meta.complete
    assert run.info["ratio"].shape == (0, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "steps: must be an integer from 0"),
        ({"steps": 2.5}, "steps: must be an integer from 0"),
        ({"seed": -1}, "seed: must be an integer from 0"),
        ({"record_every": 0}, "record_every: must be an integer from 1"),
        ({"dtype": "float16"}, "dtype must be float32 or float64"),
        ({"steps": 10**9}, "record at most every"),
        ({"problem": "wilsn"}, "unknown problem"),
        ({"machine": "adamm"}, "unknown machine"),
    ],
)
def test_bad_arguments_get_one_line(change, message):
    with pytest.raises(GraftsimError, match=message) as caught:
        simulate(**{"problem": PROBLEMS[3], "machine": "sgd", "steps": 3, **change})
    assert "\n" not in str(caught.value)


def test_the_advice_for_a_long_run_is_enough():
    """What the error tells to do must work: the record then fits."""
    with pytest.raises(GraftsimError) as caught:
        simulate("rare(coordinates=1000000)", "adam", 10_000)
    every = int(str(caught.value).split("at most every ")[1].split()[0])
    found = simulate("rare(coordinates=1000000)", "sgd", 2, record_every=every)
    assert found.steps.tolist() == [0, 2]


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    run = simulate(PROBLEMS[0], MACHINES[1], 4)
    run.save(tmp_path / "run.npz")
    return run, tmp_path / "run.npz"


def test_a_saved_run_comes_back(saved):
    run, path = saved
    back = trajectory.load(path)
    assert back.meta == run.meta
    assert back.digest == run.digest
    assert back.weights.tobytes() == run.weights.tobytes()
    assert back.state.keys() == run.state.keys()
    assert back.info.keys() == run.info.keys()
    first = path.read_bytes()
    back.save(path)
    assert path.read_bytes() == first
    with np.load(path) as archive:
        assert (archive["weights"] == run.weights).all()


def test_the_digest_sees_signs_of_zero_and_one_nan(saved):
    run, _ = saved

    def with_loss(value):
        return dataclasses.replace(run, loss=np.full(5, value)).digest

    payload = np.array([0x7FF8000000000001], np.uint64).view(np.float64)[0]
    assert with_loss(0.0) != with_loss(-0.0)
    assert with_loss(np.nan) == with_loss(-np.nan) == with_loss(payload)
    assert with_loss(np.nan) != with_loss(np.inf)
    assert dataclasses.replace(run, meta=dataclasses.replace(run.meta, seed=1)).digest != run.digest
    assert dataclasses.replace(run, meta=dataclasses.replace(run.meta, versions={})).digest == run.digest


def altered(path, **changes):
    arrays = archives.read(path)
    for name, change in changes.items():
        arrays[name] = change(arrays[name])
    archives.write(path, {name: array for name, array in arrays.items() if array is not None})


def described(change):
    def to(array):
        values = json.loads(array.tobytes())
        values.update(change)
        return np.frombuffer(json.dumps(values).encode(), np.uint8)

    return to


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": lambda w: np.where(w == w[-1, 0], np.nextafter(w, 1), w)}, "its digest differs"),
        ({"loss": lambda x: x[:-1]}, "its digest differs"),
        ({"meta": described({"seed": 1})}, "its digest differs"),
        ({"meta": described({"format": 2})}, "must have format 1"),
        ({"meta": described({"extra": 2})}, "must be a trajectory that graftsim saved"),
        ({"meta": described({"layout": 3})}, "must be a trajectory that graftsim saved"),
        ({"meta": lambda m: m[:-1]}, "must be a trajectory that graftsim saved"),
        ({"weights": lambda w: None}, "must be a trajectory that graftsim saved"),
        ({"state/direction.a": lambda w: None}, "its digest differs"),
    ],
)
def test_an_altered_file_gets_one_line(saved, changes, message):
    _, path = saved
    altered(path, **changes)
    with pytest.raises(GraftsimError, match=message) as caught:
        trajectory.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_gets_one_line(saved, share):
    _, path = saved
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(GraftsimError, match=r"must be a whole \.npz archive"):
        trajectory.load(path)


def test_a_bomb_is_not_unpacked(saved, monkeypatch):
    """4 GiB of zeros pack into 4 MB; the bound is checked on the directory, before any member is read."""
    _, path = saved
    monkeypatch.setattr(trajectory, "BYTES", 1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.npy", bytes(1 << 21))
    with pytest.raises(GraftsimError, match="must unpack to at most 1048576 bytes"):
        trajectory.load(path)


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    run, path = saved
    first = path.read_bytes()

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(KeyboardInterrupt):
        run.save(path)
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["run.npz"]
