"""Scores against BasicSR's, scikit-image's and the released evaluation's on real photographs."""

import json

import cv2
import numpy as np
import pytest
import torch
from conftest import REFERENCE
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from data.images import read_image
from data.transforms import to_tensor
from evaluation.alignment import align
from evaluation.metrics import MAX_PSNR, PROTOCOLS, dehazing, psnr, realblur, rgb, ssim

GOLDEN = json.loads((REFERENCE / "metrics.json").read_text())


KEYS = {
    "rgb": {"psnr": "psnr_rgb", "ssim": "ssim_rgb"},
    "y": {"psnr": "psnr_y", "ssim": "ssim_y"},
    "dehazing": {"psnr": "dehazing_psnr", "ssim": "dehazing_ssim"},
    "defocus": {"psnr": "skimage_psnr", "ssim": "skimage_ssim_default", "mae": "mae"},
}


def pair(name):
    return [to_tensor(read_image(REFERENCE / f"{name}_{kind}.png"))[None] for kind in ("input", "target")]


@pytest.mark.parametrize("protocol", KEYS)
@pytest.mark.parametrize("name", GOLDEN)
def test_protocols_agree_with_the_reference(name, protocol):
    scores = PROTOCOLS[protocol](*pair(name))
    assert scores.keys() == KEYS[protocol].keys()
    for metric, key in KEYS[protocol].items():
        tolerance = 1e-3 if metric == "psnr" else 1e-5
        assert scores[metric].item() == pytest.approx(GOLDEN[name][key], abs=tolerance)


@pytest.mark.parametrize("height, width", [(11, 60), (200, 33), (64, 64)])
def test_rgb_agrees_with_scikit_image(height, width):
    input, target = (image[..., :height, :width] for image in pair("coffee"))
    arrays = [image[0].permute(1, 2, 0).double().numpy() for image in (input, target)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    expected = structural_similarity(*arrays, channel_axis=2, **options)
    scores = rgb(input, target)
    assert scores["ssim"].item() == pytest.approx(expected, abs=1e-4)
    assert scores["psnr"].item() == pytest.approx(peak_signal_noise_ratio(*arrays, data_range=1), abs=1e-3)


def test_scores_are_per_image():
    input, target = (
        torch.cat([a[..., :300, :400], b[..., :300, :400]])
        for a, b in zip(pair("coffee"), pair("astronaut"), strict=True)
    )
    for protocol in PROTOCOLS.values():
        together = protocol(input, target)
        for key, values in together.items():
            single = [protocol(input[i : i + 1], target[i : i + 1])[key].item() for i in range(2)]
            assert values.tolist() == pytest.approx(single, abs=1e-5)


def test_equal_images_have_a_finite_psnr():
    image = torch.rand(1, 3, 20, 20)
    assert psnr(image, image).item() == MAX_PSNR
    assert ssim(image, image).item() == pytest.approx(1)


@pytest.mark.parametrize("side", [1, 2, 7, 10])
def test_images_smaller_than_the_window_are_scored(side):
    for protocol in PROTOCOLS.values():
        scores = protocol(torch.rand(1, 3, side, 40), torch.rand(1, 3, side, 40))
        assert all(value.isfinite().all() for value in scores.values())


def test_sides_that_are_multiples_of_32_are_pooled_as_they_are():
    input, target = (image[..., :384, :480] for image in pair("coffee"))
    pooled = [torch.nn.functional.avg_pool2d(image, 2) for image in (input, target)]
    torch.testing.assert_close(dehazing(input, target)["ssim"], ssim(*pooled))


def realblur_by_the_book(restored, target):
    """The scores over the valid pixels of images (H, W, 3) that need no alignment but a scale of intensity."""
    scaled = restored * (restored * target).sum() / (restored * restored).sum()
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1, "full": True}
    _, values = structural_similarity(target, scaled, channel_axis=2, **options)
    return peak_signal_noise_ratio(target, scaled, data_range=1), values[5:-5, 5:-5].mean()


def test_realblur_scales_the_intensity_and_scores_what_is_left():
    target = pair("coffee")[1][..., :200, :300]
    noisy = (0.8 * target + 0.03 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    arrays = [image[0].permute(1, 2, 0).double().numpy() for image in (noisy, target)]
    scores = realblur(noisy, target)
    expected = realblur_by_the_book(*arrays)
    # The search for a homography moves the image by hundredths of a pixel, which smooths the noise a little.
    assert scores["psnr"].item() == pytest.approx(expected[0], abs=0.5)
    assert scores["ssim"].item() == pytest.approx(expected[1], abs=0.03)
    assert rgb(noisy, target)["psnr"].item() < expected[0] - 5


def test_realblur_undoes_a_homography_and_leaves_out_what_is_missing():
    target = pair("coffee")[1]
    height, width = target.shape[-2:]
    array = target[0].permute(1, 2, 0).numpy()
    homography = np.array([[1.002, 0.003, 3.4], [-0.002, 0.999, -2.3], [2e-6, -1e-6, 1]])
    moved = torch.from_numpy(cv2.warpPerspective(array, homography, (width, height), flags=cv2.INTER_CUBIC))
    moved = 0.7 * moved.permute(2, 0, 1)[None]
    scores = realblur(moved, target)
    assert rgb(moved, target)["psnr"].item() < 20
    assert scores["psnr"].item() > 32
    assert scores["ssim"].item() > 0.97
    aligned, valid = align(moved[0], target[0])
    assert aligned.shape == (3, height, width)
    assert 0.97 < valid.mean().item() < 1  # a border of a few pixels has no counterpart


def test_realblur_scores_images_without_structure_in_place():
    flat = torch.full((1, 3, 40, 40), 0.5)
    assert realblur(flat, flat)["psnr"].item() == pytest.approx(MAX_PSNR)
    assert realblur(flat * 0, flat)["psnr"].item() == pytest.approx(psnr(flat * 0, flat).item())
