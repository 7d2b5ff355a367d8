"""The modules inside a CNNBlock: the figure's multi-scale module (d) and local attention module (e)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from models.upsampling import upsample


class ImageConv2d(nn.Conv2d):
    """A convolution that stays float32 in mixed precision, for what reads the image itself.

    bf16 has coarser steps than 8-bit images, and thick haze leaves few of those.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    bias: bool = True,
    layer: type[nn.Conv2d] = nn.Conv2d,
) -> nn.Conv2d:
    """Convolution whose padding keeps the size at stride 1: (N, in, H, W) -> (N, out, H / stride, W / stride)."""
    return layer(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=bias)


def recompute_gelu(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``module(gelu(x))``, which recomputes the GELU in the backward pass instead of keeping it.

    x is kept for the GELU's own backward anyway. This saves a third of a residual block's memory for a hundredth of its
    time (docs/performance.md). A compiler decides by itself what to keep.
    """
    activation = gelu(x)
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return module(activation)
    kept, storage = x.detach(), _storage(activation)

    def pack(saved: Tensor) -> Tensor | None:
        return None if _storage(saved) == storage else saved

    def unpack(saved: Tensor | None) -> Tensor:
        return F.gelu(kept) if saved is None else saved

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        return module(activation)


def _storage(x: Tensor) -> tuple:
    return x.data_ptr(), x.shape, x.stride()


def gelu(x: Tensor) -> Tensor:
    """GELU. Where no gradient is needed it is written over x, which nothing else may use: a third of the memory."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.gelu(x)
    return torch.ops.aten.gelu_(x)


def join(x: Tensor, skip: Tensor) -> Tensor:
    """Concatenation of features of one size: (N, C1, H, W), (N, C2, H, W) -> (N, C1 + C2, H, W)."""
    # Instance norm returns contiguous features; concatenated with them, the result would not be channels-last.
    return torch.cat([x, skip.contiguous(memory_format=torch.channels_last)], dim=1)


def window_mean(x: Tensor, window: float) -> Tensor:
    """Mean over a window around every position: (N, C, H, W) -> (N, C, H, W).

    The window is ``floor(window * H) x floor(window * W)``, at least 1 x 1. The mean is taken where the window
    fits and extended to H x W by replicating the border, the smaller half above and to the left, as the test-time
    local converter does (Chu et al., ECCV 2022). Running sums make the cost independent of the window's size;
    they are float32 at least, because a half-precision sum over a thousand pixels has no digits left.
    """
    mean = x.to(torch.promote_types(x.dtype, torch.float32))
    for axis in (-2, -1):
        side = x.shape[axis]
        length = _window_length(window, side)
        sums = F.pad(mean.cumsum(axis), (0, 0, 1, 0) if axis == -2 else (1, 0))
        first = torch.arange(side, device=x.device) - (length - 1) // 2
        first = first.clamp(0, side - length)  # a window that would cross the border is the nearest one that fits
        mean = (sums.index_select(axis, first + length) - sums.index_select(axis, first)) / length
    return mean.to(x.dtype)


def _window_length(window: float, side: int) -> int:
    if torch.compiler.is_exporting():  # the side is a symbol then, on which only whole-number arithmetic stays open
        numerator, denominator = window.as_integer_ratio()
        return torch.sym_max(1, side * numerator // denominator)
    return max(1, int(window * side))


class LocalAttentionModule(nn.Module):
    """Figure (e): a filter made from the image itself, applied to the features and modulated by frequency.

    From the mean over the image a 1x1 convolution, batch norm and tanh make one K x K filter A for each image
    and each of ``groups`` groups of consecutive channels:

        A = tanh(BN(V mean(X)))                                                                     (3)

    A is the sum of a low-pass part A_l, the uniform mean filter, and the rest, a high-pass part. A learned
    per-channel W scales the high-pass part:

        A' = A_l + W (A - A_l)                                                                      (4)
        X * A' = W (X * A) - (W - 1) (X * A_l)                                                      (5)

    X * A_l, the low frequencies, is taken as the mean over the whole image or, with ``mean_window``, over a
    window (see ``window_mean``); * is the convolution, its input padded by reflection. Writing w = W - 1, the
    result joins the features with the learned per-channel weights a and b:

        Y = a X'+ (1 + b) X,   X' = (1 + w) (X * A) - w mean(X)                                 (6, 7)

    w (``modulation``), a (``filtered_weight``) and b (``identity_weight``) start at zero, so that the module starts
    as the identity, and A gets no gradient until a moves away from zero.

    Every step after A is linear in X and constant over the image: filter, modulation and identity collapse into
    one depthwise filter, a (1 + w) A with 1 + b added to its centre, and the offset -a w mean(X). That one
    convolution is all the work that is done at full size, with no copy of each pixel's neighbourhood.

    Without ``frequency_modulation`` W is 1 (the paper's ablation): Y = a (X * A) + (1 + b) X.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        groups: int = 8,
        mean_window: float | None = None,
        frequency_modulation: bool = True,
    ) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"local attention: {channels} channels cannot be split into {groups} groups")
        self.channels, self.kernel_size, self.groups, self.mean_window = channels, kernel_size, groups, mean_window
        self.project = nn.Conv2d(channels, groups * kernel_size**2, 1, bias=False)
        self.norm = BatchNorm(groups * kernel_size**2)
        self.modulation = nn.Parameter(torch.zeros(channels)) if frequency_modulation else None
        self.filtered_weight = nn.Parameter(torch.zeros(channels))
        self.identity_weight = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_normal_(self.project.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, mean: Tensor | None = None, low: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), H and W larger than half the filter.

        Where x is a part of an image, ``mean`` (N, C, 1, 1) and the low frequencies ``low``, which are the mean or,
        with ``mean_window``, (N, C, H, W), are given: those of the whole image (see ``inference.tiled``).
        """
        if mean is None:
            mean = x.mean((2, 3), keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        kernel = repeat(
            self.filter_of(mean),
            "n (g kh kw) 1 1 -> n (g c) kh kw",
            g=self.groups,
            c=self.channels // self.groups,
            kh=self.kernel_size,
        )
        weight = self.filtered_weight
        offset = None
        if self.modulation is not None:
            if low is None:
                low = mean if self.mean_window is None else window_mean(x, self.mean_window)
            offset = -(weight * self.modulation)[:, None, None] * low
            weight = weight * (1 + self.modulation)
        half = self.kernel_size // 2
        identity = F.pad((1 + self.identity_weight)[:, None, None], (half,) * 4)
        kernel = weight[:, None, None] * kernel + identity
        filtered = filter_each(x, kernel)
        return filtered if offset is None else filtered.add_(offset)

    def filter_of(self, mean: Tensor) -> Tensor:
        """The filter A from the mean of the features: (N, C, 1, 1) -> (N, groups K K, 1, 1), in (-1, 1).

        In float32 always: the norm magnifies the differences between images, and with them any rounding of the mean.
        """
        with torch.autocast(mean.device.type, enabled=False):
            return torch.tanh(self.norm(self.project(mean)))


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that takes its running statistics for a batch of one image, as in evaluation.

    One value per channel has no variance: with a batch size of 1, or for the last image of an epoch. A batch that is
    not finite leaves the running statistics as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 1, 1) -> (N, C, 1, 1)."""
        if not self.training or len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        new = [self.running_mean.clone(), self.running_var.clone()]
        y = F.batch_norm(x, *new, self.weight, self.bias, training=True, momentum=self.momentum, eps=self.eps)
        with torch.no_grad():
            for value, updated in zip((self.running_mean, self.running_var), new, strict=True):
                value.copy_(torch.where(updated.isfinite(), updated, value))
            self.num_batches_tracked += 1
        return y


def filter_each(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter each channel of each image with its own odd K x K kernel, borders reflected.

    x (N, C, H, W) and kernel (N, C, K, K) -> (N, C, H, W): a depthwise convolution over N C channels.
    """
    n, c, height, width = x.shape
    size = kernel.shape[-1]
    padded = F.pad(x, (size // 2,) * 4, mode="reflect")
    if torch.compiler.is_exporting():  # the number of a convolution's groups cannot be left open in a graph
        return sum(
            kernel[:, :, row, column, None, None] * padded[:, :, row : row + height, column : column + width]
            for row in range(size)
            for column in range(size)
        )
    filtered = F.conv2d(
        padded.reshape(1, n * c, height + size - 1, width + size - 1),
        kernel.reshape(n * c, 1, size, size),
        groups=n * c,
    )
    # Back to the layout of the rest, or every sum and convolution from here on mixes the two.
    return filtered.view(n, c, height, width).contiguous(memory_format=torch.channels_last)


class MultiScaleModule(nn.Module):
    """Figure (d): the features pooled by each of ``pool_sizes``, coarse to fine, each scale with its own attention.

    y_p = attention_p(conv_p(pool_p(x) + u)), where u is the next coarser y up-sampled (nothing for the coarsest);
    the result is conv(GELU(x + sum of the y_p up-sampled to the size of x)).

    Args:
        pool_sizes: pooling sizes from the coarsest to the finest, the paper's are 8, 4, 2.
        local_attention: False leaves each scale with its convolution alone (the paper's ablation).
        mean_window, frequency_modulation: see ``LocalAttentionModule``.
    """

    def __init__(
        self,
        channels: int,
        pool_sizes: tuple[int, ...] = (8, 4, 2),
        local_attention: bool = True,
        mean_window: float | None = None,
        frequency_modulation: bool = True,
    ) -> None:
        super().__init__()
        self.pool_sizes = pool_sizes
        self.convs = nn.ModuleList(conv(channels, channels, bias=False) for _ in pool_sizes)
        self.attentions = nn.ModuleList(
            LocalAttentionModule(channels, mean_window=mean_window, frequency_modulation=frequency_modulation)
            if local_attention
            else nn.Identity()
            for _ in pool_sizes
        )
        self.conv_out = conv(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), H and W multiples of the pooling sizes."""
        size = x.shape[-2:]
        total = x
        coarser = None
        for pool_size, scale_conv, attention in zip(self.pool_sizes, self.convs, self.attentions, strict=True):
            y = F.avg_pool2d(x, pool_size)
            if coarser is not None:
                y.add_(upsample(coarser, y.shape[-2:]))
            coarser = attention(scale_conv(y))
            total = upsample(coarser, size).add_(total)
        return self.conv_out(gelu(total))
