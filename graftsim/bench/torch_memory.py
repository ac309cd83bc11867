"""How much memory the tensors that a call makes take at their peak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Counter(TorchDispatchMode):  # type: ignore[misc]
    """Looks at the storages of all that operations return; what a kernel takes for itself is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.before: set[int] = set()
        self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor) and self._key(tensor) not in self.alive:
                self.before.add(self._key(tensor))
        found = function(*args, **(kwargs or {}))
        self.alive = {key: (ref, size) for key, (ref, size) in self.alive.items() if not ref.expired()}
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and self._key(tensor) not in self.before:
                storage = tensor.untyped_storage()
                self.alive[self._key(tensor)] = (StorageWeakRef(storage), storage.nbytes())
        self.most = max(self.most, sum(size for _, size in self.alive.values()))
        return found

    @staticmethod
    def _key(tensor: Tensor) -> int:
        key: int = tensor.untyped_storage()._cdata
        return key


def peak(work: Callable[[], object]) -> int:
    """The largest number of bytes in storages that were made during a call and not yet given up."""
    with _Counter() as counter:
        work()
    most: int = counter.most
    return most
