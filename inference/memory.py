"""Measure free memory, and recognise and recover from running out of it."""

import contextlib
import os
import re
from pathlib import Path, PurePosixPath

import psutil
import torch

CGROUP_MOUNT, CGROUP_MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
UNLIMITED = 2**60  # bytes; cgroup v1 writes the largest multiple of the page size below 2^63 for "no limit"

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


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on ``device``, approximately; on the CPU within the container's limit."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free, limit = psutil.virtual_memory().available, cgroup_free_memory()
    return free if limit is None else min(free, limit)


def cgroup_free_memory(mount: Path = CGROUP_MOUNT, membership: Path = CGROUP_MEMBERSHIP) -> int | None:
    """Bytes this process may still allocate under the memory limits of its control groups; None without a limit.

    Every ancestor's limit applies. Page cache on the inactive list counts as free, because the kernel reclaims it
    before it enforces a limit; usage without it is what Kubernetes calls the working set.

    Args:
        mount: where the cgroup file systems are mounted, v1 controllers in folders named after them.
        membership: the process's control groups, in the format of /proc/PID/cgroup (cgroups(7)).
    """
    free = []
    for folder, limit, usage, inactive in _cgroups(mount, membership):
        with contextlib.suppress(OSError, ValueError):  # no such file, or the limit is "max"
            most, used = (int((folder / name).read_text()) for name in (limit, usage))
            if most < UNLIMITED:
                free.append(most - used + _statistic(folder / "memory.stat", inactive))
    return max(0, min(free)) if free else None


def _cgroups(mount: Path, membership: Path) -> list[tuple[Path, str, str, str]]:
    """For each memory cgroup of the process and its ancestors: folder, file names of limit and usage, key of the cache.

    A container may see its own cgroup as the root of the mount while its path is that on the host, so the root is
    included whatever the path.
    """
    v1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    v2 = ("memory.max", "memory.current", "inactive_file")
    paths = {"": "/", "memory": "/"}
    with contextlib.suppress(OSError):
        for line in os.fsdecode(membership.read_bytes()).splitlines():
            _, controllers, path = line.split(":", 2)
            paths |= {name: path for name in controllers.split(",") if name in paths}
    found = []
    for root, name, files in ((mount, "", v2), (mount / "memory", "memory", v1)):
        path = PurePosixPath(paths[name].lstrip("/"))
        if ".." in path.parts:  # outside of the cgroup namespace
            path = PurePosixPath()
        found += [(root / part, *files) for part in (path, *path.parents)]
    return found


def _statistic(file: Path, key: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(dict(line.split() for line in file.read_text().splitlines()).get(key, 0))
    return 0


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
