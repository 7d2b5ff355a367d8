"""Making images larger at the right and the bottom."""

import torch.nn.functional as F
from torch import Tensor


def extend(x: Tensor, height: int, width: int) -> Tensor:
    """Extend (..., C, H, W) to (..., C, height, width), at least H and W, at the bottom and the right.

    By reflection as far as an image can be reflected (a side less one pixel), then by repeating the border.
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
