"""One classical method per task, to measure a network against.

Each takes a degraded image, float32 (H, W, 3) in [0, 1], and nothing that is not known in practice (no depth, no
kernel), and gives the restored one, float32 (H, W, 3) in [0, 1]. ``fit`` chooses a method's parameters on training
pairs, so that it stands at its best.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import mean

import cv2
import numpy as np
from skimage.filters import median
from skimage.metrics import peak_signal_noise_ratio
from skimage.restoration import richardson_lucy

from data.synthetic.degradations import disc, to_linear, to_srgb

Restore = Callable[[np.ndarray], np.ndarray]


def dark_channel_prior(hazy: np.ndarray, *, patch: int, strength: float, least: float) -> np.ndarray:
    """Dehazing by the dark channel prior (He et al., CVPR 2009), refined by the guided filter (He et al., ECCV 2010).

    Some channel of some pixel near by is dark in clear air: D(J) = min over a patch and the channels ~ 0. So the
    airlight A is the brightest of the 0.1 % of pixels with the largest D(I), the transmission is t = 1 - w D(I / A),
    and J = (I - A) / max(t, t0) + A. The guide is the grey image.

    Args:
        patch: side of the patch in pixels.
        strength: w, which leaves a little haze to far things.
        least: t0.
    """
    dark = _darkest(hazy, patch)
    candidates = hazy[dark >= np.quantile(dark, 0.999)]
    airlight = np.maximum(candidates[candidates.sum(axis=1).argmax()], 0.1)
    transmission = 1 - strength * _darkest(hazy / airlight, patch)
    transmission = guided_filter(cv2.cvtColor(hazy, cv2.COLOR_RGB2GRAY), transmission, 4 * patch + 1, 1e-3)
    clear = (hazy - airlight) / np.maximum(transmission, least)[..., None] + airlight
    return np.clip(clear, 0, 1).astype(np.float32)


def guided_filter(guide: np.ndarray, image: np.ndarray, side: int, epsilon: float) -> np.ndarray:
    """image (H, W) smoothed over windows of ``side`` pixels except across edges of guide (H, W) (He et al., 2010).

    In each window the result is a line in the guide, a guide + b, fitted by least squares with penalty epsilon a^2.
    """
    box = partial(cv2.blur, ksize=(side, side))
    mean_guide, mean_image = box(guide), box(image)
    variance = box(guide * guide) - mean_guide**2
    slope = (box(guide * image) - mean_guide * mean_image) / (variance + epsilon)
    return box(slope) * guide + box(mean_image - slope * mean_guide)


def deconvolve(blurred: np.ndarray, *, radius: float, iterations: int) -> np.ndarray:
    """Deblurring by scikit-image's Richardson-Lucy deconvolution of linear light for a disc of one ``radius``.

    The true kernel is not known: for motion blur the disc, of pixels, stands for a path in any direction. Few
    iterations sharpen without rings.
    """
    margin = 16  # the border is taken to be followed by darkness
    padded = cv2.copyMakeBorder(to_linear(blurred), *[margin] * 4, cv2.BORDER_REFLECT)
    sharp = np.dstack([richardson_lucy(padded[..., c], disc(radius), iterations) for c in range(3)])
    return to_srgb(sharp[margin:-margin, margin:-margin])


def median_filter(image: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Deraining and desnowing by the median of each channel over height x width pixels.

    It takes away what covers less than half of the window; one that is wider than high leaves more of the image under
    streaks that fall.
    """
    footprint = np.ones((height, width), np.uint8)
    return np.dstack([median(image[..., c], footprint) for c in range(3)])


@dataclass(frozen=True)
class Method:
    """A classical method by the name it is shown with, and the values that ``fit`` tries for its parameters."""

    name: str
    restore: Callable[..., np.ndarray]
    values: dict[str, tuple[float, ...]]

    def fit(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Restore, dict[str, float]]:
        """The method with the parameters of the best mean PSNR over (degraded, target) pairs, and these parameters."""

        def score(parameters: dict[str, float]) -> float:
            return mean(peak_signal_noise_ratio(t, self.restore(x, **parameters), data_range=1) for x, t in pairs)

        choices = [dict(zip(self.values, choice, strict=True)) for choice in product(*self.values.values())]
        best = max(choices, key=score)
        return partial(self.restore, **best), best


_DECONVOLUTION = Method("Richardson-Lucy", deconvolve, {"radius": (0.7, 1, 1.5, 2), "iterations": (2, 4, 8)})
_MEDIAN = Method("median", median_filter, {"height": (1, 3, 5, 7), "width": (3, 5, 7, 9)})
METHODS = {
    "dehazing": Method(
        "dark channel",
        dark_channel_prior,
        {"patch": (7, 15), "strength": (0.7, 0.8, 0.95), "least": (0.1, 0.2, 0.3)},
    ),
    "deblurring": _DECONVOLUTION,
    "defocus": _DECONVOLUTION,
    "deraining": _MEDIAN,
    "desnowing": _MEDIAN,
}


def _darkest(image: np.ndarray, patch: int) -> np.ndarray:
    """(H, W, 3) -> (H, W): the least value of any channel within a patch."""
    return cv2.erode(image.min(axis=2), np.ones((patch, patch), np.uint8))
