"""PSNR, SSIM and their like, as the benchmarks define them.

All functions take images (N, 3, H, W) in [0, 1] on any device and give (N,), one score per image; a benchmark's
score is the mean over its images of each image's score. PROTOCOLS has the published ways of scoring by name.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from pytorch_msssim import ssim as gaussian_ssim
from torch import Tensor

from evaluation.alignment import align
from utils.padding import extend

MAX_PSNR = 100.0  # of two equal images, whose PSNR is infinite: a mean and JSON need a number


def psnr(restored: Tensor, target: Tensor) -> Tensor:
    """10 log10(1 / mean squared error) in dB, over all channels; at most ``MAX_PSNR``."""
    return decibels((restored - target).square().flatten(1).mean(1, dtype=torch.float64))


def decibels(mean_squared_error: Tensor) -> Tensor:
    """PSNR of images in [0, 1] from their mean squared error."""
    return -10 * torch.log10(mean_squared_error.clamp_min(10 ** (-MAX_PSNR / 10)))


def mae(restored: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over all channels, of values in [0, 1]."""
    return (restored - target).abs().flatten(1).mean(1)


def ssim(restored: Tensor, target: Tensor) -> Tensor:
    """SSIM with Wang et al.'s Gaussian window (11 x 11, sigma 1.5) over the region where it fits.

    The window shrinks to the largest odd size that fits images smaller than 11 pixels.
    """
    height, width = target.shape[-2:]
    side = min(11, height, width)
    if side == 1:  # pytorch_msssim takes a side of one pixel for a missing dimension
        restored, target = (extend(image, max(2, height), max(2, width)) for image in (restored, target))
    return gaussian_ssim(restored, target, data_range=1, size_average=False, win_size=side - 1 + side % 2)


def ssim_map(restored: Tensor, target: Tensor, blur: Callable[[Tensor], Tensor], bias: float = 1.0) -> Tensor:
    """SSIM at each position of the window that ``blur`` averages over: (N, C, H, W) -> (N, C, h, w).

    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004, in
    float64. ``bias`` multiplies variances and covariance: n / (n - 1) makes them those of a sample of n.
    """
    x, y = restored.double(), target.double()
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = (bias * (blur(p * p) - mean * mean) for p, mean in ((x, mean_x), (y, mean_y)))
    covariance = bias * (blur(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance * (2 * covariance + c2) / (var_x + var_y + c2)


def uniform_ssim(restored: Tensor, target: Tensor) -> Tensor:
    """SSIM with scikit-image's default, a uniform 7 x 7 window and the covariance of a sample: the DPDD benchmark's.

    The window shrinks to the largest odd size that fits smaller images; one of 1 x 1 has no variance.
    """
    side = min(7, *target.shape[-2:])
    side -= 1 - side % 2
    pixels = side * side
    bias = pixels / (pixels - 1) if pixels > 1 else 1.0
    return ssim_map(restored, target, lambda x: F.avg_pool2d(x, side, stride=1), bias).flatten(1).mean(1)


def luma(image: Tensor) -> Tensor:
    """Y of MATLAB's ``rgb2ycbcr`` (ITU-R BT.601, 16 to 235): (N, 3, H, W) -> (N, 1, H, W) in [16, 235] / 255."""
    weights = torch.tensor([65.481, 128.553, 24.966], device=image.device, dtype=image.dtype)
    return (torch.einsum("nchw,c->nhw", image, weights)[:, None] + 16) / 255


def quantise(image: Tensor) -> Tensor:
    """Rounded to the 256 levels of an 8-bit file, still in [0, 1]."""
    return (image * 255).round() / 255


def rgb(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """RGB, unquantised."""
    return {"psnr": psnr(restored, target), "ssim": ssim(restored, target)}


def y(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Luma of the 8-bit images: the deraining benchmarks."""
    return rgb(luma(quantise(restored)), luma(quantise(target)))


def dehazing(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """RGB PSNR; SSIM of both images after average pooling: RESIDE SOTS and what followed it.

    With H' and W' the sides rounded up to multiples of 32 and r = max(1, round(min(H', W') / 256)), images are
    pooled to (H' / r, W' / r) (the authors' evaluation). Not comparable with full-size SSIM: 0.82 against 0.57 was
    measured on one pair. Sides that are multiples of 32 already count as they are; the released script adds 32.
    """
    height, width = (-(-side // 32) * 32 for side in target.shape[-2:])
    ratio = max(1, round(min(height, width) / 256))
    size = (height // ratio, width // ratio)
    pooled = [F.adaptive_avg_pool2d(image, size) for image in (restored, target)]
    return {"psnr": psnr(restored, target), "ssim": ssim(*pooled)}


def defocus(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """RGB, unquantised, with the mean absolute error and scikit-image's default SSIM: the DPDD benchmark."""
    return {
        "psnr": psnr(restored, target),
        "ssim": uniform_ssim(restored, target),
        "mae": mae(restored, target),
    }


def realblur(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """RGB after alignment to the target, over the pixels that both have: RealBlur (Rim et al., ECCV 2020).

    The squared error is summed and SSIM averaged where the aligned image has pixels (see
    ``evaluation.alignment.align``); SSIM, with the Gaussian window, leaves out a border of 5 pixels, where the window
    does not fit.
    """
    scores: dict[str, list[Tensor]] = {"psnr": [], "ssim": []}
    for image, wanted in zip(restored, target, strict=True):
        aligned, valid = align(image, wanted)
        wanted, aligned = (wanted * valid)[None], (aligned * valid)[None]
        error = (aligned - wanted).double().square().sum() / (3 * valid.sum()).clamp_min(1)
        scores["psnr"].append(decibels(error))
        if min(wanted.shape[-2:]) < 11:
            scores["ssim"].append(ssim(aligned, wanted)[0])
            continue
        inner = valid[5:-5, 5:-5]
        values = ssim_map(aligned, wanted, _gaussian_blur)[0] * inner
        scores["ssim"].append(values.sum() / (3 * inner.sum()).clamp_min(1))
    return {name: torch.stack(values) for name, values in scores.items()}


def _gaussian_blur(x: Tensor) -> Tensor:
    """Mean under the Gaussian window of ``ssim``, where it fits: (N, C, H, W) -> (N, C, H - 10, W - 10)."""
    distance = torch.arange(-5, 6, device=x.device, dtype=x.dtype)
    window = torch.exp(-distance.square() / (2 * 1.5**2))
    window = (window / window.sum()).expand(x.shape[1], 1, 1, 11)
    return F.conv2d(F.conv2d(x, window, groups=x.shape[1]), window.mT, groups=x.shape[1])


Protocol = Callable[[Tensor, Tensor], dict[str, Tensor]]
PROTOCOLS: dict[str, Protocol] = {
    "rgb": rgb,
    "y": y,
    "dehazing": dehazing,
    "defocus": defocus,
    "realblur": realblur,
}
