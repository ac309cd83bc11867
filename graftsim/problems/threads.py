"""One thread for the sums of BLAS and torch, so that a gradient's bits do not depend on how many there could be.

A matrix product adds in an order of the library's own. It is fixed by the library, its version and the processor, and
with several threads by how the work is cut. Runs side by side are processes of one thread each, which is faster too;
Python threads take turns here, since the number is a setting of the whole process.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graftsim.errors import GraftsimError

_TURN = threading.RLock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """A block in which NumPy's matrix products use one thread; the number before it comes back after it."""
    with _TURN, _blas().limit(limits=1):
        yield


@contextmanager
def one_torch_thread() -> Iterator[Any]:
    """A block in which torch uses one thread; the value is the module. This alone calls ``torch.set_num_threads``."""
    torch = torch_module()
    with _TURN:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield torch
        finally:
            torch.set_num_threads(before)


def torch_module() -> Any:
    """torch, imported when a problem first needs it.

    Raises:
        GraftsimError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise GraftsimError(
            "this problem needs torch, which is not installed; run: pip install 'graftsim[torch]'"
        ) from None
    return torch


@functools.cache
def _blas() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        raise GraftsimError(
            "this problem needs threadpoolctl, which is not installed; run: pip install 'graftsim[data]'"
        ) from None
    return ThreadpoolController().select(user_api="blas")
