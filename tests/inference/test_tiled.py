"""Tiles give the result of the whole image, whatever the network, and shrink where memory runs out."""

import gc
import sys

import pytest
import torch
from album import photo_tensor
from conftest import awake, in_little_memory, psnr, released_state_dict

from inference.tiled import StoredFeatures, TiledForward, Window
from models import IRNeXt, build_model
from models.released import rename


@pytest.mark.parametrize(
    "options",
    [
        {"num_blocks": 3},
        {"mean_window": 120 / 256},
        {"mean_window": 120 / 256, "num_blocks": 2, "pool_sizes": (16, 4)},
        {"pool_sizes": ()},
        {"pool_sizes": (4, 2), "frequency_modulation": False},
        {"local_attention": False},
    ],
)
def test_tiles_give_what_the_whole_image_gives(options):
    torch.manual_seed(0)
    model = awake(IRNeXt(**{"num_blocks": 1, "channels": 8} | options))
    image = photo_tensor(128, 256)
    seen = []
    with torch.inference_mode():
        whole = model(image)[-1]
        tiled = TiledForward(model, tile=64, progress=seen.append)(image)
        alone = torch.cat([model(part)[-1] for part in image.split(128, dim=-1)], dim=-1)
    assert psnr(tiled, whole) > 90  # rounding
    assert psnr(alone, whole) < 60  # what tiles without the image's means give
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    "file, options",
    [
        ("released_state_dict.json", {"num_blocks": 4}),
        ("released_state_dict_14.json", {"num_blocks": 14, "mean_window": 120 / 256}),
    ],
)
def test_released_networks_on_a_photograph(file, options):
    model = build_model(**options).eval()
    model.load_state_dict(rename(released_state_dict(file)))
    image = photo_tensor(64, 128)
    with torch.inference_mode():
        whole = model(image)[-1]
        # These weights, by formula, give values far outside [0, 1]: compare at the scale of the values.
        scale = whole.abs().max()
        assert psnr(TiledForward(model, tile=64)(image) / scale, whole / scale) > 90


def test_half_precision_in_waiting_costs_less_than_a_grey_level():
    torch.manual_seed(0)
    model = awake(IRNeXt(num_blocks=2, channels=16))
    image = photo_tensor(128, 192)
    with torch.inference_mode():
        assert psnr(TiledForward(model, 64, torch.float16)(image), model(image)[-1]) > 60


@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stored_features_hide_nothing_that_is_not_finite(storage, dtype):
    values = torch.tensor([0.5, 1e30, -1e30, float("inf"), -float("inf"), float("nan")], dtype=dtype)
    features = StoredFeatures(1, 1, len(values), storage, torch.device("cpu"))
    window = Window(0, 1, 0, len(values))
    features.write(window, values[None, None, None].clone())
    assert features.read(window).isfinite().flatten().tolist() == [True, True, True, False, False, False]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_tiles_are_halved_where_memory_runs_out():
    accuracy, side = in_little_memory("forward(image).clamp(0, 1)")
    assert accuracy > 90
    assert side < 512


def test_stored_features_are_freed_without_the_garbage_collector():
    model = awake(IRNeXt(num_blocks=1, channels=8, mean_window=0.5))
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            TiledForward(model, tile=64)(photo_tensor(64, 128))
        assert not [item for item in gc.get_objects() if type(item) is StoredFeatures]
    finally:
        gc.enable()


@pytest.mark.parametrize("layers, factor, summand", [("embed", 1e37, 0), ("down", 1e19, 0), (".bias", 1, 1e34)])
@pytest.mark.parametrize("options", [{}, {"mean_window": 0.4}])
def test_tiles_overflow_where_the_whole_image_does(layers, factor, summand, options):
    torch.manual_seed(0)
    model = awake(IRNeXt(num_blocks=1, channels=8, **options))
    image = photo_tensor(192, 256)
    with torch.inference_mode():
        for name, parameter in model.named_parameters():
            if f"{layers}." in name or name.endswith(layers):
                parameter.mul_(factor).add_(summand)
        finite = [bool(outputs.isfinite().all()) for outputs in (model(image)[-1], TiledForward(model, tile=64)(image))]
    assert finite[0] == finite[1]
