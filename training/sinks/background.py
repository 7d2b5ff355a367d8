"""A service that is written to in the background, so that it can neither delay a training nor end it."""

import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from utils.errors import printable, shortened

WAITING = 1000  # calls that may wait for a service; further ones are left out
OPEN_SECONDS = 30  # to wait for the service at the start
CLOSE_SECONDS = 60  # to wait at the end for what has not arrived


class Background:
    """Calls the methods of a sink in a thread of its own, in order.

    A call that fails is left out. A warning on stderr tells of the first one, and again after calls that succeeded.
    Opening the sink is tried again with each call.

    Args:
        name: of the service, for the warning and for ``open``.
        open: opens the sink.
    """

    def __init__(self, name: str, open: Callable[[str], Any]) -> None:
        self.name, self.open = name, open
        self.sink: Any = None
        self.failing = False
        self.calls: queue.Queue[tuple[str, tuple] | None] = queue.Queue(WAITING)
        self.opened = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()
        # Loader workers are forked soon: better not while a package is being imported.
        self.opened.wait(OPEN_SECONDS)

    def call(self, method: str, *arguments: Any) -> None:
        """Have a method of the sink called; returns at once."""
        try:
            self.calls.put_nowait((method, arguments))
        except queue.Full:
            self._warn("it is too slow")

    def close(self, finished: bool) -> None:
        """Close the sink when all calls are done, or give up after ``CLOSE_SECONDS``."""
        self.call("close", finished)
        self.call("")
        self.thread.join(CLOSE_SECONDS)
        if self.thread.is_alive():
            self._warn(f"it has not taken everything within {CLOSE_SECONDS} s")

    def _work(self) -> None:
        self._try("opened", ())
        self.opened.set()
        while (call := self.calls.get())[0]:
            self._try(*call)

    def _try(self, method: str, arguments: tuple) -> None:
        try:
            if self.sink is None:
                self.sink = self.open(self.name)
            if method != "opened":
                getattr(self.sink, method)(*arguments)
            self.failing = False
        except (Exception, SystemExit) as error:  # whatever it is, it is the service's
            self._warn(f"{type(error).__name__}: {error}")

    def _warn(self, problem: str) -> None:
        if not self.failing:
            self.failing = True
            line = (
                f"warning: {self.name}: {shortened(problem, 300)}; the training goes on, and points are missing there"
            )
            tqdm.write(printable(line), file=sys.stderr)
