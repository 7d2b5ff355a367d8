"""Which sample comes when."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler


def derived_seed(*parts: int) -> int:
    """A 32-bit seed, all that torch's CPU generator uses, well mixed from non-negative numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches in which every sample comes once per epoch, in an order that follows from (seed, epoch) alone.

    Yields lists of (epoch, index): the data set draws a sample's augmentation from these and its seed, so that the
    result does not depend on the number of workers, nor on what was drawn before. The last batch of an epoch may be
    smaller.

    Of several processes, ``rank`` of ``processes`` gets its share of each batch: every ``processes``-th sample, one
    more or less than the others where the batch does not divide. A last batch with fewer samples than processes goes
    to each of them whole.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.processes = rank, processes
        self.set_position(epoch=1, batch=0)

    def set_position(self, epoch: int, batch: int) -> None:
        """Let the next iteration be that of ``epoch``, without its first batches."""
        self.epoch, self.batch = epoch, batch

    @property
    def batches(self) -> int:
        """How many there are in an epoch."""
        return -(-self.length // self.batch_size)

    def weight(self, batch: int) -> float:
        """The weight of this process's mean over its share of a batch in the mean over the processes."""
        samples = min(self.batch_size, self.length - batch * self.batch_size)
        return len(self._share(range(samples))) * self.processes / samples if samples >= self.processes else 1.0

    def __len__(self) -> int:
        return self.batches - self.batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).tolist()
        for start in range(self.batch * self.batch_size, self.length, self.batch_size):
            yield [(self.epoch, index) for index in self._share(order[start : start + self.batch_size])]

    def _share(self, samples):
        return samples[self.rank :: self.processes] if len(samples) >= self.processes else samples
