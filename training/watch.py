"""Monitoring: mean losses, skipped steps and throughput between two points of the curves, and broken images."""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from training.step import Update
from utils.distributed import Group
from utils.errors import listed, printable

Batch = TypeVar("Batch")

LAG = 1  # updates after which the count of skipped ones is read, so that the device always has the next one queued


class TimedLoader(Generic[Batch]):
    """Iterates over ``loader`` and measures how long the training loop waits for batches.

    A GPU may still be computing while the loop waits, so this is an upper bound on its idle time.
    """

    def __init__(self, loader: Iterable[Batch]) -> None:
        self.loader = loader
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        start = time.perf_counter()  # includes the start of the workers and of each epoch
        for batch in self.loader:
            self.seconds += time.perf_counter() - start
            yield batch
            start = time.perf_counter()

    def take(self) -> float:
        """The seconds spent waiting since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class Meter:
    """Accumulates the figures of the updates on the device and reads them once per point of the curves.

    An update whose loss or gradient is not finite is counted as skipped and enters no mean.

    Args:
        group: the processes that train together.
        max_skipped: the run must end after this many skipped updates in a row.
        loader: the loader of the batches, for the time spent waiting.
    """

    def __init__(self, group: Group, max_skipped: int, loader: TimedLoader) -> None:
        self.group, self.max_skipped, self.loader = group, max_skipped, loader
        self.sums: dict[str, Tensor] = {}  # by curve
        self.finite = torch.zeros((), device=group.device)
        self.in_a_row = torch.zeros((), device=group.device)
        self.finite_in_epoch = torch.zeros((), device=group.device)
        self.names: deque[Sequence[str]] = deque(maxlen=max_skipped)
        self.counts: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()  # skipped updates in a row, on the host
        self.count = self.images = self.in_epoch = 0
        self.start = time.perf_counter()

    def add(self, update: Update, batch: Mapping[str, Any]) -> str | None:
        """Add an update and the images of its batch.

        Returns:
            Why the run must end: too many skipped updates in a row, reported ``LAG`` updates late. None if it can
            continue.
        """
        figures = {f"loss/{term}": value for term, value in update.loss.computed().items()}
        for curve, value in (figures | {"train/grad_norm": update.grad_norm}).items():
            self.sums[curve] = self.sums.get(curve, 0) + torch.where(update.finite, value, 0)
        self.finite += update.finite
        self.in_a_row = torch.where(update.finite, 0, self.in_a_row + 1)
        self.names.append(batch["name"])
        self.finite_in_epoch += update.finite
        self.images += len(batch["name"])
        self.count += 1
        self.in_epoch += 1
        # Copy now and read later, when the device has long computed it.
        self.counts.append((self.in_a_row.to("cpu", non_blocking=True), self._event()))
        return self._too_many(*self.counts.popleft()) if len(self.counts) > LAG else None

    def end_epoch(self, steps: int) -> str | None:
        """Wait for the device.

        Returns:
            Why the run must end: too many updates in a row, or all ``steps`` of the epoch, were skipped. None if it
            can continue.
        """
        while self.counts:
            if problem := self._too_many(*self.counts.popleft()):
                return problem
        all_skipped = steps == self.in_epoch and self.finite_in_epoch.item() == 0  # unless resumed within it
        self.finite_in_epoch.zero_()
        self.in_epoch = 0
        return f"no step of the epoch had a finite loss and gradient; {self._advice()}" if all_skipped else None

    def _event(self) -> torch.cuda.Event | None:
        if self.group.device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record()
        return event

    def _too_many(self, in_a_row: Tensor, event: torch.cuda.Event | None) -> str | None:
        if event is not None:
            event.synchronize()
        if in_a_row < self.max_skipped:
            return None
        return f"{int(in_a_row)} steps in a row had a loss or gradient that is not finite; {self._advice()}"

    def _advice(self) -> str:
        names = list(dict.fromkeys(name for batch in self.names for name in batch))
        images = listed(names, "image(s) of these batches")
        return f"lower train.lr, or check {images} (train.max_skipped is {self.max_skipped})"

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the block from the training time."""
        start = time.perf_counter()
        yield
        self.start += time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The means since the last call, by curve; without losses and gradient norm if all updates were skipped."""
        sums = self.group.mean(torch.stack([*self.sums.values()]))
        *sums, finite = torch.cat([sums, self.finite[None]]).tolist()
        seconds = time.perf_counter() - self.start
        values = {curve: value / finite for curve, value in zip(self.sums, sums, strict=True)} if finite else {}
        values["train/skipped_steps"] = self.count - int(finite)
        values["train/images_per_second"] = self.images * self.group.size / seconds
        values["train/waiting_for_data"] = self.loader.take() / seconds
        if self.group.device.type == "cuda":
            values["train/gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self.count = self.images = 0
        self.sums = {}
        self.finite.zero_()
        self.start = time.perf_counter()
        return values


def record_broken(batch: Mapping[str, Any], known: dict[str, str], max_broken: int, group: Group) -> str | None:
    """Add the broken images found by any process to ``known``, and warn about each new one.

    Returns:
        Why the run must end: more than ``max_broken`` broken images, or a batch without any readable image. None if
        it can continue.
    """
    everywhere = group.gather([(batch["broken"], "input" in batch)])
    for broken, _ in everywhere:
        for file, problem in broken.items():
            if group.is_main and file not in known:
                tqdm.write(f"warning: {printable(problem)}; replaced by other images", file=sys.stderr)
            known.setdefault(file, problem)
    if len(known) <= max_broken and all(is_whole for _, is_whole in everywhere):
        return None
    return listed(list(known.values()), "broken training image(s)", len(known)) + f" (data.max_broken is {max_broken})"
