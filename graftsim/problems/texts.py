"""Text to train on: the topics of Python's own help, which every CPython has, or a file.

The topics differ between versions of Python. So a problem's expression carries the digest of its text: read back where
the text is another, it gets an error, never another problem.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError

Codes = NDArray[np.int64]
TOPICS = "topics"
BYTES = 64 << 20
DIGITS = 12
BLOCKS = 200
"""A text is cut into so many blocks of like size. Of each ten the fifth is to select by, the tenth to report and the
others to train on: a text changes as it goes on, and the parts should be alike."""


@dataclass(frozen=True)
class Text:
    """Where a text comes from, and the first digits of the SHA-256 of its UTF-8."""

    source: str
    digest: str

    @property
    def characters(self) -> str:
        """The text itself."""
        return _read(self.source)

    @property
    def arguments(self) -> str:
        """As in an expression."""
        return f"text={self.source!r}, digest={self.digest!r}"


def load(name: str, source: Any, digest: Any) -> Text:
    """The text of problem ``name``: ``topics``, or the path of a file in UTF-8 of at most 64 MiB.

    Raises:
        GraftsimError: no such file, or its digest is not ``digest``, where that is given.
    """
    if not isinstance(source, str) or not source:
        raise GraftsimError(f"{name}, text: must be {TOPICS!r} or the path of a text file; received {source!r:.60}")
    try:
        found = hashlib.sha256(_read(source).encode()).hexdigest()[:DIGITS]
    except (OSError, ValueError) as problem:
        raise GraftsimError(f"{name}, text: cannot read {source!r:.60} as UTF-8 ({str(problem)[:99]})") from None
    if digest is not None and digest != found:
        raise GraftsimError(f"{name}: the text {source!r:.60} has digest {found!r}, not {digest!r:.30}; it is another")
    return Text(source, found)


@functools.lru_cache(maxsize=4)
def _read(source: str) -> str:
    if source == TOPICS:
        from pydoc_data.topics import topics

        return "\n".join(topics[key] for key in sorted(topics))
    with Path(source).open("rb") as file:
        data = file.read(BYTES + 1)
    if len(data) > BYTES:
        raise ValueError(f"it has more than {BYTES >> 20} MiB")
    return data.decode()


def parts(codes: Codes) -> tuple[list[Codes], list[Codes], list[Codes]]:
    """The blocks of training, selection and test, in the text's order."""
    blocks = np.array_split(codes, BLOCKS)
    training = [block for place, block in enumerate(blocks) if place % 5 != 4]
    return training, blocks[4::10], blocks[9::10]
