"""The photographs that come with scikit-image, as data for the demo and the embedded benchmark: no download."""

from collections.abc import Iterator

import numpy as np
import skimage.data

from data.synthetic.depth import depth_from_disparity, seen_from_the_right

PHOTOGRAPHS = {
    "train": ("astronaut", "chelsea", "motorcycle-left", "motorcycle-right", "camera", "gravel"),
    "validation": ("brick", "grass"),
    "test": ("coffee", "rocket"),
}
# Calibration of the motorcycle pair, from its page in scikit-image's documentation: pixels, pixels, millimetres.
MOTORCYCLE = {"focal": 994.978, "offset": 31.086, "baseline": 193.001}


def photographs(split: str) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """(name, RGB uint8 (H, W, 3), depth (H, W) up to 1 or None where it is not known) of a split."""
    left, right, disparity = skimage.data.stereo_motorcycle()
    for name in PHOTOGRAPHS[split]:
        if name.startswith("motorcycle"):
            depth = depth_from_disparity(disparity, **MOTORCYCLE)
            # The disparity belongs to the left image; the right one sees a point that many pixels further left.
            image = left if name.endswith("left") else right
            if name.endswith("right"):
                depth = seen_from_the_right(depth, disparity)
            yield name, image, depth / depth.max()
        else:
            image = getattr(skimage.data, name)()
            yield name, image if image.ndim == 3 else np.stack([image] * 3, axis=-1), None
