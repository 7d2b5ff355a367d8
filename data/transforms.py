"""Augmentation of a pair: the same crop and flip for the input and its target."""

import torch
from torch import Tensor

from data.sampler import derived_seed
from utils.padding import extend


class PairedCropFlip:
    """Random crop of ``size`` (height, width) and horizontal flip with probability 0.5, the same for both pictures.

    Pictures smaller than the crop are extended to it by reflection.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        from torchvision.transforms import v2  # half of the scripts' start-up, which only training needs

        self.size = size
        self.augment = v2.Compose([v2.RandomCrop(size), v2.RandomHorizontalFlip(0.5)])

    def __call__(self, input: Tensor, target: Tensor, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """input, target (3, H, W) -> (3, *size) each; what is drawn follows from ``seed`` alone."""
        from torchvision import tv_tensors

        height, width = (max(have, want) for have, want in zip(input.shape[-2:], self.size, strict=True))
        pair = [tv_tensors.Image(extend(picture, height, width)) for picture in (input, target)]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(*seed))
            input, target = self.augment(*pair)
        return input.as_subclass(Tensor), target.as_subclass(Tensor)
