"""Restore images with any network: whole if they fit in memory, else in overlapping tiles that are blended.

Networks other than IRNeXt are not known from inside. What depends on the whole image, such as a global mean, differs
from tile to tile, so unlike with ``inference.tiled`` the result differs from that of the whole image.
"""

import functools
import sys
import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn

from inference.memory import free_memory, is_out_of_memory, release_cached_memory
from models.build import full_size
from utils.live_bytes import LiveBytes
from utils.padding import accepted_size

OVERLAP = 64  # pixels, at most a quarter of the tile
# Memory of a forward pass, relative to its tensors: libraries copy them into layouts of their own. IRNeXt needs 1.1.
WORKSPACE = 1.5

_peaks: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, ...], int]] = weakref.WeakKeyDictionary()


def restore_overlapping(model: nn.Module, image: Tensor, tile: int, report: Callable[[float], None]) -> Tensor:
    """Restore overlapping tiles and blend them with linear ramps.

    Args:
        model: network in eval mode.
        image: (1, 3, H, W) in [0, 1], of a size the network accepts.
        tile: side of the tiles in pixels; rounded to what the network accepts, and halved when memory runs out.
        report: called after each tile with the fraction of the work done, in [0, 1].

    Returns:
        (1, 3, H, W), float32, on the CPU, not clamped.
    """
    multiple, least = model.size_multiple, accepted_size(model, 1, 1)[0]
    side = max(least, tile // multiple * multiple)
    while True:
        _note_once(type(model).__name__)
        try:
            return blended_tiles(model, image, side, report)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or side == least:
                raise
        # Outside the handler: the traceback keeps the tensors alive.
        release_cached_memory()
        side = max(least, side // 2 // multiple * multiple)


def blended_tiles(
    model: nn.Module, image: Tensor, side: int, report: Callable[[float], None] = lambda done: None
) -> Tensor:
    """``restore_overlapping`` with tiles of one size, a multiple of what the network accepts."""
    device, multiple = next(model.parameters()).device, model.size_multiple
    height, width = (min(side, length) for length in image.shape[-2:])
    overlap = max(multiple, min(OVERLAP, side // 4) // multiple * multiple)
    total = torch.zeros(image.shape)
    weights = torch.zeros(1, 1, *image.shape[-2:])
    weight = _ramp(height, overlap)[:, None] * _ramp(width, overlap)
    corners = [
        (top, left)
        for top in _starts(image.shape[-2], height, overlap)
        for left in _starts(image.shape[-1], width, overlap)
    ]
    for done, (top, left) in enumerate(corners, start=1):
        window = (..., slice(top, top + height), slice(left, left + width))
        total[window] += weight * full_size(model(image[window].to(device))).float().cpu()
        weights[window] += weight
        report(done / len(corners))
    return total.div_(weights)


def fits(model: nn.Module, shape: tuple[int, ...], device: torch.device, share: float) -> bool:
    """Whether a forward pass over images of a shape (N, 3, H, W) is expected to fit in a share of the free memory."""
    return WORKSPACE * peak_memory(model, shape) < share * free_memory(device)


def peak_memory(model: nn.Module, shape: tuple[int, ...]) -> int:
    """The most bytes that the tensors of a forward pass over images of a shape (N, 3, H, W) take at one time.

    Computed on the meta device, which takes no memory. For a network that does not run there, because it looks at
    values, that of a small image is measured and scaled by the number of pixels.
    """
    known = _peaks.setdefault(model, {})
    if shape not in known:
        try:
            tensors = dict([*model.named_parameters(), *model.named_buffers()])
            weights = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
            with torch.no_grad(), LiveBytes() as live:
                torch.func.functional_call(model, weights, torch.empty(shape, device="meta"))
            known[shape] = live.peak
        except Exception:  # whatever a network does with values
            sides = accepted_size(model, 128, 128)
            with torch.no_grad(), LiveBytes() as live:
                model(torch.zeros(1, 3, *sides, device=next(model.parameters()).device))
            known[shape] = live.peak * shape[0] * shape[-2] * shape[-1] // (sides[0] * sides[1])
    return known[shape]


def _ramp(length: int, overlap: int) -> Tensor:
    """Weights along one axis: 1, and towards both ends falling linearly over ``overlap`` pixels."""
    return torch.minimum(torch.arange(1, length + 1), torch.arange(length, 0, -1)).clamp(max=overlap) / overlap


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Where tiles begin along one axis; the last one ends with the image."""
    return sorted({min(start, length - side) for start in range(0, length, max(1, side - overlap))})


@functools.cache
def _note_once(name: str) -> None:
    print(
        f"note: {name} is restored in overlapping tiles, which are blended: unlike IRNeXt's, they may differ from the "
        "whole image",
        file=sys.stderr,
    )
