"""A journal: rows of JSON that are appended to a file and never changed, so that work that was stopped goes on.

The first line is a header that says what the rows are of. A row that was cut off, by a kill or a full disk, is passed
over, and the next one begins a line of its own. One process at a time writes a journal.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from graftsim.errors import GraftsimError

try:
    import fcntl
except ImportError:  # not POSIX: nothing to lock with
    fcntl = None  # type: ignore[assignment]

LINE_BYTES = 1 << 25
FILE_BYTES = 1 << 29


class Journal:
    """A file of rows, locked by this process until it is closed.

    Args:
        path: the file; it is made where there is none.
        header: what its first line says, ``format`` among it.
        take: is given each row that the file has; one that it raises ValueError, KeyError or TypeError at is none.

    Raises:
        GraftsimError: a file that cannot be written, has another header, is too large, or is being written by another
            process.
    """

    def __init__(self, path: Path, header: Mapping[str, str], take: Callable[[Any], object]) -> None:
        self.path = path
        self._size, self._cut = 0, False
        self._handle = _locked(path)
        self.close = weakref.finalize(self, os.close, self._handle)
        """Let others write the file; a journal that nobody holds is closed."""
        try:
            self._begin(header, take)
        except BaseException:
            self.close()
            raise

    def append(self, row: str) -> None:
        """Write down a row, an object as JSON text on one line. It is with the operating system on return.

        Raises:
            GraftsimError: the file is full, or cannot be written; what was written of the row is passed over.
        """
        line = row.encode() + b"\n"
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

    def _begin(self, header: Mapping[str, str], take: Callable[[Any], object]) -> None:
        text = json.dumps(dict(header))
        with self.path.open("rb") as file:
            self._size = os.fstat(file.fileno()).st_size
            if self._size > FILE_BYTES:
                raise GraftsimError(f"the ledger {self.path} must have at most {FILE_BYTES} bytes; it has {self._size}")
            first = file.readline(LINE_BYTES)
            whole = f"{text}\n".encode()
            if whole.startswith(first) and first != whole:  # new, or stopped in its first line
                os.ftruncate(self._handle, 0)
                self._size = 0
                self.append(text)
                return
            _check(first, header, self.path)
            self._cut = not _read(file, take)


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


def _read(file: IO[bytes], take: Callable[[Any], object]) -> bool:
    """Take in all rows; whether the last line is whole."""
    whole = fresh = True  # a line that is too long comes in pieces, of which none is a row
    while line := file.readline(LINE_BYTES):
        whole = line.endswith(b"\n")
        if fresh and whole:
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                take(json.loads(line))
        fresh = whole
    return whole


def _check(first: bytes, header: Mapping[str, str], path: Path) -> None:
    """The first line of a file must be the header."""
    try:
        found = json.loads(first)
        if found["format"] != header["format"]:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise GraftsimError(f"{path} must be a ledger of graftsim, or a new file; it is neither") from None
    for key, value in header.items():
        if found.get(key) != value:
            what = "version" if key == "graftsim" else key
            raise GraftsimError(
                f"the ledger {path} must be of this {what}, {value!r}; it is of {found.get(key)!r}; name another file"
            )
