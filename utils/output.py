"""The output folder of a script: used by one process at a time, and nothing is written outside it."""

import contextlib
import errno
import json
import os
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from utils.errors import InputError, printable
from utils.files import check_inside
from utils.signals import unfinished

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # from file systems without locks


@contextlib.contextmanager
def claimed(output: Path, script: str, files: Iterable[Path] = ()) -> Iterator[None]:
    """Keep other processes that run ``script`` out of ``output`` during the block; the folder is created if missing.

    The claim is a POSIX lock on the file .SCRIPT.lock, which names the process; it ends with the process. A lock file
    that a killed process left behind is taken over, with a note on stderr. On a file system without locks the lock
    file is taken over if it names a process of this machine that has ended.

    Args:
        output: the folder; if it is created here, it is removed again unless something has been written to it.
        script: the name of the script, for the lock file and messages.
        files: what the script is going to write.

    Raises:
        InputError: another process holds the lock, or one of ``files`` lies outside ``output``.
        OSError: the folder or the lock file cannot be created.
    """
    created = [folder for folder in (output, *output.parents) if not folder.exists()]
    lock = output / f".{Path(script).stem}.lock"
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path in (lock, *files):
            check_inside(path, output)
        with _locked(lock, script):
            yield
    finally:
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _locked(lock: Path, script: str) -> Iterator[None]:
    descriptor = _open(lock)
    while not _take(descriptor, lock, script):
        descriptor = _open(lock)
    unfinished.add(lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # before the lock is released, so that it is that of this process
        os.close(descriptor)
        unfinished.discard(lock)


def _open(lock: Path) -> int:
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # not on Windows
    return os.open(lock, os.O_RDWR | os.O_CREAT | flags, 0o644)


def _take(descriptor: int, lock: Path, script: str) -> bool:
    """Lock the file and write into it who holds it; closes it and returns False if its holder has just removed it."""
    taken = False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{lock}: not a regular file; remove it")
        try:
            has_locks = _lock(descriptor)
        except (BlockingIOError, PermissionError):
            raise InputError(_refusal(lock, script, _read(descriptor))) from None
        if not lock.exists() or not os.path.samestat(os.fstat(descriptor), os.stat(lock)):
            return False
        holder = _read(descriptor)
        if holder and not has_locks and not _has_ended(holder):
            raise InputError(f"{_refusal(lock, script, holder)}; if it has ended, remove {lock}")
        if holder:
            note = f"{lock.parent}: taken over from {script}, {_described(holder)}, which was killed"
            print(f"note: {printable(note)}", file=sys.stderr)
        _write(descriptor, lock)
        taken = True
    finally:
        if not taken:
            os.close(descriptor)
    return True


def _lock(descriptor: int) -> bool:
    """Lock a file for this process; returns False if the file system has no locks.

    Raises:
        BlockingIOError, PermissionError: another process has locked it.
    """
    try:
        if fcntl is not None:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return fcntl is not None


def _read(descriptor: int) -> dict[str, Any]:
    """Who holds the lock; empty if the file is."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    content = os.read(descriptor, 4096)
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        return dict(json.loads(content)) if content else {}
    except (ValueError, TypeError):
        return {"process": "unknown"}


def _write(descriptor: int, lock: Path) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    own = {"process": os.getpid(), "host": socket.gethostname(), "started": now}
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(own).encode())
    except OSError as error:  # a full disk
        lock.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(lock)) from None


def _described(holder: dict[str, Any]) -> str:
    return f"process {holder.get('process')} on {holder.get('host')} (started {holder.get('started')})"


def _refusal(lock: Path, script: str, holder: dict[str, Any]) -> str:
    who = f"{script}, {_described(holder)}," if holder else f"Another {script}"
    return f"{lock.parent}: {who} is writing to it; wait until it has ended, or choose another --output"


def _has_ended(holder: dict[str, Any]) -> bool:
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("process"), int):
        return False
    try:
        os.kill(holder["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
