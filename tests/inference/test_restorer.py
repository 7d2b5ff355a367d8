"""The restorer on paths, arrays and tensors."""

import numpy as np
import pytest
import torch
from album import ALPHA, HEIGHT, PHOTO, WIDTH

from inference import Restorer


def test_one_call_restores_paths_arrays_and_tensors(album, small_weights):
    source, _, _ = album
    model = Restorer(small_weights, "cpu")
    assert not model.model.training
    from_file = model.restore(source / "alpha.png")
    assert (from_file.shape, from_file.dtype) == ((HEIGHT, WIDTH, 4), np.uint8)
    from_array = model.restore(np.dstack([PHOTO, ALPHA]))
    np.testing.assert_array_equal(from_file, from_array)
    floating = model.restore((PHOTO / 255).astype(np.float32))
    assert floating.dtype == np.float32
    assert abs(floating * 255 - from_array[..., :3]).max() <= 0.51
    tensor = torch.from_numpy(PHOTO / 255).permute(2, 0, 1)
    assert torch.equal(model.restore(tensor.float()[None])[0], model.restore(tensor.float()))
    np.testing.assert_allclose(model.restore(tensor.float()).permute(1, 2, 0).numpy(), floating, atol=1e-6)
    grey = model.restore(PHOTO[..., 0])
    assert (grey.shape, grey.dtype) == ((HEIGHT, WIDTH), np.uint8)
    assert model.restore(tensor[:1].half()).shape == (1, HEIGHT, WIDTH)
    for wrong in (PHOTO.astype(np.int32), tensor.int()):
        with pytest.raises(TypeError, match="floating-point values"):
            model.restore(wrong)
    for wrong in (PHOTO[None], PHOTO[..., :2], tensor[:2]):
        with pytest.raises(ValueError, match="expected a"):
            model.restore(wrong)


@pytest.mark.parametrize("tile", [None, 64])
def test_a_network_that_adds_nothing_returns_an_8_bit_image_exactly_in_bf16(small_weights, tile):
    restorer = Restorer(small_weights, precision="bf16")
    for head in restorer.model.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    np.testing.assert_array_equal(restorer.restore(PHOTO, tile=tile), PHOTO)
