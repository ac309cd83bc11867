"""Steps by either engine, and interrupts that wait for the end of a step in place."""

import dataclasses
import os
import signal
import threading

import pytest

from graftsim import GraftsimError, interrupts
from graftsim.compiled.engine import CompiledEngine
from graftsim.simulate import resume, simulate

MACHINE = "graft(adam, sgd, partition=row)"
SCATTERED = "graft(adam, sgd, partition=sets(some={'output.weight': [0, 2, 5]}, rest=None))"


@pytest.fixture(autouse=True)
def heard():
    """Interrupts are heard, also where the tests were started with them ignored, as a shell starts what runs behind."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("machine", [MACHINE, SCATTERED])
def test_a_problem_without_a_compiled_gradient(machine):
    """Step by step, also where sums do not lie in long runs; then resumed."""
    run = ("digits(hidden=[3])", machine, 4)
    want = simulate(*run, dtype="float32", record_every=2)
    assert simulate(*run, dtype="float32", record_every=2, engine="compiled").digest == want.digest
    part = simulate(*run[:2], 2, dtype="float32", record_every=2, engine="compiled")
    assert resume(part, run[0], 4, engine="compiled").digest == want.digest


def test_a_machine_too_long_to_be_read_back_is_to_be_given():
    problem = "quadratic(dimension=2)"
    done = simulate(problem, "sgd", 1)
    long = dataclasses.replace(done, meta=dataclasses.replace(done.meta, machine="sgd(lr=" + "0" * 2000 + "1)"))
    with pytest.raises(GraftsimError, match=r"machine must be given as an instance: its text has 2009 characters"):
        resume(long, problem, 2)


def test_an_engine_that_there_is_not():
    with pytest.raises(GraftsimError, match="engine must be numpy or compiled; received 'numba'"):
        simulate("quadratic(dimension=2)", "sgd", 1, engine="numba")


def test_matrices_are_run_by_the_reference():
    run = ("quadratic(dimension=3)", "full_adagrad(lr=0.1)", 2)
    with pytest.warns(UserWarning, match="run by the reference engine, since machines with matrices are not") as told:
        found = simulate(*run, engine="compiled")
    assert found.digest == simulate(*run).digest
    assert told[0].filename == __file__


@pytest.mark.parametrize("problem", ["digits(hidden=[3])", "quadratic(dimension=3)"])
def test_an_interrupt_in_a_step_in_place_leaves_a_whole_step(problem, monkeypatch):
    """Without the wait, half of a step would be taken for the step before it."""
    from graftsim.compiled import whole

    owner, name = (CompiledEngine, "step") if problem.startswith("digits") else (whole.WholeRun, "_scalars")
    before = getattr(owner, name)

    def interrupted(self, *args, **more):
        os.kill(os.getpid(), signal.SIGINT)
        return before(self, *args, **more)

    monkeypatch.setattr(owner, name, interrupted)
    found = simulate(problem, MACHINE, 10**6, record_every=10**6, keep_every=10**6, engine="compiled")
    assert not found.meta.complete
    done = int(found.steps[-1])
    assert done > 0
    want = simulate(problem, MACHINE, done, record_every=done)
    assert found.last.tobytes() == want.last.tobytes()
    assert {path: rows[-1].tobytes() for path, rows in found.state.items()} == {
        path: rows[-1].tobytes() for path, rows in want.state.items()
    }


class TestHeld:
    def test_the_interrupt_is_heard_at_the_end(self):
        done = []

        def work():
            with interrupts.held():
                os.kill(os.getpid(), signal.SIGINT)
                done.append(True)

        with pytest.raises(KeyboardInterrupt):
            work()
        assert done
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_none_is_invented(self):
        with interrupts.held():
            pass
        with pytest.raises(ZeroDivisionError), interrupts.held():
            raise ZeroDivisionError

    def test_other_threads_and_ignored_interrupts_are_left_alone(self):
        found = []

        def work():
            with interrupts.held():
                found.append(signal.getsignal(signal.SIGINT))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with interrupts.held():
                found.append(signal.getsignal(signal.SIGINT))
        finally:
            signal.signal(signal.SIGINT, before)
        assert found == [before, signal.SIG_IGN]
