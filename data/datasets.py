"""Pairs of pictures as samples, and the loaders over them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.cache import DecodedCache
from data.degradations import DEGRADATIONS
from data.layouts import Pair
from data.pictures import read_picture
from data.sampler import EpochSampler
from data.transforms import PairedCropFlip, to_tensor
from utils.errors import InputError
from utils.signals import leave_signals_to_the_parent


class Sample(TypedDict):
    """input and target: float32 (3, H, W) in [0, 1]."""

    name: str
    input: Tensor
    target: Tensor


def to_8bit(picture: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] -> uint8 (H, W, 3), rounded."""
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def centre(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of a picture: (H, W, 3) -> (height, width, 3)."""
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


class PairedPictures(Dataset[Sample]):
    """Samples from pairs of files: whole pictures, or with ``augment`` what that makes of them.

    An item is asked for by its index or, in training, by (epoch, index) from ``EpochSampler``; all that is drawn for
    it follows from these and ``seed``.

    Args:
        degrade: a key of data.degradations.DEGRADATIONS; the pictures are clean, and the inputs are made from them
            after the augmentation.
        read: gives the pixels of a file, uint8 or uint16 (H, W, 3).
    """

    def __init__(
        self,
        pairs: list[Pair],
        augment: PairedCropFlip | None = None,
        seed: int = 0,
        degrade: str | None = None,
        read: Callable[[Path], np.ndarray] = read_picture,
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
        pair = self.pairs[index]
        input = self.read(pair.input)
        target = input if pair.target == pair.input else self.read(pair.target)
        if pair.centred:
            target = centre(target, *input.shape[:2])
        if input.shape != target.shape:  # files that changed since the pairs were looked at
            raise InputError(f"{pair.input} ({_size(input)}) and {pair.target} ({_size(target)}): sizes differ")
        if self.augment is None:
            input, target = to_tensor(input), to_tensor(target)
        else:
            input, target = self.augment(input, target, seed=(self.seed, epoch, index))
        if self.degrade is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            degraded = DEGRADATIONS[self.degrade](target.permute(1, 2, 0).numpy(), rng)
            input = torch.from_numpy(np.ascontiguousarray(degraded.transpose(2, 0, 1)))
        return {"name": pair.name, "input": input, "target": target}


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
    read = read_picture if cache is None else DecodedCache(cache).read
    return DataLoader(
        PairedPictures(pairs, PairedCropFlip(crop_size), seed, degrade, read),
        batch_sampler=sampler,
        num_workers=_processes(num_workers),
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_the_parent,
    )


def evaluation_loader(pairs: list[Pair], num_workers: int) -> DataLoader:
    """Whole pictures one by one, in the order of ``pairs``: float32 (1, 3, H, W)."""
    return DataLoader(
        PairedPictures(pairs),
        batch_size=1,
        num_workers=min(_processes(num_workers), len(pairs)),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_the_parent,
    )


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


def _processes(num_workers: int) -> int:
    """No more than there are cores for: further ones only cost memory, and torch warns of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(num_workers, cores)
