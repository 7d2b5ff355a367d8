"""What happens between two points of the curves: losses, skipped steps, throughput, broken images."""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from tqdm import tqdm

from training.step import Update
from utils.distributed import Group
from utils.errors import listed, printable

Batch = TypeVar("Batch")


class TimedLoader(Generic[Batch]):
    """Iterates over ``loader`` and adds up the seconds that the training loop waits for the next batch.

    A GPU still computes while the loop waits, so this is an upper bound of its idle time.
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
        """The seconds since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class Meter:
    """Collects updates on the device until a point of the curves is drawn; no step waits for an earlier one.

    An update whose loss or gradient is not finite counts in ``skipped`` only.

    Args:
        max_skipped: the run ends after this many skipped updates in a row.
        loader: gives the batches.
    """

    def __init__(self, group: Group, max_skipped: int, loader: TimedLoader) -> None:
        self.group, self.max_skipped, self.loader = group, max_skipped, loader
        self.sums = torch.zeros(4, device=group.device)
        self.finite = torch.zeros((), device=group.device)
        self.in_a_row = torch.zeros((), device=group.device)
        self.names: deque[Sequence[str]] = deque(maxlen=max_skipped)
        self.count = self.images = 0
        self.start = time.perf_counter()

    def add(self, update: Update, batch: Mapping[str, Any]) -> None:
        """Note an update and the images of its batch."""
        self.sums += torch.where(update.finite, torch.stack([*update.loss, update.grad_norm]), 0)
        self.finite += update.finite
        self.in_a_row = torch.where(update.finite, 0, self.in_a_row + 1)
        self.names.append(batch["name"])
        self.images += len(batch["name"])
        self.count += 1

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The block does not count as training time."""
        start = time.perf_counter()
        yield
        self.start += time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The means since the last call, under the curves' names; loss and norm are left out if nothing was finite.

        Raises:
            InputError: too many updates in a row were skipped, up to the last one.
        """
        sums = self.group.mean(self.sums.clone())
        *means, finite, in_a_row = torch.cat([sums, self.finite[None], self.in_a_row[None]]).tolist()
        if in_a_row >= self.max_skipped:
            names = list(dict.fromkeys(name for batch in self.names for name in batch))
            self.group.refuse(
                f"{int(in_a_row)} steps in a row had a loss or gradient that is not finite; lower train.lr, or check "
                f"{listed(names, 'image(s) of their batches')} (train.max_skipped is {self.max_skipped})"
            )
        seconds = time.perf_counter() - self.start
        curves = ("loss/total", "loss/content", "loss/fft", "train/grad_norm")
        values = {name: value / finite for name, value in zip(curves, means, strict=True)} if finite else {}
        values["train/skipped_steps"] = self.count - int(finite)
        values["train/images_per_second"] = self.images * self.group.size / seconds
        values["train/waiting_for_data"] = self.loader.take() / seconds
        self.count = self.images = 0
        self.sums.zero_()
        self.finite.zero_()
        self.start = time.perf_counter()
        return values


def note_broken(batch: Mapping[str, Any], known: dict[str, str], max_broken: int, group: Group) -> str | None:
    """Add the broken images that any process met to ``known`` and warn of new ones.

    Returns:
        Why the run has to end: more than ``max_broken`` of them, or a batch without a readable image; else None.
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
