"""Restoring images of any size."""

import pytest
import torch

from inference.whole import restore
from models import IRNeXt
from utils.padding import extend


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = IRNeXt(num_blocks=1, channels=8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("modulation", "_weight")):
                parameter.normal_(std=0.3)  # an attention that does something
    return model.eval()


@pytest.mark.parametrize("height, width", [(1, 1), (3, 200), (31, 33), (64, 64), (65, 64), (100, 130)])
def test_any_size_comes_back_as_it_went_in(model, height, width):
    image = torch.rand(2, 3, height, width)
    restored = restore(model, image)
    assert restored.shape == image.shape
    assert restored.dtype == torch.float32
    assert 0 <= restored.min() <= restored.max() <= 1
    sides = [max(64, -(-side // 32) * 32) for side in (height, width)]
    expected = model(extend(image, *sides))[-1][..., :height, :width].clamp(0, 1)
    torch.testing.assert_close(restored, expected.detach())


def test_sizes_that_fit_are_not_padded(model):
    image = torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(restore(model, image), model(image)[-1].clamp(0, 1).detach())
