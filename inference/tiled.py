"""IRNeXt over an image that does not fit into memory at once: exact, tile by tile and stage by stage.

Three things in the network look at the whole image: the mean in each local attention, the instance norm of the
shallow branches, and the up-sampling with aligned corners, whose grid depends on the image's size. A tile that is
restored by itself gets all three wrong, wherever its border lies. Here the network runs one CNNBlock at a time over
all tiles, so that each of these means is known, over the whole image, before the first tile that needs it. Between
the blocks only convolutions remain, for which a tile is read with a margin as wide as they see. The result is that of
the network on the whole image up to rounding: there are no seams to blend.

The features of the stage at hand and those that the decoder comes back to lie in main memory, whatever device computes
(``main_memory``); a block's input is let go, row by row, as its output grows.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.memory import is_out_of_memory, release_cached_memory
from models.irnext import CNNBlock, ConvS, IRNeXt
from models.layers import LocalAttentionModule, MultiScaleModule, gelu, window_mean

BAND = 128  # rows of stored features that are allocated and freed together
PLANES = 8  # channels whose window mean is taken at a time


class Window(NamedTuple):
    """A rectangle of a map: rows ``top`` up to ``bottom`` and columns ``left`` up to ``right``."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, margin: int, height: int, width: int) -> "Window":
        """Larger by ``margin`` on each side, but no further than a map of that size goes."""
        return Window(
            max(0, self.top - margin),
            min(height, self.bottom + margin),
            max(0, self.left - margin),
            min(width, self.right + margin),
        )

    def cut_from(self, x: Tensor, outer: "Window") -> Tensor:
        """This window of x (..., h, w), which shows ``outer``."""
        top, left = self.top - outer.top, self.left - outer.left
        return x[..., top : top + self.bottom - self.top, left : left + self.right - self.left]


@dataclass
class Features:
    """A map of features that can be read one window at a time.

    Attributes:
        channels, height, width: of the whole map.
        read: gives the features of a window, (1, C, h, w), on the device that computes.
        release: is told that no row above the given one will be read again.
    """

    channels: int
    height: int
    width: int
    read: Callable[[Window], Tensor]
    release: Callable[[int], None] = lambda row: None

    def kept(self) -> "Features":
        """The same features, to be read now and again later."""
        return Features(self.channels, self.height, self.width, self.read)


class StoredFeatures(Features):
    """Features in main memory, in bands of rows that are allocated when written and freed when released."""

    def __init__(self, channels: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(channels, height, width, self._read, self._release)
        self.dtype, self.device = dtype, device
        self.bands: list[Tensor | None] = [None] * -(-height // BAND)

    def write(self, window: Window, x: Tensor) -> None:
        """Store x (1, C, h, w), the features of ``window``."""
        limit = torch.finfo(self.dtype).max
        wide = x[0].permute(1, 2, 0).to(torch.promote_types(x.dtype, self.dtype))  # bf16 has no such limit
        x = wide.clamp(-limit, limit).to("cpu", self.dtype)
        for index, rows in self._bands_of(window):
            if self.bands[index] is None:
                height = min(BAND, self.height - index * BAND)
                self.bands[index] = torch.empty(height, self.width, self.channels, dtype=self.dtype)
            first = index * BAND + rows.start - window.top
            self.bands[index][rows, window.left : window.right] = x[first : first + rows.stop - rows.start]

    def window_means(self, fraction: float) -> "StoredFeatures":
        """The mean over a window around each position, see ``models.layers.window_mean``."""
        means = StoredFeatures(self.channels, self.height, self.width, self.dtype, self.device)
        means.bands = [torch.empty_like(band) for band in self.bands]
        for first in range(0, self.channels, PLANES):
            planes = torch.cat([band[..., first : first + PLANES] for band in self.bands]).permute(2, 0, 1)[None]
            mean = window_mean(planes.float().contiguous(), fraction)[0].permute(1, 2, 0)
            for band, rows in zip(means.bands, mean.split(BAND), strict=True):
                band[..., first : first + PLANES] = rows
        return means

    def _read(self, window: Window) -> Tensor:
        parts = [
            self.bands[index][rows, window.left : window.right].to(self.device)
            for index, rows in self._bands_of(window)
        ]
        return torch.cat(parts).permute(2, 0, 1)[None].float()

    def _release(self, row: int) -> None:
        for index in range(max(0, row) // BAND):
            self.bands[index] = None

    def _bands_of(self, window: Window) -> Iterator[tuple[int, slice]]:
        """The bands that a window meets, each with the rows in it."""
        for index in range(window.top // BAND, -(-window.bottom // BAND)):
            start = index * BAND
            yield index, slice(max(window.top, start) - start, min(window.bottom, start + BAND) - start)


def local(function: Callable[..., Tensor], margin: int, channels: int, *sources: Features) -> Features:
    """``function`` of the features of ``sources`` (all of one size), which sees ``margin`` pixels around each."""
    height, width = sources[0].height, sources[0].width

    def read(window: Window) -> Tensor:
        outer = window.grown(margin, height, width)
        return window.cut_from(function(*(source.read(outer) for source in sources)), outer)

    def release(row: int) -> None:
        for source in sources:
            source.release(row - margin)

    return Features(channels, height, width, read, release)


def halved(function: Callable[[Tensor], Tensor], channels: int, source: Features) -> Features:
    """A 3 x 3 convolution of stride 2."""
    height, width = source.height // 2, source.width // 2

    def read(window: Window) -> Tensor:
        outer = window.grown(1, height, width)
        return window.cut_from(function(source.read(Window(*(2 * side for side in outer)))), outer)

    return Features(channels, height, width, read, lambda row: source.release(2 * (row - 1)))


def doubled(function: Callable[[Tensor], Tensor], channels: int, source: Features) -> Features:
    """A 4 x 4 transposed convolution of stride 2."""
    height, width = 2 * source.height, 2 * source.width

    def read(window: Window) -> Tensor:
        top, left = window.top // 2, window.left // 2
        inner = Window(top, -(-window.bottom // 2), left, -(-window.right // 2)).grown(1, source.height, source.width)
        return window.cut_from(function(source.read(inner)), Window(*(2 * side for side in inner)))

    return Features(channels, height, width, read, lambda row: source.release(row // 2 - 1))


def upsampled(source: Features, height: int, width: int) -> Features:
    """``models.layers.upsample`` to height x width: the grid is that of the whole map, whatever window is read."""

    def along(first: int, last: int, length: int, full: int) -> tuple[int, Tensor, Tensor, Tensor]:
        """For positions first to last: the first source sample, the two neighbours counted from it, the weight."""
        place = torch.arange(first, last, dtype=torch.float64) * ((length - 1) / max(1, full - 1))
        lower = place.long().clamp(max=length - 1)
        upper = (lower + 1).clamp(max=length - 1)
        start = int(lower[0])
        return start, lower - start, upper - start, (place - lower).float()

    def read(window: Window) -> Tensor:
        top, above, below, down = along(window.top, window.bottom, source.height, height)
        left, before, after, across = along(window.left, window.right, source.width, width)
        x = source.read(Window(top, top + int(below[-1]) + 1, left, left + int(after[-1]) + 1))
        above, below, down, before, after, across = (
            item.to(x.device) for item in (above, below, down, before, after, across)
        )
        x = torch.lerp(x[..., above, :], x[..., below, :], down[:, None])
        return torch.lerp(x[..., before], x[..., after], across)

    return Features(source.channels, height, width, read, lambda row: None)


class TiledForward:
    """The network over one image at a time, in tiles.

    Args:
        model: in eval mode, on the device that computes.
        tile: side of a tile at full size, in pixels. Where memory runs out, it is halved and the tile tried again.
        storage: type in which features wait in main memory; arithmetic is the caller's, float32 without autocast.
        progress: is told which part of the work is done, in [0, 1], after each tile.

    Attributes:
        tile: the side in use, smaller than the one asked for where memory ran out.
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
        self.multiple = model.size_multiple // 4  # of a tile's sides, so that no pooling window crosses its border
        self.tile = tile
        # What a tile costs, in convolutions at the block's size, on the way into a block's last residual block and
        # out of it. The pyramid between them is small. All six blocks cost the same.
        self.enter_cost, self.leave_cost = 2 * len(model.encoder[0]) - 1, 3
        self.done, self.total = 0.0, 6 * (self.enter_cost + self.leave_cost)

    def __call__(self, image: Tensor) -> Tensor:
        """image (1, 3, H, W) in [0, 1] with sides that the network takes -> restored (1, 3, H, W), on the CPU.

        The steps are those of ``IRNeXt.forward``; only the image at full size is made.
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

        def finish(core: Window) -> None:
            restored[..., core.top : core.bottom, core.left : core.right] = residual.read(core).cpu()

        self._for_each_tile(residual, finish, self.leave_cost)
        return restored

    def _cnn_block(self, block: CNNBlock, source: Features) -> Features:
        """The block's output, which can be read as soon as all it needs of the whole image is known."""
        *plain, last = block
        module = last.between if isinstance(last.between, MultiScaleModule) else None
        pool_sizes = module.pool_sizes if module else ()
        height, width = source.height, source.width
        features = self._empty(source.channels, height, width)  # what enters the last residual block
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
        scales = [upsampled(scale, height, width) for scale in self._pyramid(module, pooled)] if module else []

        def leave(x: Tensor, *scales: Tensor) -> Tensor:
            y = gelu(last.conv1(x))
            if module:
                y = module.conv_out(gelu(sum(scales, start=y)))
            return x + last.conv2(y)

        return local(leave, 3, source.channels, features, *scales)

    def _pyramid(self, module: MultiScaleModule, pooled: list[StoredFeatures]) -> list[Features]:
        """The multi-scale module's y of each pooling size, coarse to fine, from the pooled features."""
        scales: list[Features] = []
        for x, scale_conv, attention in zip(pooled, module.convs, module.attentions, strict=True):
            maps = [x, upsampled(scales[-1], x.height, x.width)] if scales else [x]
            convolved = local(lambda *maps, conv=scale_conv: conv(sum(maps)), 1, x.channels, *maps)
            y = self._stored(convolved, cost=0)
            if isinstance(attention, LocalAttentionModule):
                y = self._stored(self._attended(attention, y), cost=0)
            scales.append(y)
        return scales

    def _attended(self, attention: LocalAttentionModule, y: StoredFeatures) -> Features:
        mean = self._moments(y.kept())[0].float()
        if attention.mean_window is None:
            return local(lambda y: attention(y, mean, mean), 1, y.channels, y)
        low = y.window_means(attention.mean_window)
        return local(lambda y, low: attention(y, mean, low), 1, y.channels, y, low)

    def _shallow(self, branch: ConvS, image: Features) -> Features:
        """The shallow branch's output; its instance norm has the moments of the whole image."""
        *convolutions, norm = branch
        features = local(nn.Sequential(*convolutions), 2, norm.num_features, image)
        mean, square = self._moments(features)
        variance = square - mean.square()
        mean, variance = mean.flatten().float(), variance.flatten().float()

        def normalise(x: Tensor) -> Tensor:
            return F.batch_norm(x, mean, variance, norm.weight, norm.bias, eps=norm.eps)

        return local(normalise, 0, norm.num_features, features)

    def _moments(self, source: Features) -> tuple[Tensor, Tensor]:
        """Mean and mean square over the whole map, (1, C, 1, 1) each, float64."""
        sums = torch.zeros(2, 1, source.channels, 1, 1, dtype=torch.float64, device=self.device)

        def add(core: Window) -> None:
            x = source.read(core).double()
            sums.add_(torch.stack([x.sum((2, 3), keepdim=True), x.square().sum((2, 3), keepdim=True)]))

        self._for_each_tile(source, add, cost=0)
        mean, square = sums / (source.height * source.width)
        return mean, square

    def _image(self, image: Tensor) -> Features:
        def read(window: Window) -> Tensor:
            return image[..., window.top : window.bottom, window.left : window.right].to(self.device)

        return Features(3, *image.shape[-2:], read)

    def _empty(self, channels: int, height: int, width: int) -> StoredFeatures:
        return StoredFeatures(channels, height, width, self.storage, self.device)

    def _stored(self, source: Features, cost: float | None = None) -> StoredFeatures:
        """``source`` computed tile by tile; what it is computed from is released on the way."""
        target = self._empty(source.channels, source.height, source.width)
        self._for_each_tile(
            source, lambda core: target.write(core, source.read(core)), self.leave_cost if cost is None else cost
        )
        return target

    def _for_each_tile(self, source: Features, work: Callable[[Window], None], cost: float, margin: int = 0) -> None:
        """Do ``work``, which reads ``margin`` more around each, on the windows that make up ``source``'s map.

        Row after row; what lies above a finished row is released.
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
        """``work(core)``, in smaller tiles where memory does not suffice; ``work`` changes nothing before it ends."""
        side = self._side(channels)
        if max(core.bottom - core.top, core.right - core.left) <= side:
            try:
                return work(core)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or side == self.multiple:
                    raise
            # Outside the handler, whose traceback holds on to the tensors.
            release_cached_memory()
            self.tile = max(self.tile // 2, 1)
            return self._work_or_split(core, work, channels)
        for top in range(core.top, core.bottom, side):
            for left in range(core.left, core.right, side):
                part = Window(top, min(core.bottom, top + side), left, min(core.right, left + side))
                self._work_or_split(part, work, channels)

    def _side(self, channels: int) -> int:
        """The side of a tile of features of the same size in memory, a multiple of what pooling needs."""
        side = self.tile * math.sqrt(self.channels / channels)
        return max(1, int(side / self.multiple)) * self.multiple


def _joined(convolution: nn.Conv2d) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: convolution(torch.cat([x, y], dim=1))
