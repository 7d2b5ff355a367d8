"""The training loss: L1 in space and in frequency, summed over the three scales."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LossTerms(NamedTuple):
    """Scalars on the outputs' device; ``total`` is the one to differentiate."""

    total: Tensor
    content: Tensor
    fft: Tensor


def fft_l1(difference: Tensor) -> Tensor:
    """Mean of |Re| and |Im| over the unnormalised 2-D FFT of a real (N, C, H, W) difference.

    The FFT is linear, so that one transform of the difference serves for two, and of a real image its columns
    v and W - v are conjugate: half the spectrum is computed and the columns that stand for two are counted twice.
    """
    width = difference.shape[-1]
    # cuFFT takes half precision for powers of two only and bfloat16 not at all (pytorch issue 117844)
    with torch.autocast(difference.device.type, enabled=False):
        spectrum = torch.view_as_real(
            torch.fft.rfft2(difference.to(torch.promote_types(difference.dtype, torch.float32)))
        )
    columns = spectrum.abs().mean((0, 1, 2, 4))
    single = columns[0] + columns[-1] if width % 2 == 0 else columns[0]
    double = columns[1:-1] if width % 2 == 0 else columns[1:]
    return (single + 2 * double.sum()) / width


class MultiScaleLoss(nn.Module):
    """content + fft_weight * fft, each the sum over the outputs' scales.

    content is the mean absolute difference, fft that of the unnormalised 2-D FFT's real and imaginary parts; the
    target is brought to each output's size by bilinear interpolation without antialiasing, as in the paper's code.
    """

    def __init__(self, fft_weight: float = 0.1) -> None:
        super().__init__()
        self.fft_weight = fft_weight

    def forward(self, outputs: list[Tensor], target: Tensor) -> LossTerms:
        """outputs: images (N, 3, h, w) of any scales, in any precision; target (N, 3, H, W) in [0, 1]."""
        content = fft = torch.zeros((), device=target.device)
        for output in outputs:
            size = output.shape[-2:]
            if size == target.shape[-2:]:
                scaled = target
            else:
                scaled = F.interpolate(target, size=size, mode="bilinear", align_corners=False)
            difference = output.to(scaled.dtype) - scaled
            content = content + difference.abs().mean()
            fft = fft + fft_l1(difference)
        return LossTerms(content + self.fft_weight * fft, content, fft)
