"""Free main memory, within the limits of a container."""

import contextlib
import os
from pathlib import Path, PurePosixPath

import psutil

CGROUP_MOUNT, CGROUP_MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
UNLIMITED = 2**60  # bytes; cgroup v1 writes the largest multiple of the page size below 2^63 for "no limit"


def free_main_memory() -> int:
    """Bytes that this process can still allocate, approximately."""
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
