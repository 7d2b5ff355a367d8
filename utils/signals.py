"""Stopping a run from outside without losing it."""

import os
import signal
import types

STOPPED = 75  # exit status of a run that was told to stop and can go on: "temporary failure" of sysexits.h


class StopSignal:
    """Notes the first SIGTERM or SIGINT, for the loop to look at; the second ends the process at once.

    Attributes:
        received: whether to stop.
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
    """For a loader's worker: a terminal and a cluster send their signal to it as well, but the parent decides."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
