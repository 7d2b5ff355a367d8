"""How much memory is free, and what to do when it runs out."""

import os
from pathlib import Path

import torch

CGROUPS = (  # limit and use of a container's memory: version 2, version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on ``device``, about; for the CPU the container's limit counts too."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux: as good a guess as any
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    for limit, used in CGROUPS:
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such version, or no limit ("max")
            continue
    return max(0, free)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's or the main memory does not suffice."""
    words = ("can't allocate memory", "not enough memory", "std::bad_alloc", "could not create a ")  # the last: oneDNN
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(word in str(error) for word in words)


def release_cached_memory() -> None:
    """Give back what torch keeps of the device's memory for later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
