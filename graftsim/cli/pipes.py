"""Files that may also be pipes: ``-`` stands for the standard input or output."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from graftsim import corrections, documents, trajectory
from graftsim.corrections import Corrections
from graftsim.errors import GraftsimError
from graftsim.trajectory import Trajectory

STANDARD = "-"
INPUT = "the standard input"


def binary_out(out: str | None) -> str:
    """Where bytes go: a file that can be written, or the standard output, by default where that is no terminal."""
    place = STANDARD if out is None else out
    if place != STANDARD:
        documents.check_writable(Path(place))
    elif sys.stdout.isatty():
        raise GraftsimError(
            "a recording is not text: pipe it, or name a file with --out, as in: graftsim record ... | graftsim fit -, "
            "or graftsim record ... --out run.npz"
        )
    return place


def text_out(out: str | None) -> tuple[str | None, Console]:
    """Where text goes, and where words about it are printed.

    A file has the text alone, and so has ``-``, beside which the words go to the standard error. By default a terminal
    shows the words and not the text; whatever else the standard output is gets the text under the words, as comments.
    """
    if out is None and not sys.stdout.isatty():
        return STANDARD, Console(file=Comments(), force_terminal=False)
    if out not in (None, STANDARD):
        documents.check_writable(Path(out))
    return out, Console(stderr=out == STANDARD)


class Comments(io.StringIO):
    """The standard output, each line of it a comment of YAML. Nothing is held back."""

    def __init__(self) -> None:
        super().__init__()
        self._fresh = True

    def write(self, text: str, /) -> int:
        for line in text.splitlines(keepends=True):
            sys.stdout.write(f"# {line}" if self._fresh else line)
            self._fresh = line.splitlines() != [line]  # any of the ends of lines that YAML knows
        return len(text)


def save(found: Trajectory, out: str, console: Console) -> None:
    """Write a recording to a file, and say so, or to the standard output."""
    if out != STANDARD:
        found.save(out)
        console.print(f"saved {out}", highlight=False, soft_wrap=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"
        found.save(path)
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def recording(source: str) -> Trajectory:
    """A recording from a file or the standard input."""
    if source != STANDARD:
        return trajectory.load(source)
    _check_in("a recording")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"
        with path.open("wb") as file:
            _copy(file.write)
        try:
            return trajectory.load(path)
        except GraftsimError as error:
            raise GraftsimError(str(error).replace(str(path), INPUT)) from None


def _check_in(what: str) -> None:
    """Nobody types these, and without a word a command would wait for it for ever."""
    if sys.stdin.isatty():
        raise GraftsimError(f"{INPUT} must be {what}, from a pipe or a file; it is a terminal: name a file")


def _copy(write: Callable[[bytes], object]) -> None:
    """All of the standard input, up to the size that a recording may have."""
    room = trajectory.BYTES
    while chunk := sys.stdin.buffer.read(1 << 20):
        room -= len(chunk)
        if room < 0:
            raise GraftsimError(f"{INPUT} must have at most {trajectory.BYTES} bytes; it has more")
        write(chunk)


def corrections_of(source: str) -> Corrections:
    """Corrections from a file or the standard input."""
    if source != STANDARD:
        return corrections.read(source)
    _check_in("corrections")
    data = sys.stdin.buffer.read(documents.YAML_BYTES + 1)
    if len(data) > documents.YAML_BYTES:
        raise GraftsimError(f"{INPUT} must have at most {documents.YAML_BYTES} bytes; it is larger")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise GraftsimError(f"{INPUT} must be UTF-8 text; it has bytes that are not") from None
    return corrections.from_document(documents.parse_yaml(text, INPUT), INPUT)
