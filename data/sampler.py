"""The order in which training samples are drawn."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

from data.shares import Share


def derived_seed(*parts: int) -> int:
    """Hash non-negative integers to a well-mixed 32-bit seed (torch's CPU generator uses only 32 bits)."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batch sampler over training sets, in an order determined by (seed, epoch).

    Yields lists of (epoch, index), in which index counts the crops of all sets, one set after the other. The dataset
    seeds each sample's augmentation with these, so the result depends neither on the number of workers nor on earlier
    draws. The last batch of an epoch may be smaller.

    A set is gone through again and again, each time in another order: an epoch goes on where the last one stopped, so
    all crops of a set are drawn equally often. What an epoch draws once more has an index beyond the number of crops in
    all sets, by a multiple of it, so that it is augmented differently.

    With several processes, ``rank`` of ``processes`` gets every ``processes``-th sample of each global batch; the
    shares differ by at most one sample. If the last batch has fewer samples than there are processes, every process
    gets all of it.

    Args:
        shares: the sets, or the length of a single one whose crops are all drawn once.
        batch_size: global batch size.
        later_sizes: other batch sizes, each with the first epoch that has it, in order.
        seed: determines the orders.
        rank: number of this process.
        processes: number of processes.
    """

    def __init__(
        self,
        shares: int | Sequence[Share],
        batch_size: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        later_sizes: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.shares = [Share(shares, shares)] if isinstance(shares, int) else list(shares)
        self.length = sum(share.drawn for share in self.shares)
        self.sizes, self.seed = [(1, batch_size), *later_sizes], seed
        self.rank, self.processes = rank, processes
        self.set_position(epoch=1, samples=0)

    def set_position(self, epoch: int, samples: int) -> None:
        """Start the next iteration in ``epoch``, after its first ``samples`` samples."""
        self.epoch, self.samples = epoch, min(samples, self.length)
        self.batch_size = self.batch_size_of(epoch)

    def batch_size_of(self, epoch: int) -> int:
        """Global batch size of an epoch."""
        return [size for first, size in self.sizes if first <= epoch][-1]

    def batches(self, epoch: int, samples: int = 0) -> int:
        """Number of batches in an epoch, after its first ``samples`` samples."""
        return -(-(self.length - samples) // self.batch_size_of(epoch))

    def size(self, samples: int) -> int:
        """Global size of the batch that follows the first ``samples`` samples of an epoch."""
        return min(self.batch_size, self.length - samples)

    def weight(self, samples: int) -> float:
        """Weight of this process's mean loss over its share of that batch in the mean over all processes."""
        size = self.size(samples)
        return len(self._share(range(size))) * self.processes / size if size >= self.processes else 1.0

    def micro_batches(self, samples: int, accumulate: int) -> int:
        """In how many parts to compute that batch, if a whole one is computed in ``accumulate``.

        All processes have the same number, because their batch norms exchange statistics in each part. A smaller batch
        has fewer parts, not smaller ones.
        """
        size, processes = self.size(samples), self.processes
        smallest, largest = (size // processes, -(-size // processes)) if size >= processes else (size, size)
        part = -(-self.batch_size // (processes * accumulate))
        return min(accumulate, smallest, -(-largest // part))

    def __len__(self) -> int:
        return self.batches(self.epoch, self.samples)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        drawn = self._drawn()
        order = [drawn[place] for place in torch.randperm(self.length, generator=generator).tolist()]
        for start in range(self.samples, self.length, self.batch_size):
            yield [(self.epoch, index) for index in self._share(order[start : start + self.batch_size])]

    def _drawn(self) -> list[int]:
        """The indices of the epoch, set by set."""
        crops_in_all, first, indices = sum(share.crops for share in self.shares), 0, []
        for number, (crops, drawn) in enumerate(self.shares):
            start = (self.epoch - 1) * drawn
            for turn in range(start // crops, -(-(start + drawn) // crops)):
                begin, end = max(start - turn * crops, 0), min(start + drawn - turn * crops, crops)
                places = range(crops)
                if end - begin < crops:
                    generator = torch.Generator().manual_seed(derived_seed(self.seed, number, turn, 1))
                    places = torch.randperm(crops, generator=generator)[begin:end].tolist()
                again = (turn - start // crops) * crops_in_all
                indices += [again + first + place for place in places]
            first += crops
        return indices

    def _share(self, samples):
        return samples[self.rank :: self.processes] if len(samples) >= self.processes else samples
