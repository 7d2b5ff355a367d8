"""How the scripts end: one clear line and a status, never a traceback for what the user can mend."""

import sys
from collections.abc import Callable


class InputError(Exception):
    """Wrong use or bad input; the message is one line that names the file or key and says what to do."""


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and exit: 0 done (or what ``main`` returns), 2 wrong use or bad input.

    An error of the file system (a full disk, a folder that cannot be written) counts as bad input. Whatever else
    goes wrong keeps its traceback and Python's exit status 1.
    """
    sys.stdout.reconfigure(line_buffering=True)  # a log file shows each line when it is written
    try:
        sys.exit(main())
    except InputError as error:
        message = str(error)
    except OSError as error:
        if error.strerror is None:
            raise
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    # An error raised in a loader's worker process arrives with that process's traceback around it.
    line = message.strip().splitlines()[-1].removeprefix(f"{InputError.__module__}.InputError: ")
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)
