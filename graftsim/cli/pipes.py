"""Files that may also be pipes: ``-`` stands for the standard input or output."""

from __future__ import annotations

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


def check_out(out: str, what: str) -> None:
    """A place for bytes: a file that can be written, or a pipe."""
    if out != STANDARD:
        documents.check_writable(Path(out))
    elif sys.stdout.isatty():
        raise GraftsimError(f"{what} is not text: pipe it, or name a file with --out")


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"
        with path.open("wb") as file:
            _copy(file.write)
        try:
            return trajectory.load(path)
        except GraftsimError as error:
            raise GraftsimError(str(error).replace(str(path), INPUT)) from None


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
    data = sys.stdin.buffer.read(documents.YAML_BYTES + 1)
    if len(data) > documents.YAML_BYTES:
        raise GraftsimError(f"{INPUT} must have at most {documents.YAML_BYTES} bytes; it is larger")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise GraftsimError(f"{INPUT} must be UTF-8 text; it has bytes that are not") from None
    return corrections.from_document(documents.parse_yaml(text, INPUT), INPUT)
