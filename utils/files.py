"""Text files in UTF-8, and atomic writes."""

import contextlib
import os
from pathlib import Path


def read_text(path: str | Path) -> str:
    """The content of a UTF-8 text file, whatever the locale; a byte order mark is dropped.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: the file is not UTF-8.
    """
    return Path(path).read_text(encoding="utf-8-sig")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that ``path`` is never half-written; text is encoded as UTF-8, undecodable bytes as escapes.

    Raises:
        OSError: the file cannot be written; its ``filename`` is ``path``, and an existing file is unchanged.
    """
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    temporary = path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:200])}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:  # the error for a full disk names no file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
