"""Depth maps, float32 (H, W), larger is further away: synthetic, or from stereo disparity."""

import cv2
import numpy as np


def smooth_depth(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Synthetic depth in [0.2, 1] for a photograph without measured depth: far at the top, near at the bottom.

    A vertical ramp plus low-frequency noise, rescaled to the full range.
    """
    ramp = np.linspace(1, 0, height, dtype=np.float32)[:, None]
    noise = cv2.resize(rng.uniform(-1, 1, (3, 4)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    depth = rng.uniform(0.5, 1) * ramp + rng.uniform(0.1, 0.3) * noise
    return 0.2 + 0.8 * (depth - depth.min()) / max(depth.max() - depth.min(), 1e-6)


def depth_from_disparity(disparity: np.ndarray, focal: float, offset: float, baseline: float) -> np.ndarray:
    """Z = baseline * focal / (disparity + offset), in the unit of the baseline (Middlebury stereo, 2014).

    Disparity, focal length and offset (the difference of the principal points' x) are in pixels. Holes (non-finite
    disparity) are filled with the nearest known value.
    """
    known = np.isfinite(disparity)
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(labels.max() + 1, np.float32)
    nearest[labels[known]] = disparity[known]
    return (baseline * focal / (nearest[labels] + offset)).astype(np.float32)


def warp_to_right_view(depth: np.ndarray, disparity: np.ndarray) -> np.ndarray:
    """Warp the left view's depth (H, W) to the right view.

    Pixels visible only in the right view keep the left view's depth at the same position.
    """
    warped = np.full_like(depth, np.nan)
    rows, columns = np.nonzero(np.isfinite(disparity))
    order = np.argsort(-depth[rows, columns])  # far to near, so that near surfaces occlude far ones
    rows, columns = rows[order], columns[order]
    targets = np.round(columns - disparity[rows, columns]).astype(int)
    inside = (targets >= 0) & (targets < depth.shape[1])
    warped[rows[inside], targets[inside]] = depth[rows[inside], columns[inside]]
    return np.where(np.isnan(warped), depth, warped)
