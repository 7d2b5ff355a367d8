"""Files that are written whole or not at all."""

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that ``path`` never holds half of it; text as UTF-8, what is no text in it as escapes.

    Raises:
        OSError: it cannot be written, and names the file; what was there before is still there.
    """
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    temporary = path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:200])}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:  # that of a full disk has no name
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
