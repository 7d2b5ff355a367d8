"""Physical models that degrade clean photographs.

Pictures are float32 (H, W, 3) in [0, 1], depth maps float32 (H, W).
"""

import cv2
import numpy as np


def haze(clear: np.ndarray, depth: np.ndarray, beta: float, airlight: float) -> np.ndarray:
    """Haze by atmospheric scattering: I = J t + A (1 - t), t = exp(-beta d) (Koschmieder's law).

    Applied to the stored values, not to linear light, as in RESIDE (Li et al., IEEE TIP 2019), whose indoor set
    draws beta from 0.6 to 1.8 and the airlight A from 0.7 to 1 with depths of at most about 1.
    """
    transmission = np.exp(-beta * depth)[..., None]
    return (clear * transmission + airlight * (1 - transmission)).astype(np.float32)


def smooth_depth(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A made-up depth from 0.2 to 1 for a photograph without one: far at the top, near at the bottom, uneven.

    A vertical ramp plus smooth noise of a few periods per side, stretched to the whole range.
    """
    ramp = np.linspace(1, 0, height, dtype=np.float32)[:, None]
    noise = cv2.resize(rng.uniform(-1, 1, (3, 4)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    depth = rng.uniform(0.5, 1) * ramp + rng.uniform(0.1, 0.3) * noise
    return 0.2 + 0.8 * (depth - depth.min()) / (depth.max() - depth.min())


def depth_from_disparity(disparity: np.ndarray, focal: float, offset: float, baseline: float) -> np.ndarray:
    """Z = baseline f / (disparity + offset), in the baseline's unit (Middlebury stereo, 2014).

    disparity, focal length and offset (of the principal points) in pixels; holes (not finite) take the value of
    the nearest pixel that has one.
    """
    known = np.isfinite(disparity)
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(labels.max() + 1, np.float32)
    nearest[labels[known]] = disparity[known]
    return (baseline * focal / (nearest[labels] + offset)).astype(np.float32)
