"""The ledger: which jobs are done, and what came of them, so that work that was stopped goes on where it was.

A file of JSON lines: a header, then one row for each finished job, appended and never changed. A row that was cut off,
by a kill or a full disk, is passed over, and its job is done again.
"""

from __future__ import annotations

import json
import os
import stat
import weakref
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from graftsim import documents
from graftsim.errors import GraftsimError
from graftsim.experiments.jobs import RESULT_BYTES, Job, version
from graftsim.experiments.queue_ranks import lead

try:
    import fcntl
except ImportError:  # not POSIX: nothing to lock with
    fcntl = None  # type: ignore[assignment]

FORMAT = "graftsim ledger 1"
LINE_BYTES = 2 * RESULT_BYTES
FILE_BYTES = 1 << 29


def place(study: str) -> Path:
    """Where the ledger of a study is by default: under a digest of what is studied and of graftsim's version."""
    digest = sha256(json.dumps([study, version()]).encode()).hexdigest()
    return documents.cache_folder() / "experiments" / f"{digest[:32]}.jsonl"


class Ledger:
    """Results by job.

    Args:
        path: the file; None keeps all in memory. Over the ranks of MPI it is rank 0's, and the others serve from here
            on; see :func:`graftsim.experiments.queue_ranks.lead`.
        study: what is studied, in one line; a file that was begun for something else is refused.

    Raises:
        GraftsimError: a file that cannot be written, is no ledger, is that of another study or version, is too large,
            or is being written by another process.
    """

    def __init__(self, path: Path | None = None, study: str = "") -> None:
        self.path, self.study = path, study
        self._found: dict[str, str] = {}
        self._handle: int | None = None
        self._size, self._cut = 0, False
        if path is not None:
            lead()  # the file is rank 0's
            self._handle = _locked(path)
            self._close = weakref.finalize(self, os.close, self._handle)
            try:
                self._begin(path)
            except BaseException:
                self.close()
                raise

    def __contains__(self, job: Job) -> bool:
        return job.id in self._found

    def __getitem__(self, job: Job) -> Any:
        """The result of a job, each time anew."""
        return json.loads(self._found[job.id])

    def __len__(self) -> int:
        return len(self._found)

    def add(self, job: Job, result: Any) -> None:
        """Write down the result of a job, a value that JSON can hold."""
        self.write(job, json.dumps(result))

    def write(self, job: Job, result: str) -> None:
        """As :meth:`add`, of a result that is JSON text already. The row is with the operating system on return."""
        if self._handle is not None:
            told = json.dumps({"job": job.id, "function": job.function, "arguments": job.arguments})
            self._append(f'{told[:-1]}, "result": {result}}}\n'.encode())
        self._found[job.id] = result

    def close(self) -> None:
        """Let others write the file."""
        if self._handle is not None:
            self._close()
            self._handle = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the file ------------------------------------------------------------------------------------------------------

    def _begin(self, path: Path) -> None:
        header = {"format": FORMAT, "graftsim": version(), "study": self.study}
        text = (json.dumps(header) + "\n").encode()
        with path.open("rb") as file:
            self._size = os.fstat(file.fileno()).st_size
            if self._size > FILE_BYTES:
                raise GraftsimError(f"the ledger {path} must have at most {FILE_BYTES} bytes; it has {self._size}")
            first = file.readline(LINE_BYTES)
            if text.startswith(first) and first != text:  # new, or stopped in its first line
                assert self._handle is not None
                os.ftruncate(self._handle, 0)
                self._size = 0
                self._append(text)
                return
            _check(first, header, path)
            self._cut = not self._read(file)

    def _read(self, file: IO[bytes]) -> bool:
        """Take in all rows; whether the last line is whole."""
        whole = fresh = True  # a line that is too long comes in pieces, of which none is a row
        while line := file.readline(LINE_BYTES):
            whole = line.endswith(b"\n")
            if fresh and whole:
                self._take(line)
            fresh = whole
        return whole

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            if Job(row["function"], row["arguments"]).id == row["job"]:
                self._found[row["job"]] = json.dumps(row["result"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return

    def _append(self, line: bytes) -> None:
        assert self._handle is not None
        if len(line) > LINE_BYTES or self._size + len(line) > FILE_BYTES:
            raise GraftsimError(f"the ledger {self.path} must have at most {FILE_BYTES} bytes; begin another")
        if self._cut:
            line = b"\n" + line
        self._size += len(line)
        self._cut = True
        try:
            while line:
                line = line[os.write(self._handle, line) :]
        except OSError as error:
            raise GraftsimError(f"cannot write {self.path}: {error.strerror or error}") from None
        self._cut = False


def _locked(path: Path) -> int:
    """The file, opened for appending by this process alone. The lock ends with the process, however it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise GraftsimError(f"cannot write {path}: {error.strerror or error}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise GraftsimError(f"the ledger {path} must be a regular file; it is a device or a pipe")
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise GraftsimError(
            f"the ledger {path} must be written by one process at a time; another writes it now: wait for it, or name "
            "another file"
        ) from None
    except OSError:
        pass  # a file system without locks
    return handle


def _check(first: bytes, header: dict[str, str], path: Path) -> None:
    """The first line of a file must be the header."""
    try:
        found = json.loads(first)
        if found["format"] != FORMAT:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise GraftsimError(f"{path} must be a ledger of graftsim, or a new file; it is neither") from None
    for key, what in (("graftsim", "version"), ("study", "study")):
        if found.get(key) != header[key]:
            raise GraftsimError(
                f"the ledger {path} must be of this {what}, {header[key]!r}; it is of {found.get(key)!r}; "
                "name another file"
            )
