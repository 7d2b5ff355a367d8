"""A GPU without memory or values, for checking on any machine what happens where.

torch's fake tensors know device, shape and type and refuse to mix devices, but their backward pass needs the device's
driver, which CUDA does not have here. So the device is one that torch lets Python define, and it lives in a process by
itself, because torch takes it for the machine's accelerator from then on.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("privateuseone", 0)

aten = torch.ops.aten
READS = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal)


def on_a_fake_gpu(function: Callable, *args: object) -> None:
    """Call ``function(*args)`` in a new process in which every new tensor is fake and may be on ``GPU``."""
    torch.multiprocessing.spawn(_call, (function, args))


def _call(rank: int, function: Callable, args: tuple) -> None:
    from torch._subclasses.fake_tensor import FakeTensorConverter, FakeTensorMode
    from torch.utils import backend_registration

    torch.utils.rename_privateuse1_backend("gpu")

    class Backend(backend_registration._DummyBackendModule):
        def is_available(self) -> bool:
            return False  # or constants would be copied to it in earnest

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16, torch.float16]

    backend_registration._setup_privateuseone_for_python_backend("gpu", Backend())
    autocast = torch.library.Library("_", "IMPL")
    autocast.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    # Its memo holds weak references to parameters, which Module.to then cannot exchange.
    FakeTensorConverter.set_tensor_memo = lambda self, tensor, fake: None
    FakeTensorMode.__deepcopy__ = lambda self, memo: self
    with FakeTensorMode():
        function(*args)


@contextlib.contextmanager
def fake_group(size: int) -> Iterator[None]:
    """The first of ``size`` processes, the others of which do not exist; exchanges leave tensors as they are."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=size)
    yield
    dist.destroy_process_group()


class Waits(TorchDispatchMode):
    """Within it, notes every operation for which the host waits for ``GPU``.

    Attributes:
        operations: their names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kind = function.overloadpacket
        if kind in READS and args[0].device == GPU:
            self.operations.append(str(function))
        output = function(*args, **kwargs)
        if kind in (aten._to_copy, aten.copy_):
            target, source = args[:2] if kind is aten.copy_ else (output, args[0])
            queued = kwargs.get("non_blocking") or True in args[2:]  # to the host torch takes pinned memory then
            if source.device != target.device and not queued:
                self.operations.append(f"{function} from {source.device} to {target.device}")
        return output
