"""Peak memory of live tensors."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Context manager that tracks the bytes of all tensors created by operations until they are freed.

    Unlike the process's memory, the peak is deterministic. Temporary buffers inside an operation are not counted.

    Attributes:
        peak: highest number of bytes alive at the same time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for output in tree_leaves(outputs):
            if isinstance(output, torch.Tensor):
                storage = output.untyped_storage()
                if storage.data_ptr() not in given | self.known and storage.nbytes():
                    self.known.add(storage.data_ptr())
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage.data_ptr(), storage.nbytes())
        self.peak = max(self.peak, self.now)
        return outputs

    def _freed(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.now -= size
