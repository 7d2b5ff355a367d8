"""Restoring images of any size."""

import cv2
import pytest
import skimage.data
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


def awake(model: IRNeXt, seed: int = 0) -> IRNeXt:
    """With attention that does something, and batch norm with statistics of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(("modulation", "filtered_weight", "identity_weight")):
                value.copy_(0.5 * torch.randn(value.shape, generator=generator))
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return model.eval()


def photograph(height: int, width: int) -> torch.Tensor:
    image = cv2.resize(skimage.data.coffee(), (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 255


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * torch.log10((a - b).square().mean()).item()


def test_any_size_in_tiles_and_in_batches():
    torch.manual_seed(0)
    model = awake(IRNeXt(num_blocks=1, channels=8))
    for height, width in ((1, 1), (70, 300), (3, 131)):
        image = torch.cat([photograph(height, width), photograph(height, width).flip(1)])
        assert psnr(restore(model, image, tile=64), restore(model, image)) > 90


def test_self_ensemble_is_the_mean_of_the_eight_views():
    torch.manual_seed(0)
    model = awake(IRNeXt(num_blocks=1, channels=8))
    image = photograph(40, 70)
    seen = []
    ensemble = restore(model, image, self_ensemble=True, progress=seen.append)
    views = []
    for flipped in (False, True):
        view = image.flip(-1) if flipped else image
        for turns in range(4):
            restored = restore(model, view.rot90(turns, (2, 3))).rot90(-turns, (2, 3))
            views.append(restored.flip(-1) if flipped else restored)
    torch.testing.assert_close(ensemble, torch.stack(views).mean(0))
    assert (ensemble - restore(model, image)).abs().max() > 1e-3
    torch.testing.assert_close(restore(model, image.flip(-2), self_ensemble=True).flip(-2), ensemble)
    assert seen[-1] == 1
