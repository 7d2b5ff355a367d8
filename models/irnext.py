"""IRNeXt (Cui et al., "IRNeXt: Rethinking Convolutional Network Design for Image Restoration", ICML 2023)."""

import math
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import MultiScaleModule, PictureConv2d, conv, gelu, join, through


class ResBlock(nn.Module):
    """x + conv(conv(x) + GELU), with ``between`` standing between the two 3x3 convolutions: (N, C, H, W) kept."""

    def __init__(self, channels: int, between: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.between = nn.Identity() if between is None else between
        self.conv2 = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = through(lambda y: self.conv2(self.between(y)), gelu, self.conv1(x))
        return y.add_(x)  # in place: a new tensor of this size costs more time than the sum


class CNNBlock(nn.Sequential):
    """Figure (b): residual blocks in a row, the last of which carries the multi-scale module."""

    def __init__(self, channels: int, num_blocks: int, multi_scale: nn.Module | None) -> None:
        plain = [ResBlock(channels) for _ in range(num_blocks - 1)]
        super().__init__(*plain, ResBlock(channels, between=multi_scale))


class ConvS(nn.Sequential):
    """Figure (c): the shallow branch that turns a smaller input into features: (N, 3, h, w) -> (N, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            conv(3, channels // 4, layer=PictureConv2d),
            nn.GELU(),
            conv(channels // 4, channels // 2, kernel_size=1, layer=PictureConv2d),
            nn.GELU(),
            conv(channels // 2, channels // 2, layer=PictureConv2d),
            nn.GELU(),
            conv(channels // 2, channels, kernel_size=1, layer=PictureConv2d),
            nn.InstanceNorm2d(channels, affine=True),
        )


class IRNeXt(nn.Module):
    """Figure (a): a U-Net over three scales with an input and an output at each.

    The encoder goes from full to quarter size; features of the half and the quarter input join on the way down
    (``shallow``, ``fuse``). The decoder goes back up, joining the encoder's features of the same size (``merge``).
    At each scale the decoder's features become a picture that is added to the input of that size.
    ``through(module, make, ...)`` is ``module(make(...))`` in less memory.

    Args:
        num_blocks: residual blocks per CNNBlock: 4 for dehazing and desnowing, 14 for motion deblurring.
        channels: width at full size, C; twice and four times that at half and quarter size. A multiple of 8.
        mean_window: side of the window of the attention's mean, as a fraction of the picture's, in (0, 1]; None
            takes the whole picture. Motion deblurring is evaluated with 120/256.
        pool_sizes: pooling sizes of the multi-scale module, coarse to fine; empty for a network without it.
        local_attention, frequency_modulation: switches for the paper's ablations.
    """

    def __init__(
        self,
        num_blocks: int = 4,
        channels: int = 32,
        mean_window: float | None = None,
        *,
        pool_sizes: tuple[int, ...] = (8, 4, 2),
        local_attention: bool = True,
        frequency_modulation: bool = True,
    ) -> None:
        super().__init__()
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, not {num_blocks}")
        if channels < 8 or channels % 8:
            raise ValueError(f"channels must be a multiple of 8, not {channels}")
        if mean_window is not None and not 0 < mean_window <= 1:
            raise ValueError(f"mean_window must lie in (0, 1], not {mean_window}")
        pool_sizes = tuple(pool_sizes)
        if any(size < 1 for size in pool_sizes) or list(pool_sizes) != sorted(set(pool_sizes), reverse=True):
            raise ValueError(f"pool_sizes must go from coarse to fine, such as 8, 4, 2, not {pool_sizes}")

        def cnn_block(width: int) -> CNNBlock:
            options = (local_attention, mean_window, frequency_modulation)
            return CNNBlock(width, num_blocks, MultiScaleModule(width, pool_sizes, *options) if pool_sizes else None)

        c = channels
        # Sides must halve twice and then divide by every pooling size; the attention's reflected border needs two
        # pixels of the smallest pooled features.
        self.size_multiple = 4 * math.lcm(*pool_sizes)
        self.min_size = 2 * self.size_multiple

        self.mean_window = mean_window

        self.embed = conv(3, c, layer=PictureConv2d)
        self.down = nn.ModuleList([conv(c, 2 * c, stride=2), conv(2 * c, 4 * c, stride=2)])
        self.shallow = nn.ModuleList([ConvS(2 * c), ConvS(4 * c)])
        self.fuse = nn.ModuleList([conv(4 * c, 2 * c), conv(8 * c, 4 * c)])
        self.encoder = nn.ModuleList([cnn_block(c), cnn_block(2 * c), cnn_block(4 * c)])

        self.decoder = nn.ModuleList([cnn_block(4 * c), cnn_block(2 * c), cnn_block(c)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(4 * c, 2 * c, 4, 2, padding=1), nn.ConvTranspose2d(2 * c, c, 4, 2, padding=1)]
        )
        self.merge = nn.ModuleList([conv(4 * c, 2 * c, kernel_size=1), conv(2 * c, c, kernel_size=1)])
        self.heads = nn.ModuleList([conv(4 * c, 3), conv(2 * c, 3), conv(c, 3)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (N, 3, H, W) in [0, 1] -> restored pictures at 1/4, 1/2 and full size, unclamped, coarse to fine.

        Raises:
            ValueError: H or W is no multiple of ``size_multiple`` or less than ``min_size`` (32 and 64 with the
                paper's pooling sizes); ``utils.inference.restore`` pads and crops pictures of any size.
        """
        self._check_size(x)
        x_half = F.interpolate(x, scale_factor=0.5)
        x_quarter = F.interpolate(x_half, scale_factor=0.5)

        full = through(self.encoder[0], gelu, self.embed(x))

        half = through(self.fuse[0], join, self.down[0](full), self.shallow[0](x_half))
        half = self.encoder[1](half)

        quarter = through(self.fuse[1], join, self.down[1](half), self.shallow[1](x_quarter))
        quarter = self.encoder[2](quarter)

        z = self.decoder[0](quarter)
        restored_quarter = x_quarter + self.heads[0](z)

        z = through(self.merge[0], join, self.up[0](z), half)
        z = through(self.decoder[1], gelu, z)
        restored_half = x_half + self.heads[1](z)

        z = through(self.merge[1], join, self.up[1](z), full)
        z = through(self.decoder[2], gelu, z)
        restored = x + self.heads[2](z)

        return [restored_quarter, restored_half, restored]

    def restore(self, picture: str | Path | np.ndarray | Tensor, **options) -> np.ndarray | Tensor:
        """A picture of any size and kind, restored, in the form it came in: see ``utils.arrays.restore_any``."""
        from utils.arrays import restore_any  # it builds on this module

        return restore_any(self, picture, **options)

    def _check_size(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"IRNeXt takes pictures of shape (N, 3, H, W), not {tuple(x.shape)}")
        height, width = x.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple or min(height, width) < self.min_size:
            raise ValueError(
                f"IRNeXt takes sides that are multiples of {self.size_multiple} and at least {self.min_size}, "
                f"not {height}x{width}: pad the picture (utils.inference.restore does)"
            )
