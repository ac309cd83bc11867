"""The same bodies under mpiexec, and what becomes of a job when a rank fails."""

import functools
import json
import sys
import time

import pytest

from graftsim import trajectory
from graftsim.simulate import simulate
from tests.ranks import bodies
from tests.ranks.launching import GRAFTSIM, mpiexec, python, said

RUN = ["run", "adam#sgd", "--problem", "quadratic(dimension=10)", "--steps", "12"]


@functools.cache
def answers() -> dict[str, str]:
    return {
        f"{machine} {dtype}": bodies.alone(machine, dtype).digest
        for dtype in ("float32", "float64")
        for machine in bodies.MACHINES
    } | {f"{machine} compiled": bodies.alone(machine, "float64").digest for machine in bodies.COMPILED}


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_every_case_has_the_bits_of_one_process(ranks, tmp_path):
    done = mpiexec("-n", str(ranks), sys.executable, "-m", "tests.ranks.bodies", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "found.json").read_text()) == answers()


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_the_command_line_over_four_ranks_writes_the_file_of_one(engine, tmp_path):
    """Byte for byte; rank 0 alone speaks. Three ranks go on with it in Python, to the bits of an unbroken run."""
    done = mpiexec("-n", "4", GRAFTSIM, *RUN, "--engine", engine, "--out", str(tmp_path / "four.npz"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("saved") == 1
    whole = simulate("quadratic(dimension=10)", "adam#sgd", 12)
    whole.save(tmp_path / "one.npz")
    assert (tmp_path / "four.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["four.npz", "one.npz"]
    again = python(
        3,
        "import sys; from graftsim import trajectory; from graftsim.ranks import launcher, running\n"
        "with launcher.session() as world:\n"
        "    done = trajectory.load(sys.argv[1])\n"
        "    found = running.resume(world, done, 'quadratic(dimension=10)', 20)\n"
        "    if world.rank == 0: found.save(sys.argv[2])\n",
        str(tmp_path / "four.npz"),
        str(tmp_path / "more.npz"),
    )
    assert again.returncode == 0, again.stderr
    assert trajectory.load(tmp_path / "more.npz").digest == simulate("quadratic(dimension=10)", "adam#sgd", 20).digest


def test_ranks_that_share_batches_write_the_file_of_one(tmp_path):
    problem = "averaged(of='least_squares(samples=30, dimension=4, batch=4)', batches=5)"
    done = mpiexec(
        *("-n", "3", GRAFTSIM, "run", "adam#sgd", "--problem", problem, "--steps", "5", "--dtype", "float32"),
        *("--out", str(tmp_path / "three.npz")),
    )
    assert done.returncode == 0, done.stderr
    simulate(problem, "adam#sgd", 5, dtype="float32").save(tmp_path / "one.npz")
    assert (tmp_path / "three.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()


def test_steps_are_measured_on_ever_more_ranks():
    done = mpiexec("-n", "3", sys.executable, "-m", "graftsim.ranks.measure", "1000")
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["1 ranks", "2 ranks", "3 ranks"]
    wrong = mpiexec("-n", "2", sys.executable, "-m", "graftsim.ranks.measure", "7")
    assert wrong.returncode == 2
    assert said(wrong) == "graftsim: the number of coordinates must be whole, from 50 to 1e+10; received '7'\n"


class TestMistakes:
    """One line and exit code 2, however many ranks there are."""

    def test_made_by_all(self):
        done = mpiexec("-n", "3", GRAFTSIM, "run", "adam#sgx", "--problem", "quadratic(dimension=10)")
        assert done.returncode == 2
        assert said(done) == "graftsim: in 'adam#sgx': unknown machine 'sgx'; did you mean 'sgd'?\n"

    def test_made_by_one(self, tmp_path):
        (tmp_path / "file").write_text("")
        done = mpiexec("-n", "3", GRAFTSIM, *RUN, "--out", str(tmp_path / "file" / "out.npz"))
        assert done.returncode == 2
        assert said(done).startswith("graftsim: rank 0 of 3: cannot write ")
        assert said(done).count("\n") == 1

    def test_ranks_that_were_given_different_runs(self):
        other = [*RUN[:-1], "13"]
        done = mpiexec("-n", "2", GRAFTSIM, *RUN, ":", "-n", "1", GRAFTSIM, *other)
        assert done.returncode == 2
        assert "all ranks must be given the same run file; rank 2 of 3 has another than rank 0" in said(done)
        assert said(done).count("\n") == 1

    def test_an_engine_that_there_is_not(self):
        done = mpiexec("-n", "2", GRAFTSIM, *RUN, "--engine", "compield")
        assert done.returncode == 2
        assert said(done) == "graftsim: engine must be numpy or compiled; received 'compield'\n"


FAIL = """
import os, signal, sys
from graftsim.ranks import launcher, running
from tests.ranks import bodies

class Failing(bodies.Ragged):
    def gradients(self, weights, step, seed):
        if step == 3 and world.rank == 1:
            {fault}
        return super().gradients(weights, step, seed)

with launcher.session() as world:
    found = running.simulate(world, Failing(), "adam#sgd", 6)
    if world.rank == 0: found.save(sys.argv[1])
"""


class TestFaults:
    """The others wait in a sum for the rank that fails: no hang, a reason, a code, and no file."""

    @pytest.mark.parametrize(
        ("fault", "code", "said"),
        [
            ("raise OSError('no disk')", 1, "graftsim: rank 1 of 3: Traceback"),
            ("sys.exit(7)", 7, "graftsim: rank 1 of 3: left with exit code 7 while others waited"),
            ("sys.exit(0)", 1, "graftsim: rank 1 of 3: left with exit code 0 while others waited"),
            ("raise KeyboardInterrupt", 130, "graftsim: rank 1 of 3: stopped"),
        ],
    )
    def test_a_rank_that_raises(self, fault, code, said, tmp_path):
        begin = time.monotonic()
        done = python(3, FAIL.format(fault=fault), str(tmp_path / "out.npz"), seconds=50)
        assert time.monotonic() - begin < 45
        assert done.returncode == code
        assert said in done.stderr
        assert list(tmp_path.iterdir()) == []

    def test_a_rank_that_is_killed(self, tmp_path):
        begin = time.monotonic()
        done = python(3, FAIL.format(fault="os.kill(os.getpid(), signal.SIGKILL)"), str(tmp_path / "out.npz"))
        assert time.monotonic() - begin < 45
        assert done.returncode != 0
        assert "PID" in done.stdout + done.stderr
        assert list(tmp_path.iterdir()) == []
