"""How the scripts end: one clear line and a status, never a traceback for what the user can mend."""

import gc
import multiprocessing
import sys
import traceback
from collections.abc import Callable, Sequence


class InputError(Exception):
    """Wrong use or bad input; the message is one line that names the file or key and says what to do."""


def listed(items: Sequence[str], what: str, show: int = 5) -> str:
    """``listed(["a.png", "b.png"], "broken image(s)")`` is "2 broken images: a.png, b.png"; a long list is cut."""
    more = f" and {len(items) - show} more" if len(items) > show else ""
    return f"{len(items)} {what.replace('(s)', '' if len(items) == 1 else 's')}: {', '.join(items[:show])}{more}"


def printable(text: str) -> str:
    """In one line that every stream and file takes: a file's name may have several, or bytes that are no text."""
    return " ".join(text.split()).encode(errors="backslashreplace").decode()


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and exit: 0 done (or what ``main`` returns), 2 wrong use or bad input.

    An error of the file system (a full disk, a folder that cannot be written) counts as bad input. Whatever else
    goes wrong keeps its traceback and Python's exit status 1.
    """
    # A log file shows each line when it is written; a file name whose bytes are no text is shown with escapes.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        status = main()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        status = 130
    except Exception as error:
        status = _report(error)
        traceback.clear_frames(error.__traceback__)
    # Frames, of a traceback or in a cycle, may hold a loader still. At exit Python would end its workers by SIGTERM,
    # which they leave to their parent, and wait for them for ever.
    gc.collect()
    for worker in multiprocessing.active_children():
        if worker.daemon:
            worker.kill()
    sys.exit(status)


def _report(error: Exception) -> int:
    if isinstance(error, InputError):
        message = str(error)
    elif isinstance(error, OSError) and error.strerror is not None:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        traceback.print_exception(error)
        return 1
    print(f"error: {printable(message)}", file=sys.stderr)
    return 2
