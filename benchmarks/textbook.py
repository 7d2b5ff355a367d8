"""Textbook formulation of IRNeXt: the baseline of the speed benchmark, and the reference in the tests.

Every step follows the paper's equations with plain library calls, written for clarity rather than speed. Local
attention unfolds the nine neighbours of each pixel and sums them weighted by the filter; every term of the modulation
is a full-size tensor.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.irnext import IRNeXt, ResBlock
from models.layers import LocalAttentionModule, MultiScaleModule


class TextbookAttention(nn.Module):
    """Local attention as in equations (3) to (7), with the parameters of ``attention``."""

    def __init__(self, attention: LocalAttentionModule) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        n, c, height, width = x.shape
        attention = self.attention
        size, groups = attention.kernel_size, attention.groups
        mean = F.adaptive_avg_pool2d(x, 1)
        taps = attention.predict_filter(mean).view(n, groups, 1, size**2, 1)
        neighbours = F.unfold(F.pad(x, (size // 2,) * 4, mode="reflect"), size)
        neighbours = neighbours.view(n, groups, c // groups, size**2, height * width)
        filtered = (neighbours * taps).sum(3).view(n, c, height, width)
        if attention.modulation is not None:
            low = mean if attention.mean_window is None else local_mean(x, attention.mean_window)
            w = attention.modulation[:, None, None]
            filtered = filtered * (w + 1) - w * low
        a, b = attention.filtered_weight[:, None, None], attention.identity_weight[:, None, None]
        return filtered * a + x * (b + 1)


class TextbookMultiScale(nn.Module):
    """The multi-scale module with textbook attention, with the parameters of ``module``."""

    def __init__(self, module: MultiScaleModule) -> None:
        super().__init__()
        self.module = module
        self.attentions = nn.ModuleList(
            TextbookAttention(attention) if isinstance(attention, LocalAttentionModule) else attention
            for attention in module.attentions
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        total, coarser = x, None
        for size, conv, attention in zip(self.module.pool_sizes, self.module.convs, self.attentions, strict=True):
            y = F.avg_pool2d(x, size)
            if coarser is not None:
                y = y + upsample(coarser, y)
            coarser = attention(conv(y))
            total = total + upsample(coarser, x)
        return self.module.conv_out(F.gelu(total))


class TextbookBlock(nn.Module):
    """The residual block, with the parameters of ``block``."""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.block = block
        self.between = TextbookMultiScale(block.between) if isinstance(block.between, MultiScaleModule) else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y = F.gelu(self.block.conv1(x))
        if self.between is not None:
            y = self.between(y)
        return x + self.block.conv2(y)


def upsample(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear interpolation with aligned corners, to the height and width of ``like``."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def local_mean(x: Tensor, window: float) -> Tensor:
    """Sliding-window mean with replicated borders (see ``models.layers.window_mean``): (N, C, H, W) -> same shape."""
    rows, columns = (max(1, int(window * side)) for side in x.shape[-2:])
    pooled = F.avg_pool2d(x, (rows, columns), stride=1)
    top, left = (rows - 1) // 2, (columns - 1) // 2
    return F.pad(pooled, (left, columns - 1 - left, top, rows - 1 - top), mode="replicate")


class TextbookIRNeXt(nn.Module):
    """Textbook formulation of a copy of ``model``, with the same weights, in contiguous (NCHW) memory format."""

    def __init__(self, model: IRNeXt) -> None:
        super().__init__()
        self.network = copy.deepcopy(model)
        for cnn_block in (*self.network.encoder, *self.network.decoder):
            for index, block in enumerate(cnn_block):
                cnn_block[index] = TextbookBlock(block)
        for parameter in self.network.parameters():
            parameter.data = parameter.data.contiguous()

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (N, 3, H, W) in [0, 1] -> restored images at 1/4, 1/2 and full size."""
        net = self.network
        x_half = F.interpolate(x, scale_factor=0.5)
        x_quarter = F.interpolate(x_half, scale_factor=0.5)

        full = net.encoder[0](F.gelu(net.embed(x)))
        half = F.gelu(net.down[0](full))
        half = net.encoder[1](net.fuse[0](torch.cat([half, net.shallow[0](x_half)], dim=1)))
        quarter = F.gelu(net.down[1](half))
        quarter = net.encoder[2](net.fuse[1](torch.cat([quarter, net.shallow[1](x_quarter)], dim=1)))

        z = net.decoder[0](quarter)
        restored_quarter = x_quarter + net.heads[0](z)
        z = F.gelu(net.merge[0](torch.cat([F.gelu(net.up[0](z)), half], dim=1)))
        z = net.decoder[1](z)
        restored_half = x_half + net.heads[1](z)
        z = F.gelu(net.merge[1](torch.cat([F.gelu(net.up[1](z)), full], dim=1)))
        z = net.decoder[2](z)
        return [restored_quarter, restored_half, x + net.heads[2](z)]
