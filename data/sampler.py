"""Which sample comes when."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler


def derived_seed(*parts: int) -> int:
    """A 32-bit seed, all that torch's CPU generator uses, well mixed from non-negative numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


class EpochSampler(Sampler[tuple[int, int]]):
    """Every sample once per epoch, in an order that follows from (seed, epoch) alone.

    Yields (epoch, index): the data set draws a sample's augmentation from these and its seed, so that the result
    does not depend on the number of workers, nor on what was drawn before.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.set_position(epoch=1, start=0)

    def set_position(self, epoch: int, start: int) -> None:
        """Let the next iteration be that of ``epoch``, without its first ``start`` samples."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return self.length - self.start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        for index in torch.randperm(self.length, generator=generator)[self.start :].tolist():
            yield self.epoch, index
