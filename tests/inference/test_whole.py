"""Restoring images of any size."""

import weakref

import cv2
import pytest
import skimage.data
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from inference.whole import LARGEST_TENSOR, restore
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


class LargestTensor(TorchDispatchMode):
    """Records the most elements that a tensor has."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("channels, mean_window", [(8, None), (16, 120 / 256)])
def test_the_largest_tensor_is_known(channels, mean_window):
    model = IRNeXt(num_blocks=1, channels=channels, mean_window=mean_window).eval()
    with LargestTensor() as largest, torch.inference_mode():
        model(torch.rand(2, 3, 128, 64))
    assert largest.elements == LARGEST_TENSOR * channels * 2 * 128 * 64


def test_images_beyond_32_bit_indices_go_in_tiles_at_once(model, monkeypatch):
    image = photograph(64, 96)
    calls = []

    def network(x: torch.Tensor) -> list[torch.Tensor]:
        calls.append(x.shape)
        return model(x)

    for limit, whole in ((LARGEST_TENSOR * 8 * 64 * 96, 1), (LARGEST_TENSOR * 8 * 64 * 96 - 1, 0)):
        monkeypatch.setattr("inference.whole.MAX_ELEMENTS", limit)
        calls.clear()
        assert psnr(restore(model, image, network=network), restore(model, image)) > 90
        assert len(calls) == whole


def test_cached_memory_is_released_when_the_failed_tensors_are_gone(model, monkeypatch):
    """A network that runs out of memory; what CUDA would be told is noted."""
    seen = []

    def network(x: torch.Tensor) -> list[torch.Tensor]:
        activations = torch.rand(1000)
        seen.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append(seen[0]() is None))
    image = photograph(64, 96)
    assert psnr(restore(model, image, network=network), restore(model, image)) > 90
    assert seen[1] is True
