"""The images of a validation set that are shown during training: a hard, a median and an easy one."""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from data.datasets import to_8bit
from evaluation.scoring import Score
from evaluation.sheets import error_map

SIDE = 256  # of the region that is shown at full resolution, in pixels

Shown = dict[str, str]
"""The name of the image for each difficulty: hard, median, easy."""


def choose(scores: Sequence[Score]) -> Shown:
    """The images with the lowest, the median and the highest PSNR; fewer if there are fewer than three."""
    ranked = sorted(scores, key=lambda score: score.restored["psnr"])
    places = {"hard": 0, "easy": len(ranked) - 1, "median": len(ranked) // 2}
    shown: Shown = {}
    for difficulty, place in places.items():
        if ranked[place].name not in shown.values():
            shown[difficulty] = ranked[place].name
    return shown


def region(input: Tensor, target: Tensor) -> tuple[slice, slice]:
    """Rows and columns where the input differs most from the target, both (1, 3, H, W): ``SIDE`` squared, or less.

    The same images give the same region, whatever the network.
    """
    difference = (input - target)[0].abs().sum(0).double().cpu()
    height, width = (min(SIDE, side) for side in difference.shape)
    sums = F.pad(difference.cumsum(0).cumsum(1), (1, 0, 1, 0))
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = divmod(int(windows.argmax()), windows.shape[1])
    return slice(top, top + height), slice(left, left + width)


def example(input: Tensor, restored: Tensor, target: Tensor) -> dict[str, np.ndarray]:
    """The ``region`` of an image, (1, 3, H, W) in [0, 1] each, and the error of what was restored: uint8 (h, w, 3)."""
    rows, columns = region(input, target)
    input, restored, target = (to_8bit(image[0, :, rows, columns]) for image in (input, restored, target))
    return {"input": input, "output": restored, "target": target, "error": error_map(restored, target)}
