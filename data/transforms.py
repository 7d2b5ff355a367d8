"""Conversion of images to tensors, and paired augmentation: the same crop and flip for an input and its target."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data.sampler import derived_seed
from utils.padding import extend


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 or uint16 (H, W, 3) -> float32 (3, H, W) in [0, 1]."""
    image = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(image.astype(np.float32)) / np.iinfo(image.dtype).max


class PairedCropFlip:
    """Random crop to ``size`` (height, width) and horizontal flip with probability 0.5, the same for both images.

    Images smaller than the crop are padded by reflection.

    Args:
        size: height and width.
        vertical_flip: flip vertically as well, with probability 0.5.
        quarter_turns: turn by 0, 90, 180 or 270 degrees, each as likely; a crop of another shape than a square is taken
            from the image so that it has ``size`` after it was turned.
    """

    def __init__(self, size: tuple[int, int], vertical_flip: bool = False, quarter_turns: bool = False) -> None:
        self.size, self.vertical_flip, self.quarter_turns = size, vertical_flip, quarter_turns

    def __call__(self, input: np.ndarray, target: np.ndarray, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """uint8 or uint16 (H, W, 3) each -> float32 (3, *size) in [0, 1] each, determined by ``seed``."""
        generator = torch.Generator().manual_seed(derived_seed(*seed))
        turns = int(torch.randint(0, 4, (), generator=generator)) if self.quarter_turns else 0
        size = self.size[::-1] if turns % 2 else self.size
        # Draws the same numbers in the same order as torchvision's RandomCrop and RandomHorizontalFlip. Those use the
        # global generator, whose state would have to be saved and restored for every sample.
        top, left = (
            int(torch.randint(0, side - crop + 1, (), generator=generator)) if side > crop else 0
            for side, crop in zip(input.shape[:2], size, strict=True)
        )
        flipped = [-1] if torch.rand(1, generator=generator) < 0.5 else []
        if self.vertical_flip and torch.rand(1, generator=generator) < 0.5:
            flipped.append(-2)
        pair = [_crop(image, top, left, size) for image in (input, target)]
        if flipped:
            pair = [crop.flip(flipped) for crop in pair]
        if turns:
            pair = [crop.rot90(turns, (-2, -1)).contiguous() for crop in pair]
        input, target = pair
        return input, target


class ProgressiveCrops:
    """Crops of a size that depends on the epoch.

    Args:
        stages: the first epoch of each size, beginning with 1, and its crops.
    """

    def __init__(self, stages: Sequence[tuple[int, PairedCropFlip]]) -> None:
        self.stages = stages

    def __call__(self, input: np.ndarray, target: np.ndarray, seed: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """As ``PairedCropFlip``, with the crops of the epoch that is the second of (seed, epoch, index)."""
        crops = [crops for first, crops in self.stages if first <= seed[1]][-1]
        return crops(input, target, seed)


def _crop(image: np.ndarray, top: int, left: int, size: tuple[int, int]) -> Tensor:
    height, width = size
    return extend(to_tensor(image[top : top + height, left : left + width]), height, width)
