"""The one way in which files are written: whole, or not at all."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from utils.errors import InputError
from utils.signals import unfinished

try:
    import fcntl
except ImportError:  # Windows, where leftovers of killed processes stay
    fcntl = None

_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.part", re.DOTALL)

_swept: set[Path] = set()  # folders in which this process has looked for leftovers


def write_atomically(path: Path, content: bytes | str, sync: bool = False) -> None:
    """Write a file by ``replacing``; text is encoded as UTF-8, undecodable bytes as escapes.

    Raises:
        OSError: see ``replacing``.
    """
    with replacing(path, sync=sync) as file:
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path, sync: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an error, and is removed otherwise.

    The temporary file lies in the same folder, which is created if it is missing. Its name is random and it is opened
    with O_EXCL, so that no link is followed; if ``path`` is a link, the link is replaced, not the file it points to.
    The file is locked until it is complete: temporary files that are not were left behind by killed processes, and the
    first call for a folder removes them.

    Args:
        path: the file to write.
        sync: flush the file and its folder to disk, so that a power cut loses neither the old nor the new content.

    Raises:
        OSError: the file cannot be written; the ``filename`` of the error is ``path``, and an existing file is
            unchanged.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        temporary = path.with_name(f".{short_name(path)}.{os.urandom(8).hex()}.part")
        unfinished.add(temporary)
        file = _new_file(temporary)
        with open(os.dup(file.fileno()), "wb"):  # keeps it locked until it is renamed
            with file:
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:  # the error for a full disk names no file
        if error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            unfinished.discard(temporary)


def without_links(path: str, flags: int) -> int:
    """Opener for ``open`` that fails if the file is a symbolic link; a new file gets the usual permissions."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def sha256_of(path: Path) -> str:
    """The SHA-256 digest of a file's content, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_name(path: Path) -> str:
    """The name of a file, cut so that what is added to it keeps within the 255 bytes of a file system."""
    return os.fsdecode(os.fsencode(path.name)[:200])


def check_inside(path: Path, output: Path) -> None:
    """Refuse to write a file outside ``output``, which may be a symbolic link itself.

    Raises:
        InputError: ``path`` or a folder on the way to it is a symbolic link that leads out of ``output``, or it
            contains "..".
    """
    root = os.path.realpath(output)
    for part in (path.parent, path):
        if not Path(os.path.realpath(part)).is_relative_to(root):
            raise InputError(
                f"{part}: a symbolic link or '..' leads out of the output folder; remove it (--output itself may be a "
                "link to a folder elsewhere)"
            )


def _new_file(path: Path) -> BinaryIO:
    """Create and lock a file; it stays unlocked where the file system has no locks, and is then never a leftover."""
    while True:
        file = open(path, "xb")  # noqa: SIM115  "x" is O_CREAT | O_EXCL
        with contextlib.suppress(OSError):
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return file
        file.close()  # another process took it for a leftover before it was locked


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that have ended; those in use are locked."""
    if folder in _swept or fcntl is None:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError), open(entry, "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry)


def _sync_folder(folder: Path) -> None:
    """Flush the rename to disk, where the system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
