"""Pairs of images as samples, and the loaders over them."""

from collections.abc import Callable, Iterator, Sequence
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
from data.synthetic.degradations import DEGRADATIONS
from data.transforms import PairedCropFlip, to_tensor
from utils.cpus import cpu_count
from utils.signals import leave_signals_to_the_parent

REPLACEMENTS = 100  # draws for an image in the place of a broken one, before all are taken for broken


class Sample(TypedDict):
    """input and target: float32 (3, H, W) in [0, 1], absent where nothing could be read.

    ``broken`` has what was met on the way: the file, and in one line what is wrong with it.
    """

    name: str
    broken: dict[str, str]
    input: NotRequired[Tensor]
    target: NotRequired[Tensor]


def to_8bit(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] -> uint8 (H, W, 3), rounded."""
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of an image: (H, W, 3) -> (height, width, 3)."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


class PairedImages(Dataset[Sample]):
    """Samples from pairs of files: whole images, or with ``augment`` what that makes of them.

    An item is asked for by its index or, in training, by (epoch, index) from ``EpochSampler``; all that is drawn for
    it follows from these and ``seed``. An image that cannot be read does not end the loading: in training another
    pair takes its place, which is drawn in the same way, so that a resumed run draws the same.

    Args:
        degrade: a key of data.synthetic.degradations.DEGRADATIONS; the images are clean, and the inputs are made from
            them after the augmentation.
        read: gives the pixels of a file, uint8 or uint16 (H, W, 3).
    """

    def __init__(
        self,
        pairs: list[Pair],
        augment: PairedCropFlip | None = None,
        seed: int = 0,
        degrade: str | None = None,
        read: Callable[[Path], np.ndarray] = read_image,
    ) -> None:
        self.pairs = pairs
        self.augment = augment
        self.seed = seed
        self.degrade = degrade
        self.read = read

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        broken = {}
        for candidate in self._candidates(epoch, index):
            try:
                return self._sample(self.pairs[candidate], epoch, index) | {"broken": broken}
            except BrokenImage as error:
                broken[str(error.path)] = str(error)
        return {"name": self.pairs[index].name, "broken": broken}

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        yield index
        if self.augment is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            yield from map(int, rng.integers(len(self.pairs), size=REPLACEMENTS))

    def _sample(self, pair: Pair, epoch: int, index: int) -> dict:
        input = self.read(pair.input)
        target = input if pair.target == pair.input else self.read(pair.target)
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (input, target)]
        if pair.centred:
            target = centre(target, *input.shape[:2])
        if input.shape != target.shape:  # a header can say something else than the pixels
            raise BrokenImage(pair.input, f"it has {sizes[0]} pixels, but its target {pair.target} {sizes[1]}")
        if self.augment is None:
            input, target = to_tensor(input), to_tensor(target)
        else:
            input, target = self.augment(input, target, seed=(self.seed, epoch, index))
        if self.degrade is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            degraded = DEGRADATIONS[self.degrade](target.permute(1, 2, 0).numpy(), rng)
            input = torch.from_numpy(np.ascontiguousarray(degraded.transpose(2, 0, 1)))
        return {"name": pair.name, "input": input, "target": target}


def joined(samples: Sequence[Sample]) -> dict:
    """The samples as a batch: names, input and target (N, 3, H, W), which are absent where one has none, and broken."""
    batch = {"name": [sample["name"] for sample in samples], "broken": {}}
    for sample in samples:
        batch["broken"] |= sample["broken"]
    if all("input" in sample for sample in samples):
        batch |= {key: default_collate([sample[key] for sample in samples]) for key in ("input", "target")}
    return batch


def train_loader(
    pairs: list[Pair],
    crop_size: tuple[int, int],
    sampler: EpochSampler,
    seed: int,
    num_workers: int,
    degrade: str | None = None,
    cache: str | None = None,
) -> DataLoader:
    """Batches of augmented crops, float32 (N, 3, *crop_size), as ``sampler`` has them.

    ``cache`` is the folder of a ``DecodedCache``.
    """
    read = read_image if cache is None else DecodedCache(cache).read
    return DataLoader(
        PairedImages(pairs, PairedCropFlip(crop_size), seed, degrade, read),
        batch_sampler=sampler,
        collate_fn=joined,
        num_workers=_processes(num_workers),
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_the_parent,
    )


def evaluation_loader(pairs: list[Pair], num_workers: int) -> DataLoader:
    """Whole images one by one, in the order of ``pairs``: float32 (1, 3, H, W); see ``Sample`` for broken ones."""
    return DataLoader(
        PairedImages(pairs),
        batch_size=1,
        collate_fn=joined,
        num_workers=min(_processes(num_workers), len(pairs)),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_the_parent,
    )


def _processes(num_workers: int) -> int:
    """No more than there are cores for: further ones only cost memory, and torch warns of them."""
    return min(num_workers, cpu_count())
