"""Shared memory, through which the loader's workers pass images."""

import contextlib
import errno
import shutil
from collections.abc import Iterator

from utils.errors import InputError

FOLDER = "/dev/shm"


@contextlib.contextmanager
def explained_if_full() -> Iterator[None]:
    """Turn the errors of a full /dev/shm into one that says what to do.

    torch reports a full /dev/shm as a RuntimeError, of a worker if it occurs in one; Python's own locks and queues as
    an OSError without a file name.

    Raises:
        InputError: /dev/shm is full.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not _is_full(error):
            raise
        raise InputError(
            f"data.num_workers: the loader's workers ran out of shared memory{_free()}; enlarge it "
            "(docker run --shm-size=8g ...), or pass --data.num_workers 0"
        ) from None


def _is_full(error: OSError | RuntimeError) -> bool:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return error.filename is None
    text = str(error)
    return "shared memory" in text and ("No space left" in text or "Bus error" in text)


def _free() -> str:
    try:
        usage = shutil.disk_usage(FOLDER)
    except OSError:
        return ""
    return f" ({FOLDER} has {usage.total / 2**20:.1f} MB, {usage.free / 2**20:.1f} MB free now)"
