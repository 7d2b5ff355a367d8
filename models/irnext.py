"""IRNeXt: a multi-scale convolutional U-Net for image restoration.

Cui et al., "IRNeXt: Rethinking Convolutional Network Design for Image Restoration", ICML 2023. Each class is a box of
the paper's architecture figure: IRNeXt (a), CNNBlock (b) and ConvS (c). The multi-scale module (d) and the local
attention module (e) are in models/layers.py.

The computation, top left to top right, with C, 2C and 4C channels at full, half and quarter size:

    full size   embed(x) ---------------------> CNNBlock --> merge --> CNNBlock --> head + x
                                                    |          |
                                                  down         up
                                                    |          |
    half        fuse with ConvS(x_half) ------> CNNBlock --> merge --> CNNBlock --> head + x_half
                                                    |          |
                                                  down         up
                                                    |          |
    quarter     fuse with ConvS(x_quarter) ---> CNNBlock ------------> CNNBlock --> head + x_quarter

The downsampled inputs enter through ConvS, so the coarse scales see the image itself and not only features of
features. Each head predicts a residual: the network only has to learn the degradation, and the loss supervises every
scale.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import ImageConv2d, MultiScaleModule, concat, conv, gelu, recompute_gelu
from models.options import check_options


class ResBlock(nn.Module):
    """x + conv2(between(GELU(conv1(x)))) with 3x3 convolutions: (N, C, H, W) -> (N, C, H, W).

    ``between`` is the multi-scale module in the last block of a CNNBlock, and the identity in the others.
    """

    def __init__(self, channels: int, between: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.between = nn.Identity() if between is None else between
        self.conv2 = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = recompute_gelu(lambda activation: self.conv2(self.between(activation)), self.conv1(x))
        return y.add_(x)  # in place: allocating the result takes longer than the addition itself


class CNNBlock(nn.Sequential):
    """Figure (b): ``num_blocks`` residual blocks, the last with the multi-scale module."""

    def __init__(self, channels: int, num_blocks: int, multi_scale: nn.Module | None) -> None:
        plain = [ResBlock(channels) for _ in range(num_blocks - 1)]
        super().__init__(*plain, ResBlock(channels, between=multi_scale))


class ConvS(nn.Sequential):
    """Figure (c): shallow features of the downsampled input: (N, 3, h, w) -> (N, C, h, w)."""

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
    """Figure (a): a U-Net over three scales that takes an input image and restores an output image at each.

    The encoder fuses its features with shallow features of the input at half and quarter size (``shallow``, ``fuse``).
    The decoder merges its features with the encoder's of the same scale (``merge``). At every scale a head maps the
    decoder's features to a residual image, which is added to the input at that scale (``heads``).

    Args:
        num_blocks: residual blocks per CNNBlock: 4 for dehazing and desnowing, 14 for motion deblurring; at most 256.
        channels: width C at full size, doubled at half and again at quarter size; a multiple of 8, at most 256.
        mean_window: window of the attention's local mean, as a fraction of height and width in (0, 1]; None averages
            over the whole image. The motion deblurring model uses 120/256.
        pool_sizes: pooling sizes of the multi-scale module, coarse to fine; empty for a network without the module.
        local_attention, frequency_modulation: switches for the paper's ablations.

    Attributes:
        size_multiple: height and width of an input must be multiples of this, in pixels.
        min_size: the smallest height and width of an input, in pixels.

    Raises:
        ValueError: an option is out of range (``models.options``).
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
        check_options(num_blocks, channels, mean_window, pool_sizes, local_attention, frequency_modulation)
        pool_sizes = tuple(pool_sizes)

        def cnn_block(width: int) -> CNNBlock:
            options = (local_attention, mean_window, frequency_modulation)
            return CNNBlock(width, num_blocks, MultiScaleModule(width, pool_sizes, *options) if pool_sizes else None)

        # Two strided convolutions halve the sides twice, then each pooling size must divide them. The attention's
        # reflection padding needs at least two pixels per side on the coarsest pooled features.
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
        """Restore a batch of images: (N, 3, H, W) in [0, 1] -> [quarter, half, full size], not clamped.

        Raises:
            ValueError: H or W is not a multiple of ``size_multiple`` (32 for the paper's pooling sizes) or is less
                than ``min_size`` (64); ``inference.Restorer`` accepts any size.
        """
        self._check_size(x)
        x_half = F.interpolate(x, scale_factor=0.5)  # nearest neighbour, as in the authors' code
        x_quarter = F.interpolate(x_half, scale_factor=0.5)

        full = self.encoder[0](gelu(self.embed(x)))
        half = self.fuse[0](concat(gelu(self.down[0](full)), self.shallow[0](x_half)))
        half = self.encoder[1](half)
        quarter = self.fuse[1](concat(gelu(self.down[1](half)), self.shallow[1](x_quarter)))
        quarter = self.encoder[2](quarter)

        z = self.decoder[0](quarter)
        restored_quarter = x_quarter + self.heads[0](z)
        z = gelu(self.merge[0](concat(gelu(self.up[0](z)), half)))
        z = self.decoder[1](z)
        restored_half = x_half + self.heads[1](z)
        z = gelu(self.merge[1](concat(gelu(self.up[1](z)), full)))
        z = self.decoder[2](z)
        restored = x + self.heads[2](z)

        return [restored_quarter, restored_half, restored]

    def _check_size(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"IRNeXt needs images of shape (N, 3, H, W), not {tuple(x.shape)}")
        height, width = x.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple or min(height, width) < self.min_size:
            raise ValueError(
                f"IRNeXt needs a height and width that are multiples of {self.size_multiple} and at least "
                f"{self.min_size}, not {height}x{width}; inference.Restorer accepts any size"
            )
