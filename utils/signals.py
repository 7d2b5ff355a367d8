"""Stop a run by a signal without losing work."""

import os
import signal
import types

STOPPED = 75  # exit status after a stop signal, when the run can be continued; EX_TEMPFAIL in sysexits.h


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
            os._exit(128 + number)
        self.received = True


def leave_signals_to_the_parent(worker: int) -> None:
    """In a loader worker, ignore SIGTERM and SIGINT: they reach the whole process group, but only the parent acts."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
