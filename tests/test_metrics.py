"""Scores against BasicSR's, scikit-image's and the released evaluation's on real photographs."""

import json

import pytest
import torch
from conftest import REFERENCE
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from data.datasets import to_tensor
from data.pictures import read_picture
from utils.metrics import MAX_PSNR, PROTOCOLS, dehazing, psnr, rgb, ssim

GOLDEN = json.loads((REFERENCE / "metrics.json").read_text())
KEYS = {"rgb": ("psnr_rgb", "ssim_rgb"), "y": ("psnr_y", "ssim_y"), "dehazing": ("dehazing_psnr", "dehazing_ssim")}


def pair(name):
    return [to_tensor(read_picture(REFERENCE / f"{name}_{kind}.png"))[None] for kind in ("input", "target")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", GOLDEN)
def test_protocols_agree_with_the_reference(name, protocol):
    scores = PROTOCOLS[protocol](*pair(name))
    psnr_key, ssim_key = KEYS[protocol]
    assert scores["psnr"].item() == pytest.approx(GOLDEN[name][psnr_key], abs=1e-3)
    assert scores["ssim"].item() == pytest.approx(GOLDEN[name][ssim_key], abs=1e-4)


@pytest.mark.parametrize("height, width", [(11, 60), (200, 33), (64, 64)])
def test_rgb_agrees_with_scikit_image(height, width):
    input, target = (picture[..., :height, :width] for picture in pair("coffee"))
    arrays = [picture[0].permute(1, 2, 0).double().numpy() for picture in (input, target)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    expected = structural_similarity(*arrays, channel_axis=2, **options)
    scores = rgb(input, target)
    assert scores["ssim"].item() == pytest.approx(expected, abs=1e-4)
    assert scores["psnr"].item() == pytest.approx(peak_signal_noise_ratio(*arrays, data_range=1), abs=1e-3)


def test_scores_are_per_picture():
    input, target = (
        torch.cat([a[..., :300, :400], b[..., :300, :400]])
        for a, b in zip(pair("coffee"), pair("astronaut"), strict=True)
    )
    for protocol in PROTOCOLS.values():
        together = protocol(input, target)
        for key, values in together.items():
            single = [protocol(input[i : i + 1], target[i : i + 1])[key].item() for i in range(2)]
            assert values.tolist() == pytest.approx(single, abs=1e-5)


def test_equal_pictures_have_a_finite_psnr():
    picture = torch.rand(1, 3, 20, 20)
    assert psnr(picture, picture).item() == MAX_PSNR
    assert ssim(picture, picture).item() == pytest.approx(1)


@pytest.mark.parametrize("side", [1, 2, 7, 10])
def test_pictures_smaller_than_the_window_are_scored(side):
    for protocol in PROTOCOLS.values():
        scores = protocol(torch.rand(1, 3, side, 40), torch.rand(1, 3, side, 40))
        assert all(value.isfinite().all() for value in scores.values())


def test_sides_that_are_multiples_of_32_are_pooled_as_they_are():
    input, target = (picture[..., :384, :480] for picture in pair("coffee"))
    pooled = [torch.nn.functional.avg_pool2d(picture, 2) for picture in (input, target)]
    torch.testing.assert_close(dehazing(input, target)["ssim"], ssim(*pooled))
