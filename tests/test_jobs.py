"""Jobs, the ledger of what is done, and workers: equal results whoever does them, and nothing done twice."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftsim import GraftsimError, journal
from graftsim.experiments import jobs as jobs_module
from graftsim.experiments import ledger as ledger_module
from graftsim.experiments.jobs import Job
from graftsim.experiments.ledger import Ledger, place
from graftsim.experiments.workers import work

EXP = "graftsim.scalars:exp"
RUN = "graftsim.experiments.trials:run"


def exp(x):
    return Job(EXP, {"x": x})


def trial(seed, steps=40):
    arguments = {
        "problem": "least_squares(samples=8, dimension=3, batch=2)",
        "machine": "adam#sgd",
        "steps": steps,
        "seed": seed,
    }
    return Job(RUN, arguments)


class TestJobs:
    def test_equal_by_what_they_are(self):
        one = Job(RUN, {"a": (1, 2), "b": 0.1})
        assert one == Job(RUN, {"b": 0.1, "a": [1, 2]})
        assert hash(one) == hash(Job(RUN, {"b": 0.1, "a": [1, 2]}))
        others = [Job(EXP, one.arguments), Job(RUN, {"a": [1, 2]}), Job(RUN, {"a": [1, 2.0], "b": 0.1})]
        assert len({one, *others}) == 4
        assert len({job.id for job in (one, *others)}) == 4

    def test_an_argument_that_changes_later_changes_no_job(self):
        rows = [1]
        job = Job(RUN, {"rows": rows})
        before = job.arguments["rows"][:]
        rows.append(2)
        assert job.arguments["rows"] == before == [1]

    def test_the_id_has_the_version(self, monkeypatch):
        before = exp(1.0).id
        assert exp(1.0).id == before
        monkeypatch.setattr(jobs_module, "version", lambda: "0.0.1")
        assert exp(1.0).id != before

    @pytest.mark.parametrize(
        "path",
        [
            "os:system",
            "graftsim:build",
            "graftsimx.scalars:exp",
            "graftsim.scalars",
            "graftsim.scalars:_odd",
            "graftsim.scalars:exp.__call__",
            "graftsim._scalars:exp",
            "x.graftsim.scalars:exp",
            "graftsim.scalars:exp\n",
        ],
    )
    def test_other_paths_are_refused(self, path):
        with pytest.raises(GraftsimError, match="must be a public one of a module below graftsim"):
            Job(path, {})

    @pytest.mark.parametrize(
        "path",
        [
            "graftsim.scalars:sqrt_of",  # is not there
            "graftsim.nowhere:run",
            "graftsim.scalars.exp:run",
            "graftsim.documents:tempfile",  # a module that it imports
            "graftsim.simulate:build",  # a function that it imports
            "graftsim.runs:dataclass",
        ],
    )
    def test_what_a_module_does_not_define_is_not_run(self, path):
        with pytest.raises(GraftsimError, match="must be one that its module defines"):
            Job(path, {}).do()

    def test_a_class_is_no_function(self):
        with pytest.raises(GraftsimError, match=r"received 'graftsim.layouts:Layout'"):
            Job("graftsim.layouts:Layout", {})

    def test_a_dependency_that_is_missing_is_not_taken_for_the_function(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "rich.console", None)
        monkeypatch.delitem(sys.modules, "graftsim.cli.catalogue", raising=False)
        with pytest.raises(ModuleNotFoundError, match=r"rich\.console"):
            Job("graftsim.cli.catalogue:show", {}).do()

    def test_arguments_and_results_that_json_cannot_hold(self):
        with pytest.raises(GraftsimError, match=r"the arguments of graftsim.scalars:exp must be what JSON can hold"):
            exp(1j)
        with pytest.raises(GraftsimError, match=r"the result of machines:library\(\) must be what JSON can hold"):
            Job("graftsim.machines:library", {}).do()

    def test_a_result_that_is_too_large(self, monkeypatch):
        monkeypatch.setattr(jobs_module, "RESULT_BYTES", 5)
        with pytest.raises(GraftsimError, match=r"the result of scalars:exp\(x=1.0\) must have at most 5 bytes"):
            exp(1.0).do()

    def test_shown_in_one_short_line(self):
        told = str(Job(RUN, {"problem": "x" * 1000, "machine": "a\nb"}))
        assert told.startswith("trials:run(problem='xxx")
        assert len(told) < 200
        assert "\n" not in str(Job(RUN, {"machine": "a\nb"}))


NUMBERS = st.floats() | st.integers(-(2**70), 2**70) | st.text() | st.booleans() | st.none()


class TestLedger:
    @given(st.recursive(NUMBERS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
    def test_a_result_comes_back_to_the_bit(self, tmp_path_factory, result):
        path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
        with Ledger(path) as ledger:
            ledger.add(exp(1.0), result)
            assert repr(ledger[exp(1.0)]) == repr(result)
        with Ledger(path) as ledger:
            assert repr(ledger[exp(1.0)]) == repr(result)
            assert exp(2.0) not in ledger

    def test_what_is_read_can_be_changed(self):
        ledger = Ledger()
        ledger.add(exp(1.0), [1, 2])
        ledger[exp(1.0)].append(3)
        assert ledger[exp(1.0)] == [1, 2]

    def test_a_row_tells_people_what_it_is(self, tmp_path):
        with Ledger(tmp_path / "deep" / "a.jsonl", "a study") as ledger:
            ledger.add(exp(0.1), math.nan)
        header, row = map(json.loads, (tmp_path / "deep" / "a.jsonl").read_text().splitlines())
        assert header == {"format": "graftsim ledger 1", "graftsim": jobs_module.version(), "study": "a study"}
        assert row.pop("result") != row
        assert row == {"job": exp(0.1).id, "function": EXP, "arguments": {"x": 0.1}}

    @pytest.mark.parametrize("kept", [0, 1, 30])
    def test_a_cut_off_last_line_is_passed_over(self, tmp_path, kept):
        path = tmp_path / "a.jsonl"
        with Ledger(path) as ledger:
            ledger.add(exp(1.0), 1.0)
            size = path.stat().st_size
            ledger.add(exp(2.0), 2.0)
        os.truncate(path, size + kept)
        with Ledger(path) as ledger:
            assert exp(1.0) in ledger
            assert exp(2.0) not in ledger
            ledger.add(exp(3.0), 3.0)
        with Ledger(path) as ledger:
            assert len(ledger) == 2
            assert ledger[exp(3.0)] == 3.0

    def test_every_cut_of_a_file_is_a_ledger(self, tmp_path):
        """Also one in the header, which is then begun anew."""
        path = tmp_path / "a.jsonl"
        with Ledger(path) as ledger:
            ledger.add(exp(1.0), 1.0)
        text = path.read_bytes()
        for size in range(len(text)):
            path.write_bytes(text[:size])
            with Ledger(path) as ledger:
                assert len(ledger) == 0
                ledger.add(exp(2.0), 2.0)
            with Ledger(path) as ledger:
                assert ledger[exp(2.0)] == 2.0

    def test_rubbish_is_passed_over(self, tmp_path, monkeypatch):
        path = tmp_path / "a.jsonl"
        with Ledger(path) as ledger:
            ledger.add(exp(1.0), 1.0)
        row = path.read_text().splitlines()[1]
        rubbish = [
            "",
            "nonsense",
            "[]",
            "{}",
            "null",
            "[" * 5000,
            row.replace("1.0", "2.0", 1),  # another job under this id
            row.replace(EXP, "os:system"),
            "\0\xff",
            '{"x": ' + "9" * 6000 + "}",  # an integer that Python does not read
        ]
        path.write_bytes(path.read_bytes() + "\n".join(rubbish).encode("latin-1") + b"\n")
        with Ledger(path) as ledger:
            ledger.add(exp(3.0), 3.0)
        monkeypatch.setattr(journal, "LINE_BYTES", 500)  # of a longer line no part is taken for a row
        long = json.dumps({"filling": "x" * 500})[:500] + row
        path.write_text(path.read_text("latin-1") + long + "\n" + row.replace("1.0", "4.0") + "\n", "latin-1")
        with Ledger(path) as ledger:
            assert len(ledger) == 2
            assert ledger[exp(1.0)] == 1.0
            assert ledger[exp(3.0)] == 3.0

    def test_bounds(self, tmp_path, monkeypatch):
        path = tmp_path / "a.jsonl"
        monkeypatch.setattr(journal, "FILE_BYTES", 400)
        with Ledger(path) as ledger:
            ledger.add(exp(1.0), 1.0)
            with pytest.raises(GraftsimError, match=r"must have at most 400 bytes; begin another"):
                ledger.add(exp(2.0), "x" * 200)
            assert exp(2.0) not in ledger
        assert path.stat().st_size <= 400
        path.write_bytes(path.read_bytes() + b"\n" * 400)
        with pytest.raises(GraftsimError, match=r"must have at most 400 bytes; it has"):
            Ledger(path)

    def test_one_writer_at_a_time(self, tmp_path):
        path = tmp_path / "a.jsonl"
        with Ledger(path), pytest.raises(GraftsimError, match=r"a\.jsonl must be written by one process at a time"):
            Ledger(path)
        with Ledger(path):
            code = "import sys; from pathlib import Path; from graftsim.experiments.ledger import Ledger\n"
            code += "Ledger(Path(sys.argv[1]))"
            done = subprocess.run(
                [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False
            )
            assert "must be written by one process at a time; another writes it now" in done.stderr
        ledger = Ledger(path)
        del ledger  # a ledger that nobody holds locks nothing
        Ledger(path).close()

    def test_of_something_else(self, tmp_path, monkeypatch):
        path = tmp_path / "a.jsonl"
        Ledger(path, "grid of adam").close()
        with pytest.raises(GraftsimError, match=r"must be of this study, 'zoo'; it is of 'grid of adam'; name another"):
            Ledger(path, "zoo")
        before = path.read_bytes()
        monkeypatch.setattr(ledger_module, "version", lambda: "0.0.1")
        with pytest.raises(GraftsimError, match=r"must be of this version, '0.0.1'; it is of"):
            Ledger(path, "grid of adam")
        assert path.read_bytes() == before

    @pytest.mark.parametrize("text", ["notes\n", "notes", "{}\n", "[]\n", '{"format": "graftsim ledger 2"}\n', "\n"])
    def test_a_file_that_is_none_is_left_alone(self, tmp_path, text):
        path = tmp_path / "a.txt"
        path.write_text(text)
        with pytest.raises(GraftsimError, match=r"a.txt must be a ledger of graftsim, or a new file; it is neither"):
            Ledger(path)
        assert path.read_text() == text

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "file" / "a.jsonl", tmp_path):
            with pytest.raises(GraftsimError, match="cannot write "):
                Ledger(path)

    def test_a_full_disk(self, tmp_path, monkeypatch):
        """A row that was written in part is passed over, also if later there is room again."""
        real = os.write

        def full(handle, data):
            if len(data) < 100:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(handle, data[:-50])

        path = tmp_path / "a.jsonl"
        with Ledger(path) as ledger:
            monkeypatch.setattr(os, "write", full)
            with pytest.raises(GraftsimError, match=r"^cannot write .*a.jsonl: No space left on device$"):
                ledger.add(exp(1.0), 1.0)
            assert exp(1.0) not in ledger
            monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:7]))  # little by little
            ledger.add(exp(2.0), 2.0)
        with Ledger(path) as ledger:
            assert len(ledger) == 1
            assert ledger[exp(2.0)] == 2.0

    def test_a_device_is_no_file(self):
        with pytest.raises(GraftsimError, match="the ledger /dev/null must be a regular file"):
            Ledger(Path("/dev/null"))

    def test_the_default_place(self, monkeypatch):
        monkeypatch.setenv("GRAFTSIM_CACHE", "/some/cache")
        found = place("grid of adam")
        assert found.parent == Path("/some/cache/graftsim/experiments")
        assert len({found, place("grid of sgd")}) == 2
        monkeypatch.setattr(ledger_module, "version", lambda: "0.0.1")
        assert place("grid of adam") != found


class TestWork:
    def test_here_and_in_processes(self, tmp_path):
        """Every float of every trajectory, and the order of the results."""
        asked = [*(trial(seed) for seed in range(3)), exp(-1.0), trial(1), exp(800.0)]
        here = work(asked, Ledger())
        there = work(asked, Ledger(), workers=2)
        assert repr(here) == repr(there)
        assert here[1] == here[4] != here[0]
        assert here[5] == math.inf
        assert here[3] == math.exp(-1)

    def test_each_job_once(self):
        calls = []

        class Watched(Ledger):
            def write(self, job, result):
                calls.append(job)
                super().write(job, result)

        ledger = Watched()
        ledger.add(exp(1.0), "known")
        calls.clear()
        told = []
        asked = [exp(2.0), exp(1.0), exp(2.0), exp(3.0), exp(1.0)]
        assert work(asked, ledger, progress=told.append)[1] == "known"
        assert calls == [exp(2.0), exp(3.0)]
        assert told == [2, 4, 5]
        assert work(asked, ledger, progress=told.append)[1] == "known"
        assert told == [2, 4, 5, 5]
        assert work([], ledger) == []

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_mistake_is_the_job_s_own_line_and_what_is_finished_stays(self, workers):
        ledger = Ledger()
        asked = [*map(exp, range(20)), Job("graftsim.notation:parse", {"text": "adax"}), exp(20)]
        with pytest.raises(GraftsimError, match=r"^in 'adax': unknown machine 'adax'; did you mean 'adamax'\?$"):
            work(asked, ledger, workers)
        assert 20 - workers < len(ledger) <= 21  # one may have been at hand for each other worker

    def test_a_fault_has_the_worker_s_traceback(self):
        with pytest.raises(RuntimeError, match=r"(?s)^scalars:exp\(x='[ab]'\).*Traceback.*TypeError"):
            work([exp("a"), exp("b")], Ledger(), 2)

    def test_a_job_of_another_version_is_refused(self, monkeypatch):
        monkeypatch.setattr(jobs_module, "version", lambda: "0.0.1")
        with pytest.raises(GraftsimError, match="all workers must have one version of graftsim; one has "):
            work([exp(1.0), exp(2.0)], Ledger(), 2)

    @pytest.mark.parametrize("workers", [0, -1, 1025])
    def test_the_number_of_workers(self, workers):
        with pytest.raises(GraftsimError, match=f"there must be from 1 to 1024 workers; received {workers}"):
            work([exp(1.0)], Ledger(), workers)

    def test_what_a_job_prints_is_no_answer(self, capfd):
        names = ["adam", "sgd"]
        printed = [Job("graftsim.cli.catalogue:show", {"text": name, "machine_files": []}) for name in names]
        assert work(printed, Ledger(), 2) == [None, None]
        captured = capfd.readouterr()
        assert "adam" in captured.err
        assert captured.out == ""


WORK = """
import signal
import sys
from pathlib import Path
from graftsim import GraftsimError, journal
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.workers import work
from tests.test_jobs import trial
signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts the tests may ignore it, and that is inherited
with Ledger(Path(sys.argv[1])) as ledger:
    print(len(ledger), flush=True)
    try:
        work([trial(seed, 120) for seed in range(int(sys.argv[3]))], ledger, int(sys.argv[2]))
    except GraftsimError as error:
        sys.exit(f"graftsim: {error}")
"""


class Begun:
    """Work of many trials in a process of its own."""

    def __init__(self, path, workers, jobs=20):
        command = [sys.executable, "-c", WORK, str(path), str(workers), str(jobs)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
        )
        self.path = path

    def until(self, rows):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.path.exists() and self.path.read_bytes().count(b"\n") > rows:
                return self
            time.sleep(0.005)
        self.process.kill()
        raise AssertionError(self.process.communicate())

    @property
    def children(self):
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pids):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.01)
    return False


class TestFaults:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_killed_in_the_middle_it_goes_on(self, tmp_path, workers):
        """With the missing jobs and no other: what was written stays as it is, and each job has one row."""
        path = tmp_path / "a.jsonl"
        begun = Begun(path, workers).until(4)
        children = begun.children
        begun.process.kill()
        begun.process.communicate()
        assert gone(children)
        left = path.read_bytes()
        rows = left.count(b"\n") - 1
        assert 4 <= rows < 20
        again = Begun(path, workers)
        out, err = again.process.communicate(timeout=60)
        assert (again.process.returncode, out, err) == (0, f"{rows}\n", "")
        whole = left[: left.rfind(b"\n") + 1]
        assert path.read_bytes().startswith(whole)
        ids = [json.loads(line)["job"] for line in path.read_bytes().splitlines()[1:] if line.endswith(b"}")]
        assert sorted(ids) == sorted(trial(seed, 120).id for seed in range(20))
        with Ledger(path) as ledger:
            assert ledger[trial(7, 120)] == json.loads(trial(7, 120).do())

    def test_a_killed_worker(self, tmp_path):
        path = tmp_path / "a.jsonl"
        begun = Begun(path, 2).until(3)
        children = begun.children
        os.kill(children[1], signal.SIGKILL)
        _, err = begun.process.communicate(timeout=60)
        assert begun.process.returncode == 1
        assert err.startswith(
            "graftsim: the worker of trials:run(problem='least_squares(samples=8, dimension=3, batch=2)'"
        )
        assert f"was killed by SIGKILL; what is finished is kept in {path}" in err
        assert err.count("\n") == 1
        assert gone(children)
        with Ledger(path) as ledger:
            assert len(ledger) >= 3

    def test_ctrl_c(self, tmp_path):
        path = tmp_path / "a.jsonl"
        begun = Begun(path, 2).until(3)
        children = begun.children
        for pid in (begun.process.pid, *children):  # as a terminal does
            os.kill(pid, signal.SIGINT)
        _, err = begun.process.communicate(timeout=60)
        assert err.strip().endswith("KeyboardInterrupt")
        assert err.count("Traceback") == 1
        assert gone(children)
        with Ledger(path) as ledger:
            assert 3 <= len(ledger) < 20
