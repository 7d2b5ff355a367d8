"""Conversion of images to tensors, and paired augmentation: the same crop and flip for an input and its target."""

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
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, input: np.ndarray, target: np.ndarray, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """uint8 or uint16 (H, W, 3) each -> float32 (3, *size) in [0, 1] each, determined by ``seed``."""
        generator = torch.Generator().manual_seed(derived_seed(*seed))
        # Draws the same numbers in the same order as torchvision's RandomCrop and RandomHorizontalFlip. Those use the
        # global generator, whose state would have to be saved and restored for every sample.
        top, left = (
            int(torch.randint(0, side - crop + 1, (), generator=generator)) if side > crop else 0
            for side, crop in zip(input.shape[:2], self.size, strict=True)
        )
        flips = bool(torch.rand(1, generator=generator) < 0.5)
        pair = [self._crop(image, top, left) for image in (input, target)]
        input, target = [crop.flip(-1) for crop in pair] if flips else pair
        return input, target

    def _crop(self, image: np.ndarray, top: int, left: int) -> Tensor:
        height, width = self.size
        return extend(to_tensor(image[top : top + height, left : left + width]), height, width)
