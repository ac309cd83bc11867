"""What a long command tells on the way: a bar on a terminal, elsewhere a line now and then, nothing for a short one."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest

from graftsim.cli import progress, running
from graftsim.runs import Run, RunFile

HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
"""A terminal's cursor, while there is a bar and after it."""


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when it is told to."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_a_log_has_a_line_a_minute(clock, capsys):
    with progress.shown("runs", 712) as tell:
        for done in range(60, 661, 60):
            clock(20.0)
            tell(done)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "180 of 712 runs after 0:01:00",
        "360 of 712 runs after 0:02:00",
        "540 of 712 runs after 0:03:00",
    ]


def test_a_line_tells_the_total_that_was_learnt_last_and_what_is_done(clock, capsys):
    with progress.shown("cases", what="checking torch.optim:Adam[foreach]") as tell:
        clock(3725.9)
        tell(7, 9)
        clock(60.0)
        tell(8)
    assert capsys.readouterr().err == (
        "checking torch.optim:Adam[foreach]: 7 of 9 cases after 1:02:05\n"
        "checking torch.optim:Adam[foreach]: 8 of 9 cases after 1:03:05\n"
    )


@pytest.mark.parametrize("color", ["0", "1"])
def test_other_ranks_are_quiet(clock, capsys, monkeypatch, color):
    monkeypatch.setenv("TTY_COMPATIBLE", color)
    file = RunFile("", "", (Run("quadratic(dimension=2)", "sgd", 3),) * 2)

    def execute(run, tell):
        clock(100.0)
        tell(3)

    assert running._each(file, execute, leads=False) == []
    assert capsys.readouterr() == ("", "")
    running._each(file, execute, leads=True)
    assert capsys.readouterr().err


def test_runs_of_a_file_are_counted_together(clock, capsys):
    def execute(run, tell):
        clock(60.0)
        tell(run.steps)

    runs = tuple(Run("quadratic(dimension=2)", "sgd", steps) for steps in (3, 4))
    running._each(RunFile("", "", runs), execute)
    assert capsys.readouterr().err == "3 of 7 steps after 0:01:00\n7 of 7 steps after 0:02:00\n"


def test_an_interrupt_leaves_the_terminal_as_it_was(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with contextlib.suppress(KeyboardInterrupt), progress.shown("runs", 2) as tell:
        tell(1)
        raise KeyboardInterrupt
    err = capsys.readouterr().err
    assert HIDDEN in err
    assert err.rindex(SHOWN) > err.rindex(HIDDEN)


def test_a_terminal_has_a_bar_and_the_output_none_of_it():
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "graftsim", "run", "adam#sgd", "--problem", "quadratic(dimension=9)"]
    with subprocess.Popen(
        [*command, "--steps", "2000"], stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as done:
        os.close(theirs)
        told = b""
        while True:
            try:
                told += os.read(ours, 4096)
            except OSError:  # its end is closed
                break
        out = done.stdout.read()
    os.close(ours)
    assert done.returncode == 0
    assert b"/2000" in told
    assert b"left" in told
    assert b"\x1b" not in out
    assert b"loss" in out
