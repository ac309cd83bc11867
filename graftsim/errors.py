"""The one exception that a user's mistake raises, and the hint of a nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GraftsimError(ValueError):
    """What the user gave cannot be used.

    The message is one line: what must hold, what was received, what to do. The command line prints it
    without a traceback and exits with 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """A tail for an error about an unknown name: the closest known name, else the list of known ones.

    >>> nearest("adan", ["adam", "sgd"])
    "; did you mean 'adam'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(names)}" if names else ""
