"""Depth maps, float32 (H, W), larger is further: made up, or measured by a stereo camera."""

import cv2
import numpy as np


def smooth_depth(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A made-up depth from 0.2 to 1 for a photograph without one: far at the top, near at the bottom, uneven.

    A vertical ramp plus smooth noise of a few periods per side, stretched to the whole range.
    """
    ramp = np.linspace(1, 0, height, dtype=np.float32)[:, None]
    noise = cv2.resize(rng.uniform(-1, 1, (3, 4)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    depth = rng.uniform(0.5, 1) * ramp + rng.uniform(0.1, 0.3) * noise
    return 0.2 + 0.8 * (depth - depth.min()) / max(depth.max() - depth.min(), 1e-6)


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


def seen_from_the_right(depth: np.ndarray, disparity: np.ndarray) -> np.ndarray:
    """The left image's depth (H, W) moved to where the right image shows it.

    What only the right image sees keeps the depth that the left one has at that place.
    """
    moved = np.full_like(depth, np.nan)
    rows, columns = np.nonzero(np.isfinite(disparity))
    order = np.argsort(-depth[rows, columns])  # far first, so that what is near covers it
    rows, columns = rows[order], columns[order]
    targets = np.round(columns - disparity[rows, columns]).astype(int)
    inside = (targets >= 0) & (targets < depth.shape[1])
    moved[rows[inside], targets[inside]] = depth[rows[inside], columns[inside]]
    return np.where(np.isnan(moved), depth, moved)
