"""The paired image dataset and its data loaders."""

import multiprocessing
import platform
import sys
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from data.cache import DecodedCache
from data.images import BrokenImage, read_image
from data.layouts import Pair
from data.sampler import EpochSampler
from data.synthetic.drawn import Drawn, chain_of
from data.transforms import PairedCropFlip, ProgressiveCrops, to_tensor
from utils.config import Config, both_sides
from utils.cpus import available_cores, cpu_count
from utils.degrade_options import Degrade
from utils.distributed import Group
from utils.shared_memory import explained_if_full
from utils.signals import leave_signals_to_the_parent

MAX_REPLACEMENTS = 100  # pairs tried in place of a broken one before the sample is given up
LOCKS_PER_WORKER = 6  # of a DataLoader, at most, if one counts the main process as a worker: torch takes 3 n + 8

# Keeps iterators with a failed worker until the process exits, where ``run_script`` kills their workers. Deleting one
# waits up to 5 s for its workers, and the threads of its queues sometimes print a traceback.
_failed: list[Iterator] = []


class Sample(TypedDict):
    """One pair: input and target are float32 (3, H, W) in [0, 1], or absent if no pair could be read.

    ``broken`` maps each file that could not be used to a one-line error message. ``drawn`` lists the synthetic
    degradations of the input with their parameters.
    """

    name: str
    broken: dict[str, str]
    drawn: NotRequired[list[tuple[str, Drawn]]]
    input: NotRequired[Tensor]
    target: NotRequired[Tensor]


def to_8bit(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] -> uint8 (H, W, 3), rounded."""
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def centre_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) -> (height, width, 3)."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


class PairedImages(Dataset[Sample]):
    """Paired images as tensors: whole images, or augmented crops if ``augment`` is given.

    Samples are indexed by an integer or, in training, by (epoch, index) from ``EpochSampler``. All randomness is
    derived from (seed, epoch, index), so a resumed run draws the same samples. An unreadable image does not stop the
    loader: in training, it is replaced by another pair, drawn from the same seed.

    Args:
        pairs: the files to load.
        augment: crops and flips a pair; None for whole images.
        seed: base seed of the augmentation, the synthetic degradation and the replacements.
        degrade: the degradation or chain of a set's configuration. The images of ``pairs`` are then clean, and inputs
            are synthesised from the augmented targets; those of whole images always in the same way.
        read: decodes a file to uint8 or uint16 (H, W, 3).
    """

    def __init__(
        self,
        pairs: list[Pair],
        augment: PairedCropFlip | ProgressiveCrops | None = None,
        seed: int = 0,
        degrade: Degrade | None = None,
        read: Callable[[Path], np.ndarray] = read_image,
    ) -> None:
        self.pairs = pairs
        self.augment = augment
        self.seed = seed
        self.degrade = degrade
        self._chain = None if degrade is None else chain_of(degrade)
        self.read = read

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return self.sample(index, (self.seed, epoch, index))

    def sample(self, index: int, seed: tuple[int, ...]) -> Sample:
        """The sample of the pair at ``index``, or of another one in its place, with all randomness from ``seed``."""
        broken = {}
        for candidate in self._candidates(index, seed):
            try:
                return self._sample(self.pairs[candidate], seed) | {"broken": broken}
            except BrokenImage as error:
                broken[str(error.path)] = str(error)
            except MemoryError:
                path = self.pairs[candidate].input
                broken[str(path)] = f"{path}: not enough memory for the image and its target"
        return {"name": self.pairs[index].name, "broken": broken}

    def _candidates(self, index: int, seed: tuple[int, ...]) -> Iterator[int]:
        yield index
        if self.augment is not None:
            rng = np.random.default_rng(seed)
            yield from map(int, rng.integers(len(self.pairs), size=MAX_REPLACEMENTS))

    def _sample(self, pair: Pair, seed: tuple[int, ...]) -> dict:
        input = self.read(pair.input)
        target = input if pair.target == pair.input else self.read(pair.target)
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (input, target)]
        if pair.centred:
            target = centre_crop(target, *input.shape[:2])
        if input.shape != target.shape:  # the header may not match the pixel data
            raise BrokenImage(pair.input, f"it is {sizes[0]} pixels, but its target {pair.target} is {sizes[1]}")
        if self.augment is None:
            input, target = to_tensor(input), to_tensor(target)
        else:
            input, target = self.augment(input, target, seed)
        drawn = []
        if self._chain is not None:
            # Test images are degraded by their names: in the same way in every process's share of the set.
            name = zlib.crc32(pair.name.encode(errors="surrogateescape"))
            rng = np.random.default_rng([self.seed, name] if self.augment is None else seed)
            degraded, drawn = self._chain.drawn(target.permute(1, 2, 0).numpy(), rng)
            input = torch.from_numpy(np.ascontiguousarray(degraded.transpose(2, 0, 1)))
        return {"name": pair.name, "input": input, "target": target, "drawn": drawn}


class TrainingSets(Dataset[Sample]):
    """Several sets of pairs, one after the other, indexed by the (epoch, index) of an ``EpochSampler``.

    Args:
        sets: of one seed; each with its own degradation.
    """

    def __init__(self, sets: Sequence[PairedImages]) -> None:
        self.sets = sets
        self.ends = list(accumulate(map(len, sets)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        number, place = self.locate(index)
        part = self.sets[number]
        return part.sample(place, (part.seed, epoch, index))

    def locate(self, index: int) -> tuple[int, int]:
        """The number of the set and the place in it that belong to an index of the sampler."""
        place = index % len(self)  # an epoch may draw it several times
        number = bisect_right(self.ends, place)
        return number, place - self.ends[number] + len(self.sets[number])


def collate(samples: Sequence[Sample]) -> dict:
    """Merge samples into a batch; input and target (N, 3, H, W) are absent if any sample lacks them."""
    batch = {"name": [sample["name"] for sample in samples], "broken": {}}
    for sample in samples:
        batch["broken"] |= sample["broken"]
    if all("input" in sample for sample in samples):
        batch |= {key: default_collate([sample[key] for sample in samples]) for key in ("input", "target")}
    return batch


class ImageLoader(DataLoader):
    """A DataLoader whose iteration raises an InputError if its workers run out of shared memory."""

    def __iter__(self) -> Iterator[dict]:
        with explained_if_full():
            if self.num_workers > 0:
                # Without room for its locks, torch's iterator fails half built and prints a traceback when deleted.
                locks = [multiprocessing.Lock() for _ in range(LOCKS_PER_WORKER * (self.num_workers + 1))]
                del locks
            iterator = super().__iter__()
            try:
                yield from iterator
            except (OSError, RuntimeError):
                _failed.append(iterator)
                raise


def training_sets(config: Config, pairs: Sequence[list[Pair]]) -> TrainingSets:
    """The training sets of a configuration, whose ``pairs`` are given: augmented crops, of a size by epoch."""
    data = config.data
    read = read_image if data.cache is None else DecodedCache(data.cache).read
    flips = data.vertical_flip, data.quarter_turns
    augment = ProgressiveCrops(
        [(stage.epoch, PairedCropFlip(both_sides(stage.crop_size), *flips)) for stage in config.stages()]
    )
    return TrainingSets(
        [
            PairedImages(of_set * part.repeats, augment, config.seed, part.degrade, read)
            for of_set, part in zip(pairs, data.train.parts, strict=True)
        ]
    )


def train_loader(sets: TrainingSets, sampler: EpochSampler, num_workers: int) -> ImageLoader:
    """Batches of augmented crops, float32 (N, 3, H, W) in [0, 1], in the order of ``sampler``."""
    return ImageLoader(
        sets,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=_worker_count(num_workers),
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_the_parent,
        generator=torch.Generator(),  # else each start of an epoch would advance the random state of the run
    )


def evaluation_loader(pairs: list[Pair], num_workers: int, degrade: Degrade | None = None) -> ImageLoader:
    """Whole images in the order of ``pairs``, one per batch: float32 (1, 3, H, W) in [0, 1]."""
    return ImageLoader(
        PairedImages(pairs, degrade=degrade),
        batch_size=1,
        collate_fn=collate,
        num_workers=min(_worker_count(num_workers), len(pairs)),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_the_parent,
        generator=torch.Generator(),  # else each start of an epoch would advance the random state of the run
    )


def warn_of_too_many_workers(num_workers: int, group: Group) -> None:
    """Warn once, on stderr, if the processes of a machine start more than two loader workers per core between them.

    All processes must call this. Those of one machine may share its cores, or have some each.
    """
    machines: dict[str, list[set[int]]] = {}
    for machine, cores in group.gather([(platform.node(), available_cores())]):
        machines.setdefault(machine, []).append(cores)
    for processes in machines.values():
        cores, count = len(set.union(*processes)), len(processes)
        workers = sum(min(num_workers, len(own)) for own in processes)
        if workers > 2 * cores and group.is_main:
            print(
                f"warning: data.num_workers is per process: {count} processes start {workers} loader workers on "
                f"{cores} core{'s' * (cores > 1)}; pass --data.num_workers {max(1, cores // count)}",
                file=sys.stderr,
            )
            return


def _worker_count(num_workers: int) -> int:
    """At most one worker per available core: more only cost memory, and torch warns about them."""
    return min(num_workers, cpu_count())
