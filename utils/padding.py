"""Padding at the bottom and right."""

import torch.nn.functional as F
from torch import Tensor, nn


def accepted_size(model: nn.Module, height: int, width: int) -> tuple[int, int]:
    """The smallest (height, width) that a network accepts into which an image of this size fits."""
    multiple, least = model.size_multiple, model.min_size
    return tuple(max(least, -(-side // multiple) * multiple) for side in (height, width))


def extend(x: Tensor, height: int, width: int) -> Tensor:
    """Pad (..., C, H, W) at the bottom and right to (..., C, height, width), with height >= H and width >= W.

    Pads by reflection as far as that reaches (H - 1 rows, W - 1 columns), then replicates the border.
    """
    missing = [height - x.shape[-2], width - x.shape[-1]]
    reflected = [min(gap, side - 1) for gap, side in zip(missing, x.shape[-2:], strict=True)]
    for (rows, columns), mode in (
        (reflected, "reflect"),
        ((missing[0] - reflected[0], missing[1] - reflected[1]), "replicate"),
    ):
        if rows or columns:
            x = F.pad(x, (0, columns, 0, rows), mode=mode)
    return x
