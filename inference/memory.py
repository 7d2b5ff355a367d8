"""Measure free memory, and recognise and recover from running out of it."""

import re
from concurrent.futures import Future

import torch

from utils.main_memory import free_main_memory

# What torch 2.8 to 2.12 and the libraries below it raise, in lower case. Some texts have other causes too; those errors
# come back from the first, smaller tile and are then raised.
OUT_OF_MEMORY = (
    r"out of memory",  # CUDA, ROCm and XPU allocators; CUDA runtime and driver
    r"memory_fraction",
    r"(can't|cannot|could not|failed to) allocate memory",  # DefaultCPUAllocator on Linux and macOS; CUDA
    r"not enough memory",  # DefaultCPUAllocator on Windows; oneMKL; workspaces
    r"bad[ _]alloc",  # C++
    r"alloc(ation)?_failed",  # cuBLAS, cuDNN, cuFFT, cuSOLVER
    r"cublas_status_not_initialized",  # cublasCreate without memory for its workspace
    r"cudnn_status_not_supported",  # convolutions too large for every algorithm
    r"unable to find an engine|unable to find a valid cudnn algorithm",
    r"no execution plans support|no valid execution plan",  # cuDNN frontend
    r"could not (create|execute) a ",  # oneDNN: primitive, memory object, primitive descriptor
)
TOO_LARGE = (  # more elements than 32-bit indices reach, or than a size fits into
    r"int_max",
    r"integer out of range",
    r"32-?bit ?index ?math",
    r"(tensor|size) (is )?too large|input too large|too large to fit into",
    r"integer multiplication overflow|storage size calculation overflowed|without overflow",
    r"invalid configuration argument|kernel launch blocks must be positive",  # CUDA grids
)
PATTERN = re.compile("|".join(OUT_OF_MEMORY + TOO_LARGE))
BESIDE = 1 / 16  # of the free main memory, for what another thread does while the network runs

_promises: dict[Future, float] = {}


def fits_beside(size: float) -> bool:
    """Whether work that takes ``size`` bytes of main memory, 0 if unknown, can be done while the network runs."""
    return 0 < size < BESIDE * free_memory(torch.device("cpu"))


def promise(work: Future, size: float) -> None:
    """Count ``size`` bytes of main memory as taken until ``work`` is done, whether it has begun or not."""
    _promises[work] = size
    work.add_done_callback(_promises.pop)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on ``device``, approximately; on the CPU within the container's limit.

    What is promised to other threads is not free.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_main_memory() - int(sum(tuple(_promises.values())))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a tensor did not fit: into device or main memory, or into 32-bit indices."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and PATTERN.search(str(error).lower()) is not None


def release_cached_memory() -> None:
    """Return unused memory held by torch's CUDA allocator to the device.

    Call it outside of the ``except`` block: the traceback there keeps the tensors of the failed call alive.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
