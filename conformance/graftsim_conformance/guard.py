"""Calls into code that may do anything, inside this process: what it raises and how long it takes become verdicts."""

from __future__ import annotations

import contextlib
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np

from graftsim_conformance.verdicts import CandidateError, Verdict

FRAMES = 8
"""How much of a traceback is kept, from its end."""


class _AlarmError(BaseException):
    """Not an Exception, so that a candidate's own ``except Exception`` does not swallow it."""


def guarded(call: Callable[[], Any], seconds: float) -> Any:
    """The result of a call.

    Raises:
        CandidateError: not supported, where it raised NotImplementedError; crashed with the traceback, where it raised
            anything else, SystemExit too; timed out after ``seconds``, in the main thread of a POSIX system, between
            two instructions of Python. An interrupt of the user goes through.
    """
    try:
        with _alarm(seconds), np.errstate(all="ignore"):  # IEEE says what an overflow gives; it is no news
            return call()
    except (CandidateError, KeyboardInterrupt):
        raise
    except NotImplementedError as error:
        raise CandidateError(Verdict.NOT_SUPPORTED, _line(error) or "it gives no reason") from None
    except _AlarmError:
        raise CandidateError(Verdict.TIMED_OUT, f"it took more than {seconds:.3g} s") from None
    except BaseException as error:
        reason = f"{type(error).__name__}: {_line(error)}".removesuffix(": ")
        raise CandidateError(Verdict.CRASHED, reason[:300], traceback.format_exc(limit=-FRAMES)) from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)  # and again, should the first be swallowed
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
