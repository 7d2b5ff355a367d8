"""Restore images of any size within the available memory."""

from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor, nn

from inference.finite import infinite_to_nan_
from inference.limits import SMALLEST_TILE
from inference.memory import free_memory, is_out_of_memory, release_cached_memory
from inference.overlapping import fits, restore_overlapping
from inference.tiled import TiledForward
from models import IRNeXt
from models.build import full_size
from utils.compiling import Network
from utils.errors import InputError
from utils.padding import accepted_size, extend

# Peak memory in bytes per pixel and per channel of the network's width, measured by benchmarks/memory.py.
WHOLE_BYTES = 32  # one forward pass over the whole image
TILE_BYTES = 44  # one tile, with the margin read around it
STORED_VALUES = 2.0  # values per pixel and channel held in main memory between tiles
IMAGE_BYTES = 40  # per pixel: input and output images, float32
LARGEST_TENSOR = 2  # values per pixel and channel: the decoder's concatenation at full size
MAX_ELEMENTS = 2**31 - 1  # of a tensor, for kernels with 32-bit indices
MAX_TILE, MIN_TILE = 1024, 128  # side in pixels, if chosen here; larger tiles are not faster
# Largest image, in pixels, restored whole on the CPU. Tiles are as fast there, report progress and can be interrupted.
CPU_WHOLE = MAX_TILE**2
# Fractions of the free memory to plan with: for the network's activations, and for stored features.
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
    """image (N, 3, H, W) in [0, 1], any H and W -> restored (N, 3, H, W), float32 in [0, 1], on the same device.

    Where the network's output is not finite, the result is NaN (``inference.finite``).

    The image is padded by reflection to a size the network accepts, and the result is cropped. An image that does not
    fit in the free memory is restored in tiles: by IRNeXt with the same result up to rounding (``inference.tiled``), by
    other networks in tiles that overlap (``inference.overlapping``).

    Args:
        model: network in eval mode.
        tile: side of the tiles in pixels, at least ``SMALLEST_TILE``; None chooses tiles only if the whole image does
            not fit in memory.
        self_ensemble: average over the eight flips and rotations by 90 degrees, at eight times the cost.
        progress: called repeatedly with the fraction of the work done, in [0, 1].
        network: replaces ``model`` for whole images, such as the compiled model; tiles always use ``model``.

    Raises:
        InputError: main memory does not suffice even for tiles.
        ValueError: wrong shape of ``image``, or wrong ``tile``.
    """
    if image.ndim != 4 or image.shape[1] != 3 or not image.numel():
        raise ValueError(f"expected images of shape (N, 3, H, W), got {tuple(image.shape)}")
    check_tile(tile)
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


def check_tile(tile: int | None) -> None:
    """Raises ValueError unless ``tile`` is None or an integer of at least ``SMALLEST_TILE``."""
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, Integral) or tile < SMALLEST_TILE):
        raise ValueError(f"tile: expected None or a whole number of at least {SMALLEST_TILE} pixels, got {tile!r}")


@torch.inference_mode()
def _restore(model: nn.Module, network: Network, image: Tensor, tile: int | None, report: Progress) -> Tensor:
    height, width = image.shape[-2:]
    padded = extend(image, *accepted_size(model, height, width))
    device = next(model.parameters()).device
    restored = None
    if tile is None and _fits(model, padded, device):
        restored = _restore_whole(network, padded, device)
    if restored is None:
        restored = torch.cat([_restore_in_tiles(model, one, tile, report) for one in padded.split(1)])
    report(1.0)
    return infinite_to_nan_(restored[..., :height, :width].to(image.device).float()).clamp_(0, 1)


def _fits(model: nn.Module, padded: Tensor, device: torch.device) -> bool:
    """Whether a forward pass over the whole batch is expected to succeed and to be worthwhile."""
    if type(model) is not IRNeXt:
        return fits(model, tuple(padded.shape), device, SHARE)
    values = model.embed.out_channels * padded[:, 0].numel()
    if LARGEST_TENSOR * values > MAX_ELEMENTS or WHOLE_BYTES * values >= SHARE * free_memory(device):
        return False
    return device.type != "cpu" or padded[0, 0].numel() <= CPU_WHOLE


def _restore_whole(network: Network, padded: Tensor, device: torch.device) -> Tensor | None:
    """The network's full-size output, or None if memory runs out."""
    try:
        return full_size(network(padded.to(device, non_blocking=True)))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    release_cached_memory()
    return None


def _restore_in_tiles(model: nn.Module, image: Tensor, tile: int | None, report: Progress) -> Tensor:
    if type(model) is not IRNeXt:
        return restore_overlapping(model, image, tile or _side_that_fits(model), report)
    pixels, channels = image[0, 0].numel(), model.embed.out_channels
    device, main_memory = next(model.parameters()).device, free_memory(torch.device("cpu"))
    stored = {
        dtype: pixels * (STORED_VALUES * channels * dtype.itemsize + IMAGE_BYTES)
        for dtype in (torch.float32, torch.float16)
    }
    # Storing float16 if float32 does not fit changes the result by less than one 8-bit level (docs/restore.md).
    dtype = next((dtype for dtype, size in stored.items() if size < STORED_SHARE * main_memory), None)
    if dtype is None:
        needed = stored[torch.float16] / STORED_SHARE / 2**30
        raise InputError(
            f"an image of {pixels / 1e6:.0f} megapixels needs about {needed:.0f} GiB of free memory, "
            f"but only {main_memory / 2**30:.0f} GiB are free; free memory, or restore parts of it"
        )
    if tile is None:
        free = free_memory(device) - (stored[dtype] if device.type == "cpu" else 0)
        side = int((SHARE * free / (TILE_BYTES * channels)) ** 0.5) if free > 0 else 0
        tile = min(MAX_TILE, max(MIN_TILE, side // MIN_TILE * MIN_TILE))
    return TiledForward(model, tile, dtype, report)(image)


def _side_that_fits(model: nn.Module) -> int:
    """The side of the tiles for a network other than IRNeXt."""
    device, tile = next(model.parameters()).device, MAX_TILE
    while tile > MIN_TILE and not fits(model, (1, 3, *accepted_size(model, tile, tile)), device, SHARE):
        tile //= 2
    return tile
