"""Crops and flips against torchvision's on whole images."""

from collections import Counter

import numpy as np
import pytest
import torch
from album import CHELSEA
from conftest import drawn_by_torchvision, few
from hypothesis import given
from hypothesis import strategies as st

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


def symmetry(crop, original):
    """Which of the eight flips and turns of (3, H, W) gives the crop: (flipped, turns)."""
    return [
        (flipped, turns)
        for flipped in (False, True)
        for turns in range(4)
        if torch.equal(crop, (original.flip(-1) if flipped else original).rot90(turns, (-2, -1)))
    ]


@pytest.mark.parametrize(
    "vertical_flip, quarter_turns, expected",
    [
        (False, False, {(False, 0): 1 / 2, (True, 0): 1 / 2}),
        (True, False, {(False, 0): 1 / 4, (True, 0): 1 / 4, (False, 2): 1 / 4, (True, 2): 1 / 4}),
        (False, True, {(flipped, turns): 1 / 8 for flipped in (False, True) for turns in range(4)}),
        (True, True, {(flipped, turns): 1 / 8 for flipped in (False, True) for turns in range(4)}),
    ],
)
def test_each_flip_and_turn_is_as_likely_as_it_should_be(vertical_flip, quarter_turns, expected):
    image = CHELSEA[:64, :64]
    augment, original = PairedCropFlip((64, 64), vertical_flip, quarter_turns), to_tensor(image)
    counts = Counter()
    for index in range(800):
        input, target = augment(image, image, (0, 1, index))
        assert torch.equal(input, target)
        counts.update(symmetry(input, original))
    assert counts.keys() == expected.keys()
    assert {key: count / 800 for key, count in counts.items()} == pytest.approx(expected, abs=0.06)


@few
@given(
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.tuples(st.sampled_from([32, 64, 96]), st.sampled_from([32, 64, 96])),
    st.booleans(),
    st.integers(0, 99),
)
def test_crops_of_any_shape_are_parts_of_the_image_turned_or_not(image_size, size, vertical_flip, seed):
    height, width = image_size
    number = np.arange(height * width).reshape(height, width)
    image = np.stack([number % 256, number // 256, np.full_like(number, 7)], axis=2).astype(np.uint8)
    input, target = PairedCropFlip(size, vertical_flip, quarter_turns=True)(image, image, (seed, 1, 0))
    assert input.shape == target.shape == (3, *size)
    assert input.is_contiguous()
    assert torch.equal(input, target)
    numbers = (input[0] * 255).round().int() + 256 * (input[1] * 255).round().int()
    steps = {int(step) for step in numbers.diff(dim=1).unique().abs()}
    if min(image_size) >= max(size):  # neighbours in the crop are neighbours in the image
        assert steps in ({1}, {width})
    assert set(numbers.flatten().tolist()) <= set(number.flatten().tolist())
