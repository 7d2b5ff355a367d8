"""Script exit: a one-line message and an exit status, without a traceback for errors the user can fix."""

import gc
import multiprocessing
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from utils.signals import INTERRUPTED

Parsed = TypeVar("Parsed")

LONGEST_NAME, LONGEST = 120, 2000  # characters of a name and of a line in messages


class InputError(Exception):
    """Wrong usage or bad input. The message is one line that names the file or key and says what to do."""


def listed(items: Sequence[str], what: str, show: int = 5) -> str:
    """``listed(["a.png", "b.png"], "broken image(s)")`` is "2 broken images: a.png, b.png"; names at most ``show``."""
    more = f" and {len(items) - show} more" if len(items) > show else ""
    return f"{len(items)} {what.replace('(s)', '' if len(items) == 1 else 's')}: {', '.join(items[:show])}{more}"


def printable(text: str) -> str:
    """Make text printable on one line of reasonable length.

    File names may contain newlines, escape sequences of the terminal, and bytes that are not valid text, and a message
    may quote any file. Long names lose their middle; so does a text of more than ``LONGEST`` characters.
    """
    line = escaped(" ".join(text.split()))
    line = re.sub(r"[^/\s:]+", lambda name: _cut(name[0], LONGEST_NAME), line)
    return _cut(line, LONGEST)


def shortened(text: str, length: int = 60) -> str:
    """Printable text of at most ``length`` characters, cut in the middle."""
    return _cut(printable(text[: 2 * length] + text[2 * length :][-length:]), length)


def escaped(text: str) -> str:
    """The text with every character escaped that does not print, except for newlines."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length // 2]}…{text[len(text) + 1 - (length + 1) // 2 :]}"


def or_exit(parse: Callable[..., Parsed], *arguments: object) -> Parsed:
    """What ``parse`` returns; a wrong command line ends the process, as ``run_script`` would."""
    _set_up_output()
    try:
        return parse(*arguments)
    except Exception as error:
        sys.exit(_report(error))


def run_script(main: Callable[..., int | None], *arguments: object) -> None:
    """Run a script's ``main`` and exit: 0 (or the value ``main`` returns) on success, 2 on wrong usage or bad input.

    File-system errors (full disk, missing permissions) count as bad input. Any other exception prints its traceback
    and exits with status 1.
    """
    _set_up_output()
    try:
        status = main(*arguments)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        status = INTERRUPTED
    except Exception as error:
        status = _report(error)
        traceback.clear_frames(error.__traceback__)
    gc.collect()  # a traceback or a reference cycle may keep a loader alive
    _kill_workers()
    sys.exit(status)


def _set_up_output() -> None:
    """Log files show every line as it is printed; file names that are not valid text are escaped."""
    if hasattr(sys.stdout, "reconfigure"):  # not in Jupyter and some IDEs
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def _kill_workers() -> None:
    """Kill loader workers that are still alive.

    At exit, Python would send them SIGTERM, which they ignore, and then wait for them forever. torch's handler of
    SIGCHLD would raise an error for each of them.
    """
    workers = [process for process in multiprocessing.active_children() if process.daemon]
    if not workers:
        return
    has_handler = hasattr(signal, "SIGCHLD")  # not on Windows
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if has_handler else None
    for worker in workers:
        worker.kill()
        worker.join()
    if has_handler:
        signal.signal(signal.SIGCHLD, handler)


def _report(error: Exception) -> int:
    if isinstance(error, InputError):
        message = str(error)
    elif isinstance(error, OSError) and error.strerror is not None:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding():
        message = f"{error.object}: the locale's encoding, {error.encoding}, has no such file name; set PYTHONUTF8=1"
    else:
        traceback.print_exception(error)
        return 1
    print(f"error: {printable(message)}", file=sys.stderr)
    return 2
