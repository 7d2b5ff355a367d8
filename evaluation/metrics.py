"""PSNR, SSIM and related metrics, as each benchmark defines them.

Every function takes images (N, 3, H, W) in [0, 1] and returns one score per image, (N,), on the same device. A
benchmark's score is the mean of its images' scores. PROTOCOLS maps names to the published protocols.

Except for ``realblur``, which needs OpenCV, nothing here copies between host and device or waits for the device.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from pytorch_msssim import ssim as gaussian_ssim
from torch import Tensor

from evaluation.alignment import align
from utils.padding import extend

MAX_PSNR = 100.0  # Identical images have infinite PSNR, which neither a mean nor JSON can hold.
WINDOW, SIGMA = 11, 1.5  # Gaussian window of SSIM, in pixels (Wang et al., IEEE TIP 2004)


def psnr(restored: Tensor, target: Tensor) -> Tensor:
    """10 log10(1 / mean squared error) in dB, over all channels, at most ``MAX_PSNR``."""
    return decibels((restored - target).square().flatten(1).mean(1, dtype=torch.float64))


def decibels(mean_squared_error: Tensor) -> Tensor:
    """PSNR in dB from the mean squared error of images in [0, 1], at most ``MAX_PSNR``."""
    return -10 * torch.log10(mean_squared_error.clamp_min(10 ** (-MAX_PSNR / 10)))


def mae(restored: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over all channels, in [0, 1]."""
    return (restored - target).abs().flatten(1).mean(1)


def ssim(restored: Tensor, target: Tensor) -> Tensor:
    """SSIM with an 11 x 11 Gaussian window (sigma 1.5), averaged over the positions where the window fits.

    For images smaller than 11 pixels the window shrinks to the largest odd side that fits.
    """
    height, width = target.shape[-2:]
    side = min(WINDOW, height, width)
    if side == 1:  # pytorch_msssim squeezes dimensions of size 1
        restored, target = (extend(image, max(2, height), max(2, width)) for image in (restored, target))
    window = _gaussian_window(side - 1 + side % 2, target)
    return gaussian_ssim(restored, target, data_range=1, size_average=False, win=window)


def ssim_map(restored: Tensor, target: Tensor, blur: Callable[[Tensor], Tensor], bias: float = 1.0) -> Tensor:
    """SSIM at each window position: (N, C, H, W) -> (N, C, h, w), float64.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.

    Args:
        blur: the window's weighted mean, (N, C, H, W) -> (N, C, h, w).
        bias: factor on variances and covariance; n / (n - 1) gives the unbiased estimates for n pixels.
    """
    x, y = restored.double(), target.double()
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = (bias * (blur(p * p) - mean * mean) for p, mean in ((x, mean_x), (y, mean_y)))
    covariance = bias * (blur(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance * (2 * covariance + c2) / (var_x + var_y + c2)


def uniform_ssim(restored: Tensor, target: Tensor) -> Tensor:
    """SSIM with scikit-image's defaults: a uniform 7 x 7 window and unbiased variances.

    For images smaller than 7 pixels the window shrinks to the largest odd side that fits.
    """
    side = min(7, *target.shape[-2:])
    side -= 1 - side % 2
    pixels = side * side
    bias = pixels / (pixels - 1) if pixels > 1 else 1.0
    return ssim_map(restored, target, lambda x: F.avg_pool2d(x, side, stride=1), bias).flatten(1).mean(1)


def to_levels(image: Tensor) -> Tensor:
    """Pixel values of the image saved with 8 bits: [0, 1] -> integers 0..255 as float64."""
    return (image * 255).round().double()


def luma(levels: Tensor) -> Tensor:
    """ITU-R BT.601 luma as in MATLAB's ``rgb2ycbcr``: (N, 3, H, W) in [0, 255] -> (N, 1, H, W) in [16, 235]."""
    red, green, blue = levels.split(1, dim=1)
    return (65.481 * red + 128.553 * green + 24.966 * blue) / 255 + 16


def rgb(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """PSNR and SSIM over RGB, without quantisation."""
    return {"psnr": psnr(restored, target), "ssim": ssim(restored, target)}


def y(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """PSNR and SSIM of the 8-bit luma of 8-bit images: the deraining benchmarks.

    MATLAB's ``rgb2ycbcr`` returns 8-bit luma for 8-bit images, so the scripts behind the Rain13K tables (MPRNet's,
    Restormer's) score rounded luma. Rounding costs about 0.1 dB at 39 dB and 1 dB at 50 dB; see ``y_float``.
    """
    return rgb(*(luma(to_levels(image)).round() / 255 for image in (restored, target)))


def y_float(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """PSNR and SSIM of the unrounded luma of 8-bit images: BasicSR's, and PReNet's deraining script.

    PReNet's script converts to double (``im2double``) before ``rgb2ycbcr``, which then does not round.
    """
    return rgb(*(luma(to_levels(image)) / 255 for image in (restored, target)))


def dehazing(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """PSNR over RGB and SSIM after average pooling: RESIDE SOTS, Haze4K and the desnowing benchmarks.

    As in the authors' released evaluation, H' = 32 (floor(H / 32) + 1), W' likewise, r = max(1, round(min(H', W') /
    256)), and both images are pooled to (floor(H' / r), floor(W' / r)). A side that already is a multiple of 32 gains
    32 more. The released script pads this way, and every published SSIM on CSD (640 x 480) depends on it.

    The score is not comparable with full-size SSIM: one pair gave 0.82 pooled and 0.57 at full size.
    """
    height, width = (32 * (side // 32 + 1) for side in target.shape[-2:])
    ratio = max(1, round(min(height, width) / 256))
    size = (height // ratio, width // ratio)
    pooled = [F.adaptive_avg_pool2d(image, size) for image in (restored, target)]
    return {"psnr": psnr(restored, target), "ssim": ssim(*pooled)}


def defocus(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """PSNR, SSIM (scikit-image's defaults) and mean absolute error over RGB, without quantisation: DPDD."""
    return {
        "psnr": psnr(restored, target),
        "ssim": uniform_ssim(restored, target),
        "mae": mae(restored, target),
    }


def realblur(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """PSNR and SSIM over RGB after alignment to the target: RealBlur (Rim et al., ECCV 2020).

    Both are averaged over the pixels that the aligned image covers (see ``evaluation.alignment.align``). SSIM uses the
    Gaussian window and leaves out a border of 5 pixels, where the window does not fit.
    """
    scores: dict[str, list[Tensor]] = {"psnr": [], "ssim": []}
    for restored_one, target_one in zip(restored, target, strict=True):
        aligned, valid = align(restored_one, target_one)
        aligned, reference = (aligned * valid)[None], (target_one * valid)[None]
        error = (aligned - reference).double().square().sum() / (3 * valid.sum()).clamp_min(1)
        scores["psnr"].append(decibels(error))
        if min(reference.shape[-2:]) < WINDOW:
            scores["ssim"].append(ssim(aligned, reference)[0])
            continue
        border = WINDOW // 2
        inner = valid[border:-border, border:-border]
        values = ssim_map(aligned, reference, _gaussian_blur)[0] * inner
        scores["ssim"].append(values.sum() / (3 * inner.sum()).clamp_min(1))
    return {name: torch.stack(values) for name, values in scores.items()}


def _gaussian_blur(x: Tensor) -> Tensor:
    """Mean under the Gaussian window where it fits: (N, C, H, W) -> (N, C, H - 10, W - 10)."""
    window = _gaussian_window(WINDOW, x)
    return F.conv2d(F.conv2d(x, window, groups=x.shape[1]), window.mT, groups=x.shape[1])


def _gaussian_window(side: int, image: Tensor) -> Tensor:
    """One-dimensional Gaussian window for each channel of ``image``, summing to 1: (C, 1, 1, side).

    It is computed on the image's device, because copying it there would make the host wait.
    """
    distance = torch.arange(side, device=image.device, dtype=image.dtype) - side // 2
    window = torch.exp(-distance.square() / (2 * SIGMA**2))
    return (window / window.sum()).expand(image.shape[1], 1, 1, side)


Protocol = Callable[[Tensor, Tensor], dict[str, Tensor]]
PROTOCOLS: dict[str, Protocol] = {
    "rgb": rgb,
    "y": y,
    "y_float": y_float,
    "dehazing": dehazing,
    "defocus": defocus,
    "realblur": realblur,
}
