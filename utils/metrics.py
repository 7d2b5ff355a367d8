"""PSNR and SSIM as the benchmarks define them.

All functions take pictures (N, 3, H, W) in [0, 1] on any device and give (N,), one score per picture; a benchmark's
score is the mean over its pictures of each picture's score. PROTOCOLS has the published ways of scoring by name.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from pytorch_msssim import ssim as gaussian_ssim
from torch import Tensor

from utils.padding import extend

MAX_PSNR = 100.0  # of two equal pictures, whose PSNR is infinite: a mean and JSON need a number


def psnr(restored: Tensor, target: Tensor) -> Tensor:
    """10 log10(1 / mean squared error) in dB, over all channels; at most ``MAX_PSNR``."""
    error = (restored - target).square().flatten(1).mean(1, dtype=torch.float64)
    return -10 * torch.log10(error.clamp_min(10 ** (-MAX_PSNR / 10)))


def ssim(restored: Tensor, target: Tensor) -> Tensor:
    """SSIM with Wang et al.'s Gaussian window (11 x 11, sigma 1.5) over the region where it fits.

    The window shrinks to the largest odd size that fits pictures smaller than 11 pixels.
    """
    height, width = target.shape[-2:]
    side = min(11, height, width)
    if side == 1:  # pytorch_msssim takes a side of one pixel for a missing dimension
        restored, target = (extend(picture, max(2, height), max(2, width)) for picture in (restored, target))
    return gaussian_ssim(restored, target, data_range=1, size_average=False, win_size=side - 1 + side % 2)


def luma(picture: Tensor) -> Tensor:
    """Y of MATLAB's ``rgb2ycbcr`` (ITU-R BT.601, 16 to 235): (N, 3, H, W) -> (N, 1, H, W) in [16, 235] / 255."""
    weights = torch.tensor([65.481, 128.553, 24.966], device=picture.device, dtype=picture.dtype)
    return (torch.einsum("nchw,c->nhw", picture, weights)[:, None] + 16) / 255


def quantise(picture: Tensor) -> Tensor:
    """Rounded to the 256 levels of an 8-bit file, still in [0, 1]."""
    return (picture * 255).round() / 255


def rgb(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """RGB, unquantised."""
    return {"psnr": psnr(restored, target), "ssim": ssim(restored, target)}


def y(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Luma of the 8-bit pictures: the deraining benchmarks."""
    return rgb(luma(quantise(restored)), luma(quantise(target)))


def dehazing(restored: Tensor, target: Tensor) -> dict[str, Tensor]:
    """RGB PSNR; SSIM of both pictures after average pooling: RESIDE SOTS and what followed it.

    With H' and W' the sides rounded up to multiples of 32 and r = max(1, round(min(H', W') / 256)), pictures are
    pooled to (H' / r, W' / r) (the authors' evaluation). Not comparable with full-size SSIM: 0.82 against 0.57 was
    measured on one pair. Sides that are multiples of 32 already count as they are; the released script adds 32.
    """
    height, width = (-(-side // 32) * 32 for side in target.shape[-2:])
    ratio = max(1, round(min(height, width) / 256))
    size = (height // ratio, width // ratio)
    pooled = [F.adaptive_avg_pool2d(picture, size) for picture in (restored, target)]
    return {"psnr": psnr(restored, target), "ssim": ssim(*pooled)}


Protocol = Callable[[Tensor, Tensor], dict[str, Tensor]]
PROTOCOLS: dict[str, Protocol] = {"rgb": rgb, "y": y, "dehazing": dehazing}
