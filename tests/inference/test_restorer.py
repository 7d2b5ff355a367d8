"""The restorer on paths, arrays and tensors."""

import numpy as np
import pytest
import torch
from album import ALPHA, HEIGHT, PHOTO, WIDTH

from inference import Restorer
from inference.whole import restore
from utils.errors import InputError


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


@pytest.mark.parametrize("tile", [None, 64])
def test_a_network_that_adds_nothing_returns_an_8_bit_image_exactly_in_bf16(small_weights, tile):
    restorer = Restorer(small_weights, precision="bf16")
    for head in restorer.model.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    np.testing.assert_array_equal(restorer.restore(PHOTO, tile=tile), PHOTO)


NAN, FLOATS = float("nan"), (PHOTO / 255).astype(np.float32)
TENSOR = torch.from_numpy(FLOATS).permute(2, 0, 1)
WRONG_ARRAYS = {
    "NaN": np.where(FLOATS > 0.5, NAN, FLOATS),
    "one NaN": np.where(np.arange(FLOATS.size).reshape(FLOATS.shape) == 77, np.float32(NAN), FLOATS),
    "infinite": np.where(FLOATS > 0.5, np.inf, FLOATS),
    "0 to 255": PHOTO.astype(np.float32),
    "0 to 255, float64": PHOTO.astype(float),
    "0 to 65535": PHOTO.astype(np.float32) * 257,
    "negative": FLOATS - 5,
    "empty": np.zeros((0, 5, 3), np.uint8),
    "empty width": np.zeros((5, 0), np.float32),
    "number": np.array(0.5),
    "row": FLOATS[0, :, 0],
    "batch": FLOATS[None],
    "two channels": PHOTO[..., :2],
    "five channels": np.dstack([PHOTO, PHOTO[..., :2]]),
    "channels first": PHOTO.transpose(2, 0, 1),
    "int32": PHOTO.astype(np.int32),
    "int64": PHOTO.astype(np.int64),
    "int8": PHOTO.astype(np.int8),
    "bool": PHOTO > 99,
    "complex": FLOATS.astype(complex),
    "object": PHOTO.astype(object),
    "text": PHOTO.astype(str),
}


@pytest.mark.parametrize("image", WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_arrays_that_are_no_image_raise_one_clear_error(small_weights, image):
    with pytest.raises(ValueError, match=r"expected .* got "):
        Restorer(small_weights, "cpu").restore(image)


WRONG_TENSORS = {
    "NaN": torch.where(TENSOR > 0.5, NAN, TENSOR),
    "0 to 255": TENSOR * 255,
    "0 to 255, half": (TENSOR * 255).half(),
    "infinite": TENSOR / 0,
    "negative": TENSOR - 5,
    "empty": TENSOR[:, :0],
    "empty batch": TENSOR[None][:0],
    "two channels": TENSOR[:2],
    "four channels": torch.cat([TENSOR, TENSOR[:1]]),
    "channels last": TENSOR.permute(1, 2, 0),
    "two dimensions": TENSOR[0],
    "five dimensions": TENSOR[None, None],
    "uint8": (TENSOR * 255).byte(),
    "int64": (TENSOR * 255).long(),
    "bool": TENSOR > 0.5,
    "complex": TENSOR.to(torch.complex64),
}


@pytest.mark.parametrize("image", WRONG_TENSORS.values(), ids=WRONG_TENSORS)
def test_tensors_that_are_no_image_raise_one_clear_error(small_weights, image):
    with pytest.raises(ValueError, match=r"expected .* got "):
        Restorer(small_weights, "cpu").restore(image)


@pytest.mark.parametrize("tile", [0, -1, 1, 31, True, 64.0, NAN, "64"])
def test_tiles_that_are_too_small_or_no_number_raise_one_clear_error(small_weights, tile):
    restorer = Restorer(small_weights, "cpu")
    with pytest.raises(ValueError, match="tile: expected None or a whole number of at least 32 pixels, got"):
        restorer.restore(PHOTO, tile=tile)
    with pytest.raises(ValueError, match="tile: expected"):
        restore(restorer.model, TENSOR[None], tile=tile)


def test_what_is_no_image_at_all_is_named(small_weights):
    for wrong in (None, 5, [PHOTO], b"photo.jpg"):
        with pytest.raises(TypeError, match="expected a path, a NumPy array or a tensor, got"):
            Restorer(small_weights, "cpu").restore(wrong)
    for wrong in (TENSOR, TENSOR[None, :1], TENSOR[None][:0]):
        with pytest.raises(ValueError, match="expected images of shape"):
            restore(Restorer(small_weights, "cpu").model, wrong)


def test_values_a_little_outside_the_range_are_restored(small_weights):
    noise = np.random.default_rng(0).normal(0, 50 / 255, FLOATS.shape).astype(np.float32)
    assert np.isfinite(Restorer(small_weights, "cpu").restore(FLOATS + noise)).all()


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
def test_an_output_that_is_not_finite_raises_one_clear_error(small_weights, tile, value):
    restorer = Restorer(small_weights, "cpu")
    with torch.no_grad():
        restorer.model.heads[2].bias[1] = value
    with pytest.raises(InputError, match="the restored image is not finite"):
        restorer.restore(PHOTO, tile=tile)
