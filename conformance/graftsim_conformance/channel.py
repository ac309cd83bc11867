"""A line for a line with a program that may do anything: how long it takes and how much it says are bounded."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from graftsim.errors import GraftsimError
from graftsim_conformance.verdicts import CandidateError, Verdict

CHUNK = 1 << 16
KILL_SECONDS = 5.0
LEFT_OVER = 64
"""How many chunks of a dead program's standard error are read, where some process outlived it and still writes."""
LINE_BYTES = 1 << 20
"""The longest line in either direction (GS-protocol-lines)."""


@dataclass(frozen=True)
class Limits:
    """What a candidate may use (GS-protocol-limits); ``end_seconds`` is what a program may take to end by itself."""

    reply_seconds: float = 10.0
    total_seconds: float = 120.0
    end_seconds: float = 1.0
    line_bytes: int = LINE_BYTES
    stderr_bytes: int = 4096


class Channel:
    """A running program and its three streams.

    Args:
        command: program and arguments; no shell reads them.
        limits: time and sizes; the total is the caller's affair.

    Raises:
        CandidateError: the program cannot be started.
    """

    def __init__(self, command: Sequence[str], limits: Limits) -> None:
        if os.name != "posix":
            raise GraftsimError("candidates that are programs need a POSIX system; run this check on Linux or macOS")
        self.limits = limits
        self._out, self._err = bytearray(), bytearray()
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # a group of its own, so that its children are killed with it
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CandidateError(Verdict.CRASHED, f"cannot start {command[0]}: {reason}") from None
        self._process = process
        self._streams = tuple(filter(None, (process.stdin, process.stdout, process.stderr)))
        for stream in self._streams:
            os.set_blocking(stream.fileno(), False)
        self._kill = weakref.finalize(self, _kill, process)

    def ask(self, line: bytes, seconds: float) -> bytes:
        """Send a line and return the line that answers it, without its end.

        Raises:
            CandidateError: no whole line in time; the program ended, said too much, or spoke before it was asked.
                It has then been killed.
        """
        if self._out:
            raise self.failed(Verdict.CRASHED, f"it wrote what nobody asked for: {_shown(self._out)}")
        try:
            self._converse(line, seconds)
        except BaseException:  # an interrupt of the user too: half a conversation cannot be gone on with
            self.end(0.0)
            raise
        reply, _, rest = bytes(self._out).partition(b"\n")
        self._out = bytearray(rest)
        return reply

    def _converse(self, line: bytes, seconds: float) -> None:
        """Write the line while reading both outputs, until all is written and a line has come."""
        deadline, unsent = time.monotonic() + seconds, memoryview(line)
        _, stdout, stderr = self._streams
        with selectors.DefaultSelector() as selector:
            for stream, event in zip(self._streams, (selectors.EVENT_WRITE, *[selectors.EVENT_READ] * 2), strict=True):
                if not stream.closed:
                    selector.register(stream, event)
            while unsent or b"\n" not in self._out:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self.failed(Verdict.TIMED_OUT, f"no reply within {seconds:.3g} s")
                for key, _ in selector.select(left):
                    if key.fileobj is stdout:
                        self._read_reply(stdout)
                    elif key.fileobj is stderr:
                        self._read_error(stderr, selector)
                    else:
                        unsent = self._send(unsent, selector)

    def _send(self, unsent: memoryview, selector: selectors.BaseSelector) -> memoryview:
        stdin = self._streams[0]
        try:
            unsent = unsent[os.write(stdin.fileno(), unsent[:CHUNK]) :]
        except BlockingIOError:
            return unsent
        except BrokenPipeError:  # it reads no more; how it ended shows on its output
            selector.unregister(stdin)
            return unsent
        if not unsent:
            selector.unregister(stdin)
        return unsent

    def _read_reply(self, stdout: IO[bytes]) -> None:
        data = stdout.read(CHUNK)
        if data is None:
            return
        if not data:
            half = f" in the middle of a line: {_shown(self._out)}" if self._out else ""
            raise self.failed(Verdict.CRASHED, f"its output ended{half}", self.limits.end_seconds)
        self._out += data
        end = self._out.find(b"\n")
        if (len(self._out) if end < 0 else end + 1) > self.limits.line_bytes:
            raise self.failed(
                Verdict.CRASHED, f"a reply must have at most {self.limits.line_bytes} bytes: {_shown(self._out)}"
            )

    def _read_error(self, stderr: IO[bytes], selector: selectors.BaseSelector | None = None) -> bool:
        """Keep the tail of what is there; whether there was anything."""
        data = stderr.read(CHUNK)
        if data == b"" and selector is not None:
            selector.unregister(stderr)
            stderr.close()
        self._err = (self._err + (data or b""))[-self.limits.stderr_bytes :]
        return bool(data)

    @property
    def stderr_tail(self) -> str:
        """The last that the program wrote to its standard error."""
        return self._err.decode("utf-8", "replace")

    def failed(self, verdict: Verdict, reason: str, patience: float = 0.0) -> CandidateError:
        """Kill the program; the error that says why, and how the program ended if it did so within ``patience``."""
        how = self.end(patience)
        return CandidateError(verdict, f"{reason}; {how}" if how else reason, self.stderr_tail)

    def end(self, patience: float) -> str:
        """Wait for the program to end itself, kill what is left; in words how it ended, "" if it was killed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        code = self._process.poll()
        self._kill()
        stderr = self._streams[2]
        for _ in range(LEFT_OVER):
            if stderr.closed or not self._read_error(stderr):
                break
        for stream in self._streams:
            stream.close()
        if code is None:
            return ""
        return f"exit code {code}" if code >= 0 else f"killed by {_signal(-code)}"

    def say(self, line: bytes) -> None:
        """Send a line that has no answer."""
        with contextlib.suppress(OSError):
            os.write(self._streams[0].fileno(), line)
            self._streams[0].close()

    @property
    def alive(self) -> bool:
        return self._kill.alive


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole group: the group outlives its leader while a child of the leader does."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # one that changed its user cannot be killed, nor waited for
        process.wait(KILL_SECONDS)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _shown(data: bytes | bytearray) -> str:
    """The beginning of what was said, printable, on one line."""
    return repr(bytes(data[:60]).decode("utf-8", "backslashreplace")) + ("..." if len(data) > 60 else "")
