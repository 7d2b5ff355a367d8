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


class Sums:
    """The figures of the updates since the last point of the curves, or since the start of the epoch.

    Args:
        loader: the loader of the batches.
        before: of an epoch that is resumed, what ``state`` returned.
    """

    def __init__(self, loader: TimedLoader, before: Mapping[str, float] | None = None) -> None:
        self.before = before or {}
        self.names: list[str] = []
        self.on_device: Tensor | None = None  # sums over the finite updates, one for each of ``names``
        self.count, self.images = (int(self.before.get(name, 0)) for name in ("count", "images"))
        self.loader = loader
        self.start = time.perf_counter() - self.before.get("seconds", 0.0)
        self.waited_before = loader.seconds - self.before.get("waiting", 0.0)

    def add(self, names: list[str], figures: Tensor, images: int) -> None:
        """Add an update's figures by name, 0 if it was skipped, and the number of its images."""
        if self.on_device is None:
            before = torch.tensor([self.before.get(name, 0.0) for name in names])
            self.names, self.on_device = names, before.to(figures.device, non_blocking=True)
        self.on_device = self.on_device + figures
        self.images += images
        self.count += 1

    def means(self, group: Group) -> dict[str, float]:
        """Means over the finite updates, if there are any, by name; images per second, and the time spent waiting.

        All processes must call this. ``waiting_for_data`` is a fraction of the time.
        """
        sums = dict(zip(self.names, group.mean(self.on_device.clone()).tolist(), strict=True))
        finite = sums.pop("finite")
        seconds = time.perf_counter() - self.start
        means = {name: value / finite for name, value in sums.items()} if finite else {}
        return means | {
            "skipped_steps": self.count - int(finite),
            "images_per_second": self.images * group.size / seconds,
            "waiting_for_data": (self.loader.seconds - self.waited_before) / seconds,
        }

    def state(self) -> dict[str, float]:
        """What continues these sums after resuming; of several processes, the main one's share stands for all."""
        if self.on_device is None:
            return dict(self.before)
        sums = dict(zip(self.names, self.on_device.tolist(), strict=True))
        times = {"seconds": time.perf_counter() - self.start, "waiting": self.loader.seconds - self.waited_before}
        return sums | times | {"count": self.count, "images": self.images}


class Meter:
    """Accumulates the figures of the updates on the device and reads them once per point of the curves.

    An update whose loss or gradient is not finite is counted as skipped and enters no mean.

    Args:
        group: the processes that train together.
        max_skipped: the run must end after this many skipped updates in a row.
        loader: the loader of the batches, for the time spent waiting.
        so_far: of an epoch that is resumed, what ``so_far`` returned when it was saved.
    """

    def __init__(
        self, group: Group, max_skipped: int, loader: TimedLoader, so_far: Mapping[str, float] | None = None
    ) -> None:
        self.group, self.max_skipped, self.loader = group, max_skipped, loader
        self.sums, self.epoch = Sums(loader), Sums(loader, so_far)
        self.in_a_row = torch.zeros((), device=group.device)
        self.names: deque[Sequence[str]] = deque(maxlen=max_skipped)
        self.counts: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()  # skipped updates in a row, on the host

    def add(self, update: Update, batch: Mapping[str, Any]) -> str | None:
        """Add an update and the images of its batch.

        Returns:
            Why the run must end: too many skipped updates in a row, reported ``LAG`` updates late. None if it can
            continue.
        """
        terms = update.loss.computed()
        names = [*(f"loss/{term}" for term in terms), "grad_norm", "finite"]
        values = [*terms.values(), update.grad_norm, update.finite.float()]
        figures = torch.where(update.finite, torch.stack(values), 0)
        for sums in (self.sums, self.epoch):
            sums.add(names, figures, len(batch["name"]))
        self.in_a_row = torch.where(update.finite, 0, self.in_a_row + 1)
        self.names.append(batch["name"])
        # Copy now and read later, when the device has long computed it.
        self.counts.append((self.in_a_row.to("cpu", non_blocking=True), self._event()))
        return self._too_many(*self.counts.popleft()) if len(self.counts) > LAG else None

    def end_epoch(self) -> str | None:
        """Wait for the device.

        Returns:
            Why the run must end: too many updates in a row, or all updates of the epoch, were skipped. None if it can
            continue.
        """
        while self.counts:
            if problem := self._too_many(*self.counts.popleft()):
                return problem
        all_skipped = self.epoch.on_device is not None and self.epoch.state()["finite"] == 0
        self.epoch = Sums(self.loader)
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
        seconds = time.perf_counter() - start
        for sums in (self.sums, self.epoch):
            sums.start += seconds

    def take(self) -> dict[str, float]:
        """The means since the last call, by curve; without losses and gradient norm if all updates were skipped."""
        means = self.sums.means(self.group)
        self.sums = Sums(self.loader)
        values = {name if "/" in name else f"train/{name}": value for name, value in means.items()}
        if self.group.device.type == "cuda":
            values["train/gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return values

    def take_epoch(self) -> dict[str, float]:
        """The means over the epoch, by curve; without losses if all updates were skipped."""
        means = self.epoch.means(self.group)
        left_out = ("grad_norm", "skipped_steps")
        return {f"epoch/{name.replace('/', '_')}": value for name, value in means.items() if name not in left_out}

    def so_far(self) -> dict[str, float]:
        """The figures of the current epoch, for its checkpoint; empty before its first update."""
        return self.epoch.state()


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
