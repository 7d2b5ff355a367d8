"""IRNeXt: a multi-scale convolutional U-Net for image restoration.

Cui et al., "IRNeXt: Rethinking Convolutional Network Design for Image Restoration", ICML 2023. The classes are the
boxes of the paper's figure: IRNeXt (a), CNNBlock (b), ConvS (c); models/layers.py has the multi-scale module (d) and
the local attention (e).
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import ImageConv2d, MultiScaleModule, conv, gelu, join, recompute_gelu


class ResBlock(nn.Module):
    """x + conv(between(GELU(conv(x)))), with two 3x3 convolutions: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, between: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.between = nn.Identity() if between is None else between
        self.conv2 = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = recompute_gelu(lambda y: self.conv2(self.between(y)), self.conv1(x))
        return y.add_(x)  # in place: allocating another tensor of this size takes longer than the sum


class CNNBlock(nn.Sequential):
    """Figure (b): a row of residual blocks, the last of which carries the multi-scale module."""

    def __init__(self, channels: int, num_blocks: int, multi_scale: nn.Module | None) -> None:
        plain = [ResBlock(channels) for _ in range(num_blocks - 1)]
        super().__init__(*plain, ResBlock(channels, between=multi_scale))


class ConvS(nn.Sequential):
    """Figure (c): the shallow branch, from a smaller input image to features: (N, 3, h, w) -> (N, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            conv(3, channels // 4, layer=ImageConv2d),
            nn.GELU(),
            conv(channels // 4, channels // 2, kernel_size=1, layer=ImageConv2d),
            nn.GELU(),
            conv(channels // 2, channels // 2, layer=ImageConv2d),
            nn.GELU(),
            conv(channels // 2, channels, kernel_size=1, layer=ImageConv2d),
            nn.InstanceNorm2d(channels, affine=True),
        )


class IRNeXt(nn.Module):
    """Figure (a): a U-Net over three scales with an input image and an output image at each.

    The encoder goes down from full to quarter size, where features of the half-size and quarter-size input join
    (``shallow``, ``fuse``). The decoder goes back up and joins the encoder's features of the same size (``merge``). At
    each scale a head turns the decoder's features into a residual that is added to the input of that size.

    Args:
        num_blocks: residual blocks per CNNBlock: 4 for dehazing and desnowing, 14 for motion deblurring.
        channels: width C at full size, 2 C and 4 C at half and quarter size; a multiple of 8.
        mean_window: window of the attention's local mean as a fraction of the image's sides, in (0, 1]; None takes the
            mean over the whole image. The motion deblurring model uses 120/256.
        pool_sizes: pooling sizes of the multi-scale module, coarse to fine; empty for a network without it.
        local_attention, frequency_modulation: switches for the paper's ablations.

    Attributes:
        size_multiple, min_size: an input's sides are multiples of the one and at least the other, in pixels.

    Raises:
        ValueError: an option is out of range.
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
            raise ValueError(f"mean_window must be in (0, 1], not {mean_window}")
        pool_sizes = tuple(pool_sizes)
        if any(size < 1 for size in pool_sizes) or list(pool_sizes) != sorted(set(pool_sizes), reverse=True):
            raise ValueError(f"pool_sizes must go from coarse to fine, such as 8, 4, 2, not {pool_sizes}")

        def cnn_block(width: int) -> CNNBlock:
            options = (local_attention, mean_window, frequency_modulation)
            return CNNBlock(width, num_blocks, MultiScaleModule(width, pool_sizes, *options) if pool_sizes else None)

        # Sides are halved twice and then divided by every pooling size; reflection padding in the attention needs two
        # pixels of the smallest pooled features.
        self.size_multiple = 4 * math.lcm(*pool_sizes)
        self.min_size = 2 * self.size_multiple
        self.mean_window = mean_window

        c = channels
        self.embed = conv(3, c, layer=ImageConv2d)
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
        """x (N, 3, H, W) in [0, 1] -> restored images at 1/4, 1/2 and full size, coarse to fine, not clamped.

        Raises:
            ValueError: H or W is not a multiple of ``size_multiple`` or less than ``min_size`` (32 and 64 with the
                paper's pooling sizes); ``inference.Restorer`` takes images of any size.
        """
        self._check_size(x)
        x_half = F.interpolate(x, scale_factor=0.5)
        x_quarter = F.interpolate(x_half, scale_factor=0.5)

        full = self.encoder[0](gelu(self.embed(x)))
        half = self.fuse[0](join(gelu(self.down[0](full)), self.shallow[0](x_half)))
        half = self.encoder[1](half)
        quarter = self.fuse[1](join(gelu(self.down[1](half)), self.shallow[1](x_quarter)))
        quarter = self.encoder[2](quarter)

        z = self.decoder[0](quarter)
        restored_quarter = x_quarter + self.heads[0](z)
        z = gelu(self.merge[0](join(gelu(self.up[0](z)), half)))
        z = self.decoder[1](z)
        restored_half = x_half + self.heads[1](z)
        z = gelu(self.merge[1](join(gelu(self.up[1](z)), full)))
        z = self.decoder[2](z)
        restored = x + self.heads[2](z)

        return [restored_quarter, restored_half, restored]

    def _check_size(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"IRNeXt takes images of shape (N, 3, H, W), not {tuple(x.shape)}")
        height, width = x.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple or min(height, width) < self.min_size:
            raise ValueError(
                f"IRNeXt takes sides that are multiples of {self.size_multiple} and at least {self.min_size}, "
                f"not {height}x{width}; inference.Restorer takes images of any size"
            )
