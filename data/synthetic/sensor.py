"""Models of what a sensor and a file do to a photograph: noise, a short exposure, JPEG.

Images are as in ``data.synthetic.degradations``.
"""

import cv2
import numpy as np

from data.synthetic.degradations import to_linear, to_srgb

MAX_JPEG_SIDE = 65_500  # libjpeg's limit


def gaussian_noise(clean: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Add white noise of standard deviation ``sigma``, in grey levels of 255, to each sRGB value, and clip.

    As in the test sets of denoising (BSD68 with sigma 15, 25 and 50), but not rounded to grey levels.
    """
    return np.clip(clean + np.float32(sigma / 255) * rng.standard_normal(clean.shape, np.float32), 0, 1)


def poisson_noise(clean: np.ndarray, rng: np.random.Generator, peak: float) -> np.ndarray:
    """Each value becomes a count of photons, of which a white pixel receives ``peak`` in the mean, and is clipped."""
    return np.minimum(rng.poisson(np.clip(clean, 0, 1) * peak) / peak, 1).astype(np.float32)


def low_light(clean: np.ndarray, rng: np.random.Generator, stops: float, peak: float) -> np.ndarray:
    """An exposure shortened by ``stops``: linear light falls to 2^-stops, and so does the number of its photons.

    Their noise (``poisson_noise`` of linear light) is what brightening the image brings to light.

    Args:
        clean: (H, W, 3).
        rng: draws the photons.
        stops: how often the light is halved.
        peak: photons that a white pixel receives at the full exposure, in the mean.
    """
    return to_srgb(poisson_noise(to_linear(clean) * np.float32(2.0**-stops), rng, peak))


def jpeg(clean: np.ndarray, quality: int) -> np.ndarray:
    """The image after compression as JPEG of ``quality`` 1 to 100, with colours at half size (libjpeg's 4:2:0)."""
    height, width = clean.shape[:2]
    if max(height, width) > MAX_JPEG_SIDE:  # in two parts, between two blocks
        axis = int(width > height)
        middle = clean.shape[axis] // 32 * 16
        return np.concatenate([jpeg(part, quality) for part in np.split(clean, [middle], axis)], axis)
    pixels = np.round(np.clip(clean[..., ::-1], 0, 1) * 255).astype(np.uint8)
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]).astype(np.float32) / 255
