"""Run IRNeXt tile by tile on images too large for memory, with the same result as on the whole image.

Three operations depend on the whole image: the mean in each local attention, the instance norm of the shallow branches,
and bilinear upsampling with aligned corners, whose sampling grid depends on the image size. Restoring tiles
independently gets all three wrong, and overlapping the tiles does not help. Instead, each CNNBlock is run over all
tiles before the next one starts, so every global statistic is known before the first tile that needs it. Everything
else is convolutions: a tile is read with a margin as wide as their receptive field. The result equals that of the whole
image up to rounding, so there are no seams to blend.

Features of the current stage and encoder features for the skip connections are kept in main memory, whichever device
runs the network. The rows of a block's input are freed as its output is written.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.finite import infinite_to_nan_
from inference.memory import is_out_of_memory, release_cached_memory
from models.irnext import CNNBlock, ConvS, IRNeXt
from models.layers import LocalAttentionModule, MultiScaleModule, gelu, window_mean

BAND = 128  # rows of stored features per allocation
PLANES = 8  # channels per step of the window mean, which bounds its memory


class Window(NamedTuple):
    """A rectangle of a feature map: rows [top, bottom) and columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, margin: int, height: int, width: int) -> "Window":
        """The window expanded by ``margin`` on each side, clipped to a map of height x width."""
        return Window(
            max(0, self.top - margin),
            min(height, self.bottom + margin),
            max(0, self.left - margin),
            min(width, self.right + margin),
        )

    def cut_from(self, x: Tensor, outer: "Window") -> Tensor:
        """Crop this window from x (..., h, w), which covers the window ``outer``."""
        top, left = self.top - outer.top, self.left - outer.left
        return x[..., top : top + self.bottom - self.top, left : left + self.right - self.left]


def pins_memory(device: torch.device) -> bool:
    """Whether copies between ``device`` and main memory go through page-locked memory, and so do not block the host."""
    return device.type == "cuda" and torch.cuda.is_available()


class Downloads:
    """Copies tensors from ``device`` to main memory.

    On CUDA each one is stored when the next has been issued, so that the host does not wait for the GPU between tiles.
    On the CPU, ``add`` stores it at once.
    """

    def __init__(self, device: torch.device) -> None:
        self.pinned = pins_memory(device)
        self.pending: Callable[[], None] | None = None

    def add(self, x: Tensor, store: Callable[[Tensor], None]) -> None:
        """Call ``store`` with x in main memory, no later than in ``finish``."""
        if not self.pinned:
            return store(x.to("cpu"))
        host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True)
        copied = torch.cuda.current_stream(x.device).record_event()

        def finish() -> None:
            copied.synchronize()
            store(host)

        self.finish()
        self.pending = finish

    def finish(self) -> None:
        """Store what is pending."""
        if self.pending is not None:
            self.pending()
            self.pending = None


@dataclass
class Features:
    """A feature map (1, C, H, W) that is computed or loaded window by window.

    Attributes:
        channels, height, width: C, H, W of the whole map.
        read: returns the features of a window, (1, C, h, w), on the network's device.
        release: called with a row index once the rows above it are no longer needed.
    """

    channels: int
    height: int
    width: int
    read: Callable[[Window], Tensor]
    release: Callable[[int], None] = lambda row: None

    def kept(self) -> "Features":
        """The same features without ``release``, for a reader that is not the last one."""
        return Features(self.channels, self.height, self.width, self.read)


class StoredFeatures(Features):
    """Features in main memory, split into bands of rows that are allocated when written and freed when released.

    Layout within a band: (rows, W, C).

    Args:
        dtype: storage type; finite values beyond the range of float16 are clamped, infinite ones become NaN.
        device: device that ``read`` returns features on.
    """

    def __init__(self, channels: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.channels, self.height, self.width = channels, height, width
        self.dtype, self.device = dtype, device
        self.downloads = Downloads(device)
        self.bands: list[Tensor | None] = [None] * -(-height // BAND)

    # Methods where other features have attributes: bound methods in attributes would be reference cycles, whose tensors
    # are not freed until the garbage collector runs.
    def read(self, window: Window) -> Tensor:
        """The features of ``window``, (1, C, h, w), float32 on the network's device."""
        self.downloads.finish()
        parts = [self.bands[index][rows, window.left : window.right] for index, rows in self._bands_of(window)]
        size = (window.bottom - window.top, window.right - window.left, self.channels)
        x = torch.cat(parts, out=torch.empty(size, dtype=self.dtype, pin_memory=pins_memory(self.device)))
        return x.to(self.device, non_blocking=True).permute(2, 0, 1)[None].float()

    def release(self, row: int) -> None:
        """Free the bands that lie above ``row`` completely."""
        for index in range(max(0, row) // BAND):
            self.bands[index] = None

    def write(self, window: Window, x: Tensor) -> None:
        """Store x (1, C, h, w), the features of ``window``."""
        # Promoted, because bf16 cannot represent float16's largest value.
        wide = x[0].permute(1, 2, 0).to(torch.promote_types(x.dtype, self.dtype))
        if self.dtype == torch.float16:
            limit = torch.finfo(self.dtype).max
            wide = infinite_to_nan_(wide.clone()).clamp_(-limit, limit)
        self.downloads.add(wide.to(self.dtype), functools.partial(self._store, window))

    def _store(self, window: Window, x: Tensor) -> None:
        for index, rows in self._bands_of(window):
            if self.bands[index] is None:
                height = min(BAND, self.height - index * BAND)
                self.bands[index] = torch.empty(height, self.width, self.channels, dtype=self.dtype)
            first = index * BAND + rows.start - window.top
            self.bands[index][rows, window.left : window.right] = x[first : first + rows.stop - rows.start]

    def window_means(self, fraction: float) -> "StoredFeatures":
        """Local mean around each position, see ``models.layers.window_mean``."""
        self.downloads.finish()
        means = StoredFeatures(self.channels, self.height, self.width, self.dtype, self.device)
        means.bands = [torch.empty_like(band) for band in self.bands]
        for first in range(0, self.channels, PLANES):
            planes = torch.cat([band[..., first : first + PLANES] for band in self.bands]).permute(2, 0, 1)[None]
            mean = window_mean(planes.float().contiguous(), fraction)[0].permute(1, 2, 0)
            for band, rows in zip(means.bands, mean.split(BAND), strict=True):
                band[..., first : first + PLANES] = rows
        return means

    def _bands_of(self, window: Window) -> Iterator[tuple[int, slice]]:
        """Indices of the bands that overlap a window, each with the overlapping rows."""
        for index in range(window.top // BAND, -(-window.bottom // BAND)):
            start = index * BAND
            yield index, slice(max(window.top, start) - start, min(window.bottom, start + BAND) - start)


def local(function: Callable[..., Tensor], margin: int, channels: int, *sources: Features) -> Features:
    """``function`` of the features of ``sources``, which share one size; its receptive field extends by ``margin``."""
    height, width = sources[0].height, sources[0].width

    def read(window: Window) -> Tensor:
        outer = window.grown(margin, height, width)
        return window.cut_from(function(*(source.read(outer) for source in sources)), outer)

    def release(row: int) -> None:
        for source in sources:
            source.release(row - margin)

    return Features(channels, height, width, read, release)


def halved(function: Callable[[Tensor], Tensor], channels: int, source: Features) -> Features:
    """``function``, a 3 x 3 convolution with stride 2, applied to ``source``."""
    height, width = source.height // 2, source.width // 2

    def read(window: Window) -> Tensor:
        outer = window.grown(1, height, width)
        return window.cut_from(function(source.read(Window(*(2 * side for side in outer)))), outer)

    return Features(channels, height, width, read, lambda row: source.release(2 * (row - 1)))


def doubled(function: Callable[[Tensor], Tensor], channels: int, source: Features) -> Features:
    """``function``, a 4 x 4 transposed convolution with stride 2, applied to ``source``."""
    height, width = 2 * source.height, 2 * source.width

    def read(window: Window) -> Tensor:
        top, left = window.top // 2, window.left // 2
        inner = Window(top, -(-window.bottom // 2), left, -(-window.right // 2)).grown(1, source.height, source.width)
        return window.cut_from(function(source.read(inner)), Window(*(2 * side for side in inner)))

    return Features(channels, height, width, read, lambda row: source.release(row // 2 - 1))


def upsampled(source: Features, height: int, width: int, device: torch.device) -> Features:
    """``models.layers.upsample`` to height x width, on ``device``; every window uses the whole map's sampling grid."""

    def grid(first: int, last: int, length: int, full: int) -> tuple[int, int, Tensor, Tensor, Tensor]:
        """Along one axis, for positions [first, last): source indices [start, end), neighbours from start, weight."""
        step = (length - 1) / max(1, full - 1)
        position = torch.arange(first, last, dtype=torch.float64, device=device) * step
        lower = position.long().clamp(max=length - 1)
        upper = (lower + 1).clamp(max=length - 1)
        # The first of lower and the last of upper, without reading them.
        start, end = min(int(first * step), length - 1), min(int((last - 1) * step) + 2, length)
        return start, end, lower - start, upper - start, (position - lower).float()

    def read(window: Window) -> Tensor:
        top, bottom, above, below, down = grid(window.top, window.bottom, source.height, height)
        left, right, before, after, across = grid(window.left, window.right, source.width, width)
        x = source.read(Window(top, bottom, left, right))
        x = torch.lerp(x[..., above, :], x[..., below, :], down[:, None])
        return torch.lerp(x[..., before], x[..., after], across)

    return Features(source.channels, height, width, read, lambda row: None)


class TiledForward:
    """Runs the network on one image in tiles.

    Args:
        model: network in eval mode; its device runs the computation.
        tile: side of a tile at full resolution, in pixels; halved and retried when memory runs out.
        storage: dtype of the features kept in main memory; computation is float32 or the caller's autocast dtype.
        progress: called after each tile with the fraction of the work done, in [0, 1].

    Attributes:
        tile: current side, smaller than requested if memory ran out.
    """

    def __init__(
        self,
        model: IRNeXt,
        tile: int,
        storage: torch.dtype = torch.float32,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.model, self.storage, self.progress = model, storage, progress or (lambda done: None)
        self.device = next(model.parameters()).device
        self.channels = model.embed.out_channels
        self.multiple = model.size_multiple // 4  # tile sides are multiples of it: no pooling window crosses a border
        self.tile = tile
        # Cost of the two passes over a CNNBlock, in convolutions: up to its last residual block, and the rest. The
        # multi-scale pyramid in between is negligible. All six blocks cost the same: halving the sides doubles the
        # channels.
        self.enter_cost, self.leave_cost = 2 * len(model.encoder[0]) - 1, 3
        self.done, self.total = 0.0, 6 * (self.enter_cost + self.leave_cost)

    def __call__(self, image: Tensor) -> Tensor:
        """image (1, 3, H, W) in [0, 1], of a size the network accepts -> restored (1, 3, H, W), on the CPU.

        Follows ``IRNeXt.forward`` but computes only the full-size output, not clamped.
        """
        model, c = self.model, self.channels
        x, x_half, x_quarter = (self._image(image[..., ::step, ::step]) for step in (1, 2, 4))
        self.done = 0.0

        full = local(lambda x: gelu(model.embed(x)), 1, c, x)
        full = self._stored(self._cnn_block(model.encoder[0], full))

        half = halved(lambda x: gelu(model.down[0](x)), 2 * c, full.kept())
        half = local(_joined(model.fuse[0]), 1, 2 * c, half, self._shallow(model.shallow[0], x_half))
        half = self._stored(self._cnn_block(model.encoder[1], half))

        quarter = halved(lambda x: gelu(model.down[1](x)), 4 * c, half.kept())
        quarter = local(_joined(model.fuse[1]), 1, 4 * c, quarter, self._shallow(model.shallow[1], x_quarter))
        quarter = self._stored(self._cnn_block(model.encoder[2], quarter))

        z = self._stored(self._cnn_block(model.decoder[0], quarter))

        z = doubled(lambda z: gelu(model.up[0](z)), 2 * c, z)
        z = local(lambda *maps: gelu(_joined(model.merge[0])(*maps)), 0, 2 * c, z, half)
        z = self._stored(self._cnn_block(model.decoder[1], z))

        z = doubled(lambda z: gelu(model.up[1](z)), c, z)
        z = local(lambda *maps: gelu(_joined(model.merge[1])(*maps)), 0, c, z, full)
        z = self._cnn_block(model.decoder[2], z)

        restored = torch.empty_like(image, device="cpu")
        residual = local(lambda x, z: x + model.heads[2](z), 1, c, x, z)
        downloads = Downloads(self.device)

        def finish(core: Window) -> None:
            target = restored[..., core.top : core.bottom, core.left : core.right]
            downloads.add(residual.read(core), target.copy_)

        self._for_each_tile(residual, finish, self.leave_cost)
        downloads.finish()
        return restored

    def _cnn_block(self, block: CNNBlock, source: Features) -> Features:
        """The block's output; the first pass, which collects the global statistics, has run when this returns."""
        *plain, last = block
        module = last.between if isinstance(last.between, MultiScaleModule) else None
        pool_sizes = module.pool_sizes if module else ()
        height, width = source.height, source.width
        features = self._empty(source.channels, height, width)  # input of the last residual block
        pooled = [self._empty(source.channels, height // size, width // size) for size in pool_sizes]
        entered = local(nn.Sequential(*plain), 2 * len(plain), source.channels, source)

        def enter(core: Window) -> None:
            outer = core.grown(1, height, width)
            x = entered.read(outer)
            features.write(core, core.cut_from(x, outer))
            y = core.cut_from(gelu(last.conv1(x)), outer)
            for size, target in zip(pool_sizes, pooled, strict=True):
                target.write(Window(*(side // size for side in core)), F.avg_pool2d(y, size))

        self._for_each_tile(entered, enter, self.enter_cost, margin=1)
        scales = (
            [upsampled(scale, height, width, self.device) for scale in self._pyramid(module, pooled)] if module else []
        )

        def leave(x: Tensor, *scales: Tensor) -> Tensor:
            y = gelu(last.conv1(x))
            if module:
                y = module.conv_out(gelu(sum(scales, start=y)))
            return x + last.conv2(y)

        return local(leave, 3, source.channels, features, *scales)

    def _pyramid(self, module: MultiScaleModule, pooled: list[StoredFeatures]) -> list[Features]:
        """The outputs of the multi-scale module's attentions, coarse to fine, from the pooled features."""
        scales: list[Features] = []
        for x, scale_conv, attention in zip(pooled, module.convs, module.attentions, strict=True):
            maps = [x, upsampled(scales[-1], x.height, x.width, self.device)] if scales else [x]
            convolved = local(lambda *maps, conv=scale_conv: conv(sum(maps)), 1, x.channels, *maps)
            y = self._stored(convolved, cost=0)
            if isinstance(attention, LocalAttentionModule):
                y = self._stored(self._attended(attention, y), cost=0)
            scales.append(y)
        return scales

    def _attended(self, attention: LocalAttentionModule, y: StoredFeatures) -> Features:
        pixels = y.height * y.width
        mean = (self._moments(y.kept())[0] * pixels).float() / pixels  # overflows where the sum over a whole image does
        if attention.mean_window is None:
            return local(lambda y: attention(y, mean, mean), 1, y.channels, y)
        low = y.window_means(attention.mean_window)
        return local(lambda y, low: attention(y, mean, low), 1, y.channels, y, low)

    def _shallow(self, branch: ConvS, image: Features) -> Features:
        """The shallow branch's output, instance norm with the statistics of the whole image."""
        *convolutions, norm = branch
        features = local(nn.Sequential(*convolutions), 2, norm.num_features, image)
        mean, square = self._moments(features)
        variance = square - mean.square()
        mean, variance = mean.flatten().float(), variance.flatten().float()

        def normalise(x: Tensor) -> Tensor:
            return F.batch_norm(x, mean, variance, norm.weight, norm.bias, eps=norm.eps)

        return local(normalise, 0, norm.num_features, features)

    def _moments(self, source: Features) -> tuple[Tensor, Tensor]:
        """Mean and mean square over the whole map, each (1, C, 1, 1), float64."""
        sums = torch.zeros(2, 1, source.channels, 1, 1, dtype=torch.float64, device=self.device)

        def add(core: Window) -> None:
            x = source.read(core).double()
            sums.add_(torch.stack([x.sum((2, 3), keepdim=True), x.square().sum((2, 3), keepdim=True)]))

        self._for_each_tile(source, add, cost=0)
        mean, square = sums / (source.height * source.width)
        return mean, square

    def _image(self, image: Tensor) -> Features:
        def read(window: Window) -> Tensor:
            part = image[..., window.top : window.bottom, window.left : window.right]
            if pins_memory(self.device) and not part.is_cuda:
                part = part.contiguous().pin_memory()
            return part.to(self.device, non_blocking=True)

        return Features(3, *image.shape[-2:], read)

    def _empty(self, channels: int, height: int, width: int) -> StoredFeatures:
        return StoredFeatures(channels, height, width, self.storage, self.device)

    def _stored(self, source: Features, cost: float | None = None) -> StoredFeatures:
        """Compute ``source`` tile by tile and store it, releasing its inputs row by row."""
        target = self._empty(source.channels, source.height, source.width)
        self._for_each_tile(
            source, lambda core: target.write(core, source.read(core)), self.leave_cost if cost is None else cost
        )
        return target

    def _for_each_tile(self, source: Features, work: Callable[[Window], None], cost: float, margin: int = 0) -> None:
        """Call ``work`` on each tile of ``source``'s map, row by row, and release the rows above a finished row.

        Args:
            work: reads ``source`` with a margin of ``margin`` around the tile.
            cost: added to the progress, in the units of ``total``.
        """
        height, width = source.height, source.width
        side = self._side(source.channels)
        for top in range(0, height, side):
            bottom = min(height, top + side)
            for left in range(0, width, side):
                core = Window(top, bottom, left, min(width, left + side))
                self._work_or_split(core, work, source.channels)
                self.done += cost * (core.bottom - top) * (core.right - left) / (height * width)
                self.progress(min(1.0, self.done / self.total))
            source.release(bottom - margin)

    def _work_or_split(self, core: Window, work: Callable[[Window], None], channels: int) -> None:
        """Call ``work(core)``, retrying with smaller tiles when memory runs out; a failed call has changed nothing."""
        side = self._side(channels)
        if max(core.bottom - core.top, core.right - core.left) <= side:
            try:
                return work(core)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or side == self.multiple:
                    raise
            # Outside the handler: the traceback keeps the tensors alive.
            release_cached_memory()
            self.tile = max(self.tile // 2, 1)
            return self._work_or_split(core, work, channels)
        for top in range(core.top, core.bottom, side):
            for left in range(core.left, core.right, side):
                part = Window(top, min(core.bottom, top + side), left, min(core.right, left + side))
                self._work_or_split(part, work, channels)

    def _side(self, channels: int) -> int:
        """Side of a tile with this many channels that takes the same memory, a multiple of ``multiple``."""
        side = self.tile * math.sqrt(self.channels / channels)
        return max(1, int(side / self.multiple)) * self.multiple


def _joined(convolution: nn.Conv2d) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: convolution(torch.cat([x, y], dim=1))
