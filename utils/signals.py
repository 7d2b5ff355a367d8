"""Signals: every command ends at once and without a traceback, and a run stops without losing work."""

import atexit
import contextlib
import os
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path

# Exit statuses
STOPPED = 75  # after a signal, when the same command goes on; EX_TEMPFAIL in sysexits.h
INTERRUPTED = 130  # after Ctrl-C, as of a shell

unfinished: set[Path] = set()  # files to remove if a signal ends the process


def end_on_signals() -> None:
    """From now on, SIGTERM ends the process with status ``STOPPED`` and SIGINT with ``INTERRUPTED``, in one line.

    Scripts call this before their other imports, which take seconds. The process ends at once, within an import as
    well; its temporary files are removed. Under torchrun, which ends all processes when one has failed, the signals
    end the process as they do by default, even while it waits for the others.
    """
    if "RANK" in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return
    process = os.getpid()

    def end(number: int, frame: types.FrameType | None) -> None:
        if os.getpid() != process:
            return  # a loader worker that has not begun yet: the signal has reached its parent as well
        message = b"interrupted\n" if number == signal.SIGINT else b"stopped\n"
        with contextlib.suppress(OSError):
            os.write(2, b"\n" * os.isatty(2) + message)
        end_now(INTERRUPTED if number == signal.SIGINT else STOPPED)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    atexit.register(_ignore)  # all work is done, and Python restores the default handlers while it shuts down


def _ignore() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_now(status: int) -> None:
    """End the process within a signal handler, and remove its unfinished files and child processes."""
    _ignore()
    for path in list(unfinished):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    multiprocessing = sys.modules.get("multiprocessing")
    with contextlib.suppress(Exception):  # it may be half imported
        for child in multiprocessing.active_children() if multiprocessing else ():
            child.kill()
    os._exit(status)


class StopSignal:
    """Records the first SIGTERM or SIGINT for the loop to poll; the second exits immediately.

    Attributes:
        received: whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.received = False
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        if self.received:
            end_now(128 + number)
        self.received = True


def leave_signals_to_the_parent(worker: int) -> None:
    """In a loader worker, ignore SIGTERM and SIGINT: they reach the whole process group, but only the parent acts."""
    _ignore()


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes started in the block never receive SIGTERM and SIGINT, which this process receives after it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
