"""The images of a validation set that are shown during training: a hard, a median and an easy one."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from data.datasets import to_8bit
from evaluation.scoring import Score
from evaluation.sheets import error_map, region_of_interest

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


def example(input: Tensor, restored: Tensor, target: Tensor) -> dict[str, np.ndarray]:
    """The region of interest of images, (1, 3, H, W) in [0, 1], and the error of ``restored``: uint8 (h, w, 3)."""
    rows, columns = region_of_interest(input[0], target[0], SIDE, SIDE)
    input, restored, target = (to_8bit(image[0, :, rows, columns]) for image in (input, restored, target))
    return {"input": input, "output": restored, "target": target, "error": error_map(restored, target)}
