"""Jobs over the ranks of MPI: the results of one process, whoever does them, and what becomes of faults."""

import functools
import json
import sys
import time

import pytest

from graftsim.experiments.ledger import Ledger
from graftsim.experiments.workers import work
from tests.ranks.launching import mpiexec, python, said
from tests.test_jobs import exp, trial

BODY = """
import json, os, signal, sys
from pathlib import Path
from graftsim.experiments.jobs import Job
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.workers import work
from tests.test_jobs import exp, trial
path = Path(sys.argv[1])
"""

TWICE = """
told = []
with Ledger(path) as ledger:
    first = work([trial(seed) for seed in range(7)], ledger, progress=told.append)
    second = work([exp(-1.0), exp(first[0]["loss"][-1])], ledger)
path.with_suffix(".json").write_text(json.dumps([first, second]))
print(told)
"""


@functools.cache
def answers():
    first = work([trial(seed) for seed in range(7)], Ledger())
    return [first, work([exp(-1.0), exp(first[0]["loss"][-1])], Ledger())]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_the_results_of_one_process(ranks, tmp_path):
    """Rank 0 alone runs the program, hands out twice, and the others end with it."""
    done = python(ranks, BODY + TWICE, str(tmp_path / "a.jsonl"))
    assert (done.returncode, said(done)) == (0, "")
    assert done.stdout == "[1, 2, 3, 4, 5, 6, 7]\n"
    found = json.loads((tmp_path / "a.json").read_text())
    assert repr(found) == repr(json.loads(json.dumps(answers())))
    with Ledger(tmp_path / "a.jsonl") as ledger:
        assert [ledger[trial(seed)] for seed in range(7)] == answers()[0]


def test_every_rank_does_jobs(tmp_path):
    watched = """
from graftsim.experiments import queue_ranks
from graftsim.ranks.mpi import World
real = queue_ranks.answer
def watched(message):
    (path.parent / f"rank{World().rank}").touch()
    return real(message)
queue_ranks.answer = watched
"""
    done = python(3, BODY + watched + TWICE, str(tmp_path / "a.jsonl"))
    assert (done.returncode, said(done)) == (0, "")
    assert sorted(path.name for path in tmp_path.glob("rank*")) == ["rank0", "rank1", "rank2"]


class TestFaults:
    def test_a_mistake_in_a_job_ends_all_with_its_line(self, tmp_path):
        code = """
from graftsim import GraftsimError
try:
    with Ledger(path) as ledger:
        work([exp(1.0), Job("graftsim.notation:parse", {"text": "adax"}), *(trial(n, 50_000) for n in (1, 2))], ledger)
except GraftsimError as error:
    sys.stderr.write(f"graftsim: {error}\\n")
    sys.exit(2)
"""
        begin = time.monotonic()
        done = python(3, BODY + code, str(tmp_path / "a.jsonl"))
        assert done.returncode == 2
        assert said(done) == "graftsim: in 'adax': unknown machine 'adax'; did you mean 'adamax'?\n"
        assert time.monotonic() - begin < 45
        with Ledger(tmp_path / "a.jsonl") as ledger:
            assert len(ledger) < 3

    def test_work_goes_on_after_a_mistake_that_was_caught(self, tmp_path):
        """Answers to jobs of the work that failed are not taken for those of later jobs."""
        code = """
from graftsim import GraftsimError
with Ledger(path) as ledger:
    try:
        work([Job("graftsim.notation:parse", {"text": "adax"}), trial(1), trial(2)], ledger)
    except GraftsimError:
        print(work([exp(0.0), exp(float("-inf")), exp(float("inf"))], ledger))
"""
        done = python(3, BODY + code, str(tmp_path / "a.jsonl"))
        assert (done.returncode, done.stdout, said(done)) == (0, "[1.0, 0.0, inf]\n", "")

    def test_an_error_of_rank_0_itself(self, tmp_path):
        code = "work([exp(1.0), exp(2.0)], Ledger())\nraise OSError('no disk')\n"
        done = python(3, BODY + code, str(tmp_path / "a.jsonl"))
        assert done.returncode == 1
        assert said(done).strip().endswith("OSError: no disk")

    def test_a_rank_that_is_killed(self, tmp_path):
        """The launcher ends all; what was finished stays, and the next start does the rest, over another number."""
        code = """
from graftsim.experiments import queue_ranks
from graftsim.ranks.mpi import World
real = queue_ranks.answer
count = 0
def fragile(message):
    global count
    count += 1
    if count == 3 and World().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(message)
if sys.argv[2] == "kill":
    queue_ranks.answer = fragile
with Ledger(path) as ledger:
    print(len(ledger), flush=True)
    work([trial(seed, 120) for seed in range(12)], ledger)
"""
        path = tmp_path / "a.jsonl"
        begin = time.monotonic()
        done = python(3, BODY + code, str(path), "kill")
        assert time.monotonic() - begin < 45
        assert done.returncode != 0
        before = path.read_bytes()
        rows = before.count(b"\n") - 1
        assert 2 <= rows < 12
        done = python(2, BODY + code, str(path), "go on")
        assert (done.returncode, done.stdout, said(done)) == (0, f"{rows}\n", "")
        ids = [json.loads(line)["job"] for line in path.read_bytes().splitlines()[1:] if line.endswith(b"}")]
        assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
        assert sorted(ids) == sorted(trial(seed, 120).id for seed in range(12))

    def test_ranks_of_other_versions(self, tmp_path):
        other = BODY + "from graftsim.experiments import queue_ranks\nqueue_ranks.version = lambda: '0.0.1'\n"
        same = [sys.executable, "-c", BODY + "Ledger(path)\n", str(tmp_path / "a")]
        done = mpiexec("-n", "1", *same, ":", "-n", "1", sys.executable, "-c", other + "Ledger(path)\n", same[-1])
        assert done.returncode != 0
        assert "all ranks must be given the same version of graftsim; rank 1 of 2 has another" in done.stderr
        assert not (tmp_path / "a").exists()
