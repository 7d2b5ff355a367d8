"""Depth maps, float32 (H, W), larger is further away: synthetic, or from stereo disparity."""

import cv2
import numpy as np

SCENE = (460, 620)  # height and width of RESIDE's indoor images


def smooth_depth(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Synthetic depth in [0.2, 1] for a photograph without measured depth: far at the top, near at the bottom.

    A vertical ramp plus low-frequency noise, rescaled to the full range.
    """
    ramp = np.linspace(1, 0, height, dtype=np.float32)[:, None]
    noise = cv2.resize(rng.uniform(-1, 1, (3, 4)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    depth = rng.uniform(0.5, 1) * ramp + rng.uniform(0.1, 0.3) * noise
    return 0.2 + 0.8 * (depth - depth.min()) / max(depth.max() - depth.min(), 1e-6)


def scene_depth(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Synthetic depth in [0.05, 1] that changes along the edges of an image, float32 (H, W, 3) in [0, 1].

    The image is taken for a part, at a random place, of a scene of at least ``SCENE`` pixels, in which distance grows
    towards the top. A training crop has a small part of the scene's depths, as in RESIDE: in crops of 128 pixels, the
    transmissions of SOTS-Indoor span 0.06 to 0.48, and 0.15 in the median (10 % and 90 % of crops; here 0.14 to 0.41,
    and 0.25). Regions within some range of a random mixture of colours stand nearer or further than their
    surroundings, as objects would.
    """
    height, width = image.shape[:2]
    whole = np.maximum((height, width), SCENE)
    top, left = rng.integers(whole - (height, width) + 1)
    ramp = 0.5 - (top + np.arange(height, dtype=np.float32)[:, None] + 0.5) / whole[0]
    grid = rng.uniform(-1, 1, (4, 6)).astype(np.float32)  # over the scene
    y, x = (np.array(grid.shape) - 1) / whole
    part = np.array([[x, 0, left * x], [0, y, top * y]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    noise = cv2.warpAffine(grid, part, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    depth = 0.5 + rng.uniform(0.3, 0.8) * ramp + rng.uniform(0.1, 0.3) * noise

    smooth = cv2.blur(image, (5, 5))
    for _ in range(rng.integers(1, 4)):
        mixture = smooth @ rng.normal(size=3).astype(np.float32)
        low, high = np.quantile(mixture[::4, ::4], np.sort(rng.uniform(0, 1, 2)))
        region = cv2.medianBlur(cv2.inRange(mixture, float(low), float(high)), 7)  # 0 or 255
        depth += np.float32(rng.uniform(-0.35, 0.35) / 255) * region
    return np.clip(depth, 0.05, 1).astype(np.float32)


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
