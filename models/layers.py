"""The modules inside a CNNBlock: the multi-scale module and the local attention module, (d) and (e) in the figure."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from models.upsampling import upsample


class ImageConv2d(nn.Conv2d):
    """A convolution that runs in float32 even under autocast, for the layers that read the image itself.

    bf16 rounds values near 1 to steps of 1/256, about the step of an 8-bit image, and thick haze leaves only a few of
    those steps to tell pixels apart.
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
    """Convolution with "same" padding at stride 1: (N, in, H, W) -> (N, out, H / stride, W / stride)."""
    return layer(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=bias)


def recompute_gelu(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``module(gelu(x))``, with the GELU recomputed in the backward pass instead of kept in memory.

    x has to be kept for the gradient of the GELU anyway. This saves a third of a residual block's activation memory and
    costs 1 % of its time (docs/performance.md). Under torch.compile, the compiler decides what to recompute.
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
    """Identifies a saved tensor by its memory, since autograd may pack it as a new Python object."""
    return x.data_ptr(), x.shape, x.stride()


def gelu(x: Tensor) -> Tensor:
    """GELU. Without gradients it overwrites x, which the caller must not use again: this lowers the peak memory."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.gelu(x)
    return torch.ops.aten.gelu_(x)


def concat(x: Tensor, skip: Tensor) -> Tensor:
    """Concatenate channels: (N, C1, H, W), (N, C2, H, W) -> (N, C1 + C2, H, W), in the memory format of x."""
    # ConvS ends in an instance norm, which returns contiguous features: unconverted, they would decide the layout.
    return torch.cat([x, like_format(skip, x)], dim=1)


def like_format(x: Tensor, reference: Tensor) -> Tensor:
    """x in the memory format of ``reference``, channels-last or contiguous."""
    if torch.compiler.is_exporting():  # a graph for open sizes leaves the format to its runtime
        return x
    channels_last = reference.is_contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def window_mean(x: Tensor, window: float) -> Tensor:
    """Mean over a sliding window: (N, C, H, W) -> (N, C, H, W).

    The window covers ``floor(window * H) x floor(window * W)`` pixels, at least 1 x 1. Means are computed where the
    window fits into the image and replicated outwards to H x W, with the smaller half of the border at the top and
    left, as in the test-time local converter (Chu et al., ECCV 2022). Cumulative sums make the cost independent of the
    window size. They use at least float32: a half-precision sum over a thousand pixels has no accurate digits left.
    """
    mean = x.to(torch.promote_types(x.dtype, torch.float32))
    for axis in (-2, -1):
        side = x.shape[axis]
        length = _window_length(window, side)
        sums = F.pad(mean.cumsum(axis), (0, 0, 1, 0) if axis == -2 else (1, 0))
        first = torch.arange(side, device=x.device) - (length - 1) // 2
        first = first.clamp(0, side - length)  # windows that would cross the border move inside
        mean = (sums.index_select(axis, first + length) - sums.index_select(axis, first)) / length
    return mean.to(x.dtype)


def _window_length(window: float, side: int) -> int:
    if torch.compiler.is_exporting():  # the side is symbolic and stays dynamic under integer arithmetic only
        numerator, denominator = window.as_integer_ratio()
        return torch.sym_max(1, side * numerator // denominator)
    return max(1, int(window * side))


class LocalAttentionModule(nn.Module):
    """Figure (e): a filter that is predicted from the image, applied to its features and modulated by frequency.

    The mean of the features X over the image goes through a 1x1 convolution V, batch norm and tanh, which gives one
    K x K filter A for each image and each of ``groups`` groups of consecutive channels:

        A = tanh(BN(V mean(X)))                                                                     (3)

    A splits into a low-pass part A_l, the uniform averaging filter, and the high-pass remainder. A learned weight W per
    channel scales the high-pass part; with * for convolution of the reflection-padded features:

        A' = A_l + W (A - A_l)                                                                      (4)
        X * A' = W (X * A) - (W - 1) (X * A_l)                                                      (5)

    The low frequencies X * A_l are taken as the mean of X over the whole image or, with ``mean_window``, over a window
    (``window_mean``). With w = W - 1 and learned weights a and b per channel, the output is

        Y = a X' + (1 + b) X,   X' = (1 + w) (X * A) - w mean(X)                                 (6, 7)

    w (``modulation``), a (``filtered_weight``) and b (``identity_weight``) are initialised to zero. The module thus
    starts as the identity, and A receives no gradient until a has moved away from zero.

    Once A is known, Y is linear in X. Filter, modulation and identity therefore fold into a single depthwise filter,
    a (1 + w) A with 1 + b added at its centre, and an offset, -a w mean(X). One depthwise convolution is all the work
    on the features themselves, and the K x K neighbourhood of each pixel is never unfolded in memory. Under autocast
    the 1 stays out of the filter, where b and A would be rounded away beside it, and X is added instead.

    Without ``frequency_modulation`` (ablation in the paper) W is 1: Y = a (X * A) + (1 + b) X.
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
            raise ValueError(f"local attention needs a multiple of {groups} channels, not {channels}")
        self.channels, self.kernel_size, self.groups, self.mean_window = channels, kernel_size, groups, mean_window
        self.project = nn.Conv2d(channels, groups * kernel_size**2, 1, bias=False)
        self.norm = BatchNorm(groups * kernel_size**2)
        self.modulation = nn.Parameter(torch.zeros(channels)) if frequency_modulation else None
        self.filtered_weight = nn.Parameter(torch.zeros(channels))
        self.identity_weight = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_normal_(self.project.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, mean: Tensor | None = None, low: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), with H and W greater than kernel_size // 2.

        When x is a tile, the caller passes the statistics of the whole image: ``mean`` (N, C, 1, 1), and the low
        frequencies ``low``, which equal ``mean`` or, with ``mean_window``, have the shape of x.
        """
        if mean is None:
            mean = x.mean((2, 3), keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        kernel = repeat(
            self.predict_filter(mean),
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
        half_precision = torch.is_autocast_enabled(x.device.type)
        identity = self.identity_weight if half_precision else 1 + self.identity_weight
        identity = F.pad(identity[:, None, None], (self.kernel_size // 2,) * 4)
        kernel = weight[:, None, None] * kernel + identity
        filtered = depthwise_conv(x, kernel)
        if offset is not None:
            filtered.add_(offset)
        return filtered.add_(x) if half_precision else filtered

    def predict_filter(self, mean: Tensor) -> Tensor:
        """Predict A from the mean of the features: (N, C, 1, 1) -> (N, groups * K * K, 1, 1) in (-1, 1).

        Always in float32: batch norm amplifies the differences between images, and with them any rounding of the mean.
        """
        with torch.autocast(mean.device.type, enabled=False):
            return torch.tanh(self.norm(self.project(mean)))


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that normalises a batch of one image with the running statistics, as in evaluation.

    The input holds one value per image and channel, so a single image (batch size 1, or a last batch of one) has no
    variance. A batch that is not finite leaves the running statistics unchanged.
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


def depthwise_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter every channel of every image with its own kernel, K odd, with reflection padding.

    x (N, C, H, W), kernel (N, C, K, K) -> (N, C, H, W), channels-last: one depthwise convolution over N * C channels.
    """
    n, c, height, width = x.shape
    size = kernel.shape[-1]
    # On CUDA the backward pass of F.pad adds in an order that varies.
    deterministic = x.is_cuda and torch.are_deterministic_algorithms_enabled()
    padded = reflect_by_slices(x, size // 2) if deterministic else F.pad(x, (size // 2,) * 4, mode="reflect")
    if torch.compiler.is_exporting():  # the number of groups cannot be dynamic in an exported graph
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
    # In the memory format of x; otherwise every later sum and convolution would mix two.
    return like_format(filtered.view(n, c, height, width), x)


def reflect_by_slices(x: Tensor, margin: int) -> Tensor:
    """Reflection padding with a deterministic backward pass: (N, C, H, W) -> (N, C, H + 2 margin, W + 2 margin)."""
    for axis in (-2, -1):
        before, after = x.narrow(axis, 1, margin), x.narrow(axis, x.shape[axis] - 1 - margin, margin)
        x = torch.cat([before.flip(axis), x, after.flip(axis)], axis)
    return x


class MultiScaleModule(nn.Module):
    """Figure (d): pools the features to several sizes and refines each size, coarse to fine, with its own attention.

    For each pooling size p, coarse to fine, u being the upsampled y of the size before (0 for the coarsest):

        y_p = attention_p(conv_p(pool_p(x) + u))

    The output is conv_out(GELU(x + sum over p of y_p upsampled to the size of x)).

    Args:
        pool_sizes: pooling sizes, coarse to fine; 8, 4, 2 in the paper.
        local_attention: False keeps only the convolution at each size (ablation in the paper).
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
        """(N, C, H, W) -> (N, C, H, W), with H and W multiples of every pooling size."""
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
