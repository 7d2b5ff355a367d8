"""The processor as this process sees it."""

import os


def available_cores() -> set[int]:
    """Numbers of the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def cpu_count() -> int:
    """Number of CPU cores that this process may use."""
    return len(available_cores())
