"""Scores against BasicSR's, scikit-image's and the released evaluation's on real photographs."""

import json
import math
from typing import get_args, get_type_hints

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REFERENCE
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from data.images import read_image
from data.transforms import to_tensor
from evaluation.alignment import align
from evaluation.metrics import MAX_PSNR, PROTOCOLS, dehazing, luma, psnr, realblur, rgb, ssim, to_levels
from utils import config

GOLDEN = json.loads((REFERENCE / "metrics.json").read_text())

SCORES = {  # key of metrics.json: protocol and metric
    "psnr_rgb": ("rgb", "psnr"),
    "ssim_rgb": ("rgb", "ssim"),
    "skimage_ssim_gaussian": ("rgb", "ssim"),
    "psnr_y_matlab": ("y", "psnr"),
    "ssim_y_matlab": ("y", "ssim"),
    "psnr_y": ("y_float", "psnr"),
    "psnr_y_unrounded": ("y_float", "psnr"),
    "ssim_y": ("y_float", "ssim"),
    "dehazing_psnr": ("dehazing", "psnr"),
    "dehazing_ssim": ("dehazing", "ssim"),
    "skimage_psnr": ("defocus", "psnr"),
    "skimage_ssim_default": ("defocus", "ssim"),
    "mae": ("defocus", "mae"),
}
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
CASES = [(name, key) for name, scores in GOLDEN.items() for key in scores if key != "padded_h_w_ratio"]


def pair(name):
    """Input and target of a reference pair, (1, 3, H, W) in [0, 1]."""
    scene = name.removesuffix("_close")
    input, target = (read_image(REFERENCE / f"{scene}_{kind}.png") for kind in ("input", "target"))
    if name != scene:  # the target with noise of two grey levels
        noise = np.random.RandomState(7).randint(-2, 3, target.shape)
        input = (target.astype(int) + noise).clip(0, 255).astype(np.uint8)
    return [to_tensor(image)[None] for image in (input, target)]


@pytest.mark.parametrize("name, key", CASES)
def test_protocols_agree_with_the_reference(name, key):
    protocol, metric = SCORES[key]
    scores = PROTOCOLS[protocol](*pair(name))
    tolerance = 1e-3 if metric == "psnr" else 1e-5
    assert scores[metric].item() == pytest.approx(GOLDEN[name][key], abs=tolerance)


def test_configurations_offer_every_protocol():
    assert get_args(get_type_hints(config.TestSetConfig)["protocol"]) == tuple(PROTOCOLS)


def test_eight_bit_luma_is_the_integer_nearest_to_the_exact_luma():
    reds = torch.tensor([2, 6, 9, 13, 14, 128, 255])  # float32 rounds some colours of the first five the wrong way
    colours = torch.cartesian_prod(reds, torch.arange(256), torch.arange(256)).T[None, :, None]
    red, green, blue = colours.unbind(1)
    exact = 16 * 255000 + 65481 * red + 128553 * green + 24966 * blue  # in units of 1/255000 grey level
    rounded = luma(to_levels(colours.float() / 255)).round()[:, 0].long()
    assert (255000 * rounded - exact).abs().max() <= 127500


@pytest.mark.parametrize("height, width", [(11, 60), (200, 33), (64, 64)])
def test_rgb_agrees_with_scikit_image(height, width):
    input, target = (image[..., :height, :width] for image in pair("coffee"))
    arrays = [image[0].permute(1, 2, 0).double().numpy() for image in (input, target)]
    expected = structural_similarity(*arrays, channel_axis=2, **GAUSSIAN)
    scores = rgb(input, target)
    assert scores["ssim"].item() == pytest.approx(expected, abs=1e-4)
    assert scores["psnr"].item() == pytest.approx(peak_signal_noise_ratio(*arrays, data_range=1), abs=1e-3)


def test_scores_are_per_image():
    input, target = (
        torch.cat([a[..., :150, :200], b[..., :150, :200]])
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


def pooling_size(height, width):
    """H', W' and r of the released dehazing evaluation."""
    padded = [next(side for side in range(32, length + 33, 32) if side > length) for length in (height, width)]
    return *padded, max(1, round(min(padded) / 256))


def pooled(image, size):
    """(H, W, C) -> (*size, C): row i is the mean of rows floor(i H / h) to ceil((i + 1) H / h), columns likewise."""
    for axis, count in enumerate(size):
        length = image.shape[axis]
        spans = [range(i * length // count, math.ceil((i + 1) * length / count)) for i in range(count)]
        image = np.stack([image.take(span, axis).mean(axis) for span in spans], axis)
    return image


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_the_pooling_size_is_the_reference(name):
    assert list(pooling_size(*pair(name)[0].shape[-2:])) == GOLDEN[name]["padded_h_w_ratio"]


@pytest.mark.parametrize("height, width", [(480, 640), (448, 500), (460, 480), (64, 96), (32, 32), (300, 411)])
def test_dehazing_pools_every_size_as_the_released_evaluation_does(height, width):
    input, target = (F.interpolate(image, (height, width), mode="bilinear") for image in pair("coffee"))
    padded_height, padded_width, ratio = pooling_size(height, width)
    size = int(padded_height / ratio), int(padded_width / ratio)
    arrays = [pooled(image[0].permute(1, 2, 0).double().numpy(), size) for image in (input, target)]
    expected = structural_similarity(*arrays, channel_axis=2, **GAUSSIAN)
    assert dehazing(input, target)["ssim"].item() == pytest.approx(expected, abs=1e-5)


def realblur_by_the_book(restored, target):
    """The scores over the valid pixels of images (H, W, 3) that need no alignment but a scale of intensity."""
    scaled = restored * (restored * target).sum() / (restored * restored).sum()
    _, values = structural_similarity(target, scaled, channel_axis=2, full=True, **GAUSSIAN)
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
