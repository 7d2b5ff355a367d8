"""Peak memory of live tensors."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Context manager that tracks the bytes of all tensors created by operations until they are freed.

    Unlike the process's memory, the peak is deterministic, and known on the meta device, too. Temporary buffers inside
    an operation are not counted.

    Attributes:
        peak: highest number of bytes alive at the same time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        given = _storages((args, kwargs))
        for storage in _storages(outputs):
            if storage not in self.known and not any(storage is other for other in given):
                self.known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return outputs

    def _freed(self, size: int) -> None:
        self.now -= size


def _storages(values: object) -> list[torch.UntypedStorage]:
    return [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
