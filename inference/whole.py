"""Restoring images of any size, in whatever memory there is."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from inference.memory import free_memory, is_out_of_memory, release_cached_memory
from inference.tiled import TiledForward
from utils.compiling import Network
from utils.errors import InputError
from utils.padding import extend

# Measured by benchmarks/memory.py: bytes per pixel and channel of the network's width, at the peak.
WHOLE_BYTES = 32  # of the whole image
TILE_BYTES = 44  # of one tile, which reads a margin around it
STORED_VALUES = 2.0  # numbers per pixel and channel that tiles keep in main memory
PICTURE_BYTES = 40  # per pixel: the image itself, input and output, float32
MAX_TILE, MIN_TILE = 1024, 128  # a larger tile computes no faster
CPU_WHOLE = MAX_TILE**2  # pixels of a whole image on the CPU, where tiles are as fast and can be timed and stopped
# Shares of the free memory that are planned with: for what the network computes, and for what is stored.
SHARE, STORED_SHARE = 0.7, 0.9

Progress = Callable[[float], None]


def restore(
    model: nn.Module,
    image: Tensor,
    *,
    tile: int | None = None,
    self_ensemble: bool = False,
    progress: Progress | None = None,
    network: Network | None = None,
) -> Tensor:
    """image (N, 3, H, W) in [0, 1], of any size -> restored (N, 3, H, W) in [0, 1], float32, on the same device.

    The image is extended by reflection to the sides the network takes and the result cropped back. An image that
    does not fit into the free memory as a whole is restored in tiles, with the same result (``inference.tiled``).

    Args:
        model: in eval mode.
        tile: restore in tiles of this side, in pixels, whatever the memory.
        self_ensemble: the mean over the eight flips and quarter turns of the image, at eight times the cost.
        progress: is told which part of the work is done, in [0, 1], now and then.
        network: what whole images go through in place of ``model``, such as the model compiled; tiles do not.

    Raises:
        InputError: there is too little main memory even for tiles.
    """
    report = progress or (lambda done: None)
    network = network or model
    if not self_ensemble:
        return _restore(model, network, image, tile, report)
    mean = torch.zeros_like(image, dtype=torch.float32)
    for index in range(8):
        turns, flipped = index % 4, index >= 4
        view = torch.rot90(image.flip(-1) if flipped else image, turns, (-2, -1))
        restored = torch.rot90(
            _restore(model, network, view, tile, lambda done, index=index: report((index + done) / 8)), -turns, (-2, -1)
        )
        mean += (restored.flip(-1) if flipped else restored) / 8
    return mean.clamp(0, 1)


@torch.inference_mode()
def _restore(model: nn.Module, network: Network, image: Tensor, tile: int | None, report: Progress) -> Tensor:
    height, width = image.shape[-2:]
    multiple, least = model.size_multiple, model.min_size
    padded = extend(image, *(max(least, -(-side // multiple) * multiple) for side in (height, width)))
    device = next(model.parameters()).device
    restored = None
    pixels = padded[:, 0].numel()
    fits = WHOLE_BYTES * model.embed.out_channels * pixels < SHARE * free_memory(device)
    if tile is None and fits and (device.type != "cpu" or pixels <= CPU_WHOLE * len(padded)):
        try:
            restored = network(padded.to(device))[-1]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release_cached_memory()
    if restored is None:
        restored = torch.cat([_restore_in_tiles(model, one, tile, report) for one in padded.split(1)])
    report(1.0)
    return restored[..., :height, :width].to(image.device).float().clamp_(0, 1)


def _restore_in_tiles(model: nn.Module, image: Tensor, tile: int | None, report: Progress) -> Tensor:
    pixels, channels = image[0, 0].numel(), model.embed.out_channels
    device, main_memory = next(model.parameters()).device, free_memory(torch.device("cpu"))
    stored = {
        dtype: pixels * (STORED_VALUES * channels * dtype.itemsize + PICTURE_BYTES)
        for dtype in (torch.float32, torch.float16)
    }
    # Half precision, where that must be, costs less than a grey level of 8 bits (docs/restore.md has the figures).
    dtype = next((dtype for dtype, size in stored.items() if size < STORED_SHARE * main_memory), None)
    if dtype is None:
        needed = stored[torch.float16] / STORED_SHARE / 2**30
        raise InputError(
            f"{pixels / 1e6:.0f} megapixels need about {needed:.0f} GiB of free main memory, "
            f"there are {main_memory / 2**30:.0f}"
        )
    if tile is None:
        free = free_memory(device) - (stored[dtype] if device.type == "cpu" else 0)
        side = int((SHARE * free / (TILE_BYTES * channels)) ** 0.5) if free > 0 else 0
        tile = min(MAX_TILE, max(MIN_TILE, side // MIN_TILE * MIN_TILE))
    return TiledForward(model, tile, dtype, report)(image)
