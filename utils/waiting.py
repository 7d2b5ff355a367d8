"""How long a loop waits for its data."""

import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class TimedWaiting(Generic[Batch]):
    """Iterates over ``loader`` and adds up the seconds in which its user waited for the next batch.

    Of a GPU, which works on while the loop already waits, this is the most that it can have been idle for.
    """

    def __init__(self, loader: Iterable[Batch]) -> None:
        self.loader = loader
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        start = time.perf_counter()  # starting the workers, or an epoch, is waiting too
        for batch in self.loader:
            self.seconds += time.perf_counter() - start
            yield batch
            start = time.perf_counter()

    def take(self) -> float:
        """The seconds since this was last asked."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds
