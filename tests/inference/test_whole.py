"""Restoring images of any size, as a whole and in tiles."""

import sys
import weakref

import pytest
import torch
from album import photo_tensor
from conftest import awake, in_little_memory, psnr
from torch.utils._python_dispatch import TorchDispatchMode

from inference.whole import LARGEST_TENSOR, restore
from models import IRNeXt
from utils.padding import extend


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return awake(IRNeXt(num_blocks=1, channels=8))


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


def test_any_size_in_tiles_and_in_batches(model):
    for height, width in ((1, 1), (70, 300), (3, 131)):
        image = torch.cat([photo_tensor(height, width), photo_tensor(height, width).flip(1)])
        assert psnr(restore(model, image, tile=64), restore(model, image)) > 90


def test_self_ensemble_is_the_mean_of_the_eight_views(model):
    image = photo_tensor(40, 70)
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
    image = photo_tensor(64, 96)
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
    image = photo_tensor(64, 96)
    assert psnr(restore(model, image, network=network), restore(model, image)) > 90
    assert seen[1] is True


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_an_image_too_large_for_the_memory_is_restored_in_tiles():
    accuracy, _ = in_little_memory("restore(model, image)")
    assert accuracy > 90
