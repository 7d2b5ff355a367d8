"""Crops and flips against torchvision's on whole images."""

import numpy as np
import pytest
import torch
from album import CHELSEA
from conftest import drawn_by_torchvision

from data.transforms import PairedCropFlip, to_tensor


@pytest.mark.parametrize(
    "height, width", [(300, 451), (64, 96), (64, 300), (200, 96), (40, 64), (63, 300), (2, 5), (1, 1)]
)
def test_crops_are_bit_for_bit_those_of_torchvision_on_whole_images(height, width):
    image = CHELSEA[:height, :width]
    for kind in (image, image * np.uint16(257) + np.uint16(3)):
        for index in range(12):
            seed = (7, 1, index)
            ours = PairedCropFlip((64, 96))(kind, kind[::-1], seed)
            for crop, expected in zip(ours, drawn_by_torchvision(kind, kind[::-1], (64, 96), seed), strict=True):
                assert crop.dtype == torch.float32
                assert crop.is_contiguous()
                assert torch.equal(crop, expected)


def test_crops_and_flips_vary_and_are_the_same_for_both_images():
    augment = PairedCropFlip((64, 96))
    crops = [augment(CHELSEA, CHELSEA, seed=(0, 1, index)) for index in range(30)]
    assert all(torch.equal(input, target) for input, target in crops)
    assert len({float(input.sum()) for input, _ in crops}) == 30
    corner = CHELSEA[:64, :96]
    flips = [augment(corner, corner, (0, 1, index))[0] for index in range(30)]
    unflipped = sum(torch.equal(flip, to_tensor(corner)) for flip in flips)
    assert 5 < unflipped < 25
    assert all(torch.equal(flip, to_tensor(corner)) or torch.equal(flip.flip(-1), to_tensor(corner)) for flip in flips)
