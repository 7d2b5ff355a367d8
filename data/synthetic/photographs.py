"""scikit-image's bundled photographs, split into the data of the demo and the embedded benchmark. No download."""

from collections.abc import Iterator

import numpy as np
import skimage.data

from data.synthetic.depth import depth_from_disparity, warp_to_right_view

PHOTOGRAPHS = {
    "train": ("astronaut", "chelsea", "motorcycle-left", "motorcycle-right", "camera", "gravel"),
    "validation": ("brick", "grass"),
    "test": ("coffee", "rocket"),
}
# Calibration of the motorcycle stereo pair, from scikit-image's documentation: pixels, pixels, millimetres.
MOTORCYCLE = {"focal": 994.978, "offset": 31.086, "baseline": 193.001}


def photographs(split: str) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Yield a split's photographs: name, RGB uint8 (H, W, 3), depth (H, W) with maximum 1 or None if unknown."""
    left, right, disparity = skimage.data.stereo_motorcycle()
    for name in PHOTOGRAPHS[split]:
        if name.startswith("motorcycle"):
            depth = depth_from_disparity(disparity, **MOTORCYCLE)
            # Disparity is given for the left view; in the right view a point lies that many pixels further left.
            image = left if name.endswith("left") else right
            if name.endswith("right"):
                depth = warp_to_right_view(depth, disparity)
            yield name, image, depth / depth.max()
        else:
            image = getattr(skimage.data, name)()
            yield name, image if image.ndim == 3 else np.stack([image] * 3, axis=-1), None
