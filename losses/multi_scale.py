"""The training loss: L1 between pixels and between Fourier coefficients, and other terms if they are asked for."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pytorch_msssim import ssim
from torch import Tensor, nn

EPSILON = 1e-3  # of the Charbonnier term, in units of the pixel range
WINDOW, SIGMA = 11, 1.5  # Gaussian window of SSIM, in pixels (Wang et al., IEEE TIP 2004)


class LossTerms(NamedTuple):
    """The loss and its terms as scalars on the device; ``total`` is the one to backpropagate.

    A term that the loss does not have is None.
    """

    total: Tensor
    content: Tensor
    fft: Tensor
    charbonnier: Tensor | None = None
    ssim: Tensor | None = None
    lpips: Tensor | None = None

    def computed(self) -> dict[str, Tensor]:
        """The terms that the loss has, by name."""
        return {name: term for name, term in self._asdict().items() if term is not None}


def charbonnier(difference: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + 0.001^2), an L1 that is smooth at 0 (Charbonnier et al., ICIP 1994): a scalar."""
    return (difference.square() + EPSILON**2).sqrt().mean()


def gaussian_window() -> Tensor:
    """The window of SSIM, which is separable, along one axis: (3, 1, 1, 11)."""
    distance = torch.arange(WINDOW) - WINDOW // 2
    weights = torch.exp(-distance.square() / (2 * SIGMA**2))
    return (weights / weights.sum()).expand(3, 1, 1, WINDOW).contiguous()


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
    """The sum of weighted terms; by default content + 0.1 fft, as in the authors' code.

    ``content`` is the mean absolute difference between output and target, ``fft`` the mean absolute difference of the
    real and imaginary parts of their unnormalised 2-D FFTs; ``charbonnier`` takes the place of an absolute difference.
    These are summed over the scales. The target is resized to each scale by bilinear interpolation without
    antialiasing, as in the authors' code. ``ssim``, which is 1 - SSIM, and ``lpips`` compare the full-size output only:
    they have a scale of their own.

    Args:
        fft_weight: weight of the FFT term; 0.1 in the authors' code.
        l1_weight: weight of the content term.
        charbonnier_weight, ssim_weight, lpips_weight: weights of the other terms; 0 leaves the term out.
        lpips: computes LPIPS, (N, 3, H, W) and (N, 3, H, W) in [0, 1] -> N scores; needed if it has a weight.
    """

    def __init__(
        self,
        fft_weight: float = 0.1,
        *,
        l1_weight: float = 1.0,
        charbonnier_weight: float = 0.0,
        ssim_weight: float = 0.0,
        lpips_weight: float = 0.0,
        lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.fft_weight, self.l1_weight = fft_weight, l1_weight
        weights = {"charbonnier": charbonnier_weight, "ssim": ssim_weight, "lpips": lpips_weight}
        self.more = {name: weight for name, weight in weights.items() if weight > 0}
        self.lpips = lpips
        self.register_buffer("window", gaussian_window(), persistent=False)

    def forward(self, outputs: list[Tensor] | Tensor, target: Tensor) -> LossTerms:
        """Compare restored images with their target.

        Args:
            outputs: one (N, 3, h, w) tensor per scale, coarse to fine, of any floating-point type; a single tensor is a
                single scale.
            target: (N, 3, H, W) in [0, 1].
        """
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        content = fft = torch.zeros((), device=target.device)
        more = dict.fromkeys(self.more, content)
        for output in outputs:
            size = output.shape[-2:]
            if size == target.shape[-2:]:
                scaled = target
            else:
                scaled = F.interpolate(target, size=size, mode="bilinear", align_corners=False)
            difference = output.to(scaled.dtype) - scaled
            content = content + difference.abs().mean()
            fft = fft + fft_l1(difference)
            if "charbonnier" in more:
                more["charbonnier"] = more["charbonnier"] + charbonnier(difference)
        with torch.autocast(target.device.type, enabled=False):
            restored = outputs[-1].to(target.dtype)
            if "ssim" in more:
                more["ssim"] = 1 - ssim(restored, target, data_range=1, win=self.window.to(target.dtype))
            if "lpips" in more:
                more["lpips"] = self.lpips(restored, target).mean()
        total = self.l1_weight * content + self.fft_weight * fft
        for name, weight in self.more.items():
            total = total + weight * more[name]
        return LossTerms(total, content, fft, **more)
