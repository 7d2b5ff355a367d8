"""The training loss: L1 between pixels and between Fourier coefficients, summed over the output scales."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LossTerms(NamedTuple):
    """The loss and its terms as scalars on the device; ``total`` is the one to backpropagate."""

    total: Tensor
    content: Tensor
    fft: Tensor


def fft_l1(difference: Tensor) -> Tensor:
    """Mean of |Re| and |Im| over the unnormalised 2-D FFT of a real (N, C, H, W) difference: a scalar.

    The FFT is linear, so transforming the difference once replaces transforming output and target. The input is real,
    so columns v and W - v of the spectrum are conjugate: only half of them are computed, and those that represent a
    pair count twice.
    """
    width = difference.shape[-1]
    # cuFFT supports float16 for power-of-two sizes only, and no bfloat16 (pytorch issue 117844).
    with torch.autocast(difference.device.type, enabled=False):
        spectrum = torch.view_as_real(
            torch.fft.rfft2(difference.to(torch.promote_types(difference.dtype, torch.float32)))
        )
    columns = spectrum.abs().mean((0, 1, 2, 4))
    single = columns[0] + columns[-1] if width % 2 == 0 else columns[0]
    double = columns[1:-1] if width % 2 == 0 else columns[1:]
    return (single + 2 * double.sum()) / width


class MultiScaleLoss(nn.Module):
    """content + fft_weight * fft, each summed over the scales.

    ``content`` is the mean absolute difference between output and target, ``fft`` the mean absolute difference of the
    real and imaginary parts of their unnormalised 2-D FFTs. The target is resized to each scale by bilinear
    interpolation without antialiasing, as in the authors' code.

    Args:
        fft_weight: weight of the FFT term; 0.1 in the authors' code.
    """

    def __init__(self, fft_weight: float = 0.1) -> None:
        super().__init__()
        self.fft_weight = fft_weight

    def forward(self, outputs: list[Tensor], target: Tensor) -> LossTerms:
        """Compare restored images with their target.

        Args:
            outputs: one (N, 3, h, w) tensor per scale, of any floating-point type.
            target: (N, 3, H, W) in [0, 1].
        """
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
