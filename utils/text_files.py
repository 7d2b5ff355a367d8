"""Read files that people write: regular ones of a reasonable size, in any Unicode encoding."""

import codecs
import errno
import os
import stat
from pathlib import Path

MAX_TEXT = 10_000_000  # bytes of a file that people write: a configuration, a list of images

# The longer marks come first: that of UTF-32 starts with that of UTF-16.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_bytes(path: str | Path, limit: int = MAX_TEXT) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: the file cannot be read, is not a regular file, or has more than ``limit`` bytes.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"more than {limit / 1e6:.0f} MB, too large for such a file", str(path))
    return content


def read_text(path: str | Path, limit: int = MAX_TEXT) -> str:
    """The content of a text file, whatever the locale: UTF-8, or the Unicode encoding that its byte order mark names.

    Line ends become newlines, and the mark is dropped.

    Raises:
        OSError: see ``read_bytes``.
        UnicodeDecodeError: the file is not in that encoding.
    """
    content = read_bytes(path, limit)
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; opening a pipe would wait for somebody who writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def expand_home(path: str | Path) -> Path:
    """The path with a leading ``~`` or ``~USER`` replaced by that user's home folder, as the shell does."""
    return Path(os.path.expanduser(path))
