"""Classical baselines, one per task.

Each maps a degraded image, float32 (H, W, 3) in [0, 1], to a restored one of the same shape and range. They are blind:
no depth or blur kernel is given. ``Method.fit`` tunes the parameters on training pairs, so that the baseline is as
strong as possible.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import mean

import cv2
import numpy as np
import torch
from skimage.filters import median
from skimage.metrics import peak_signal_noise_ratio
from skimage.restoration import richardson_lucy
from torch import Tensor

from data.datasets import Sample, collate
from data.synthetic.degradations import disc, to_linear, to_srgb
from evaluation import scoring
from evaluation.scoring import Failure, Score, score_images
from utils.errors import InputError

Restore = Callable[[np.ndarray], np.ndarray]


def dark_channel_prior(hazy: np.ndarray, *, patch: int, strength: float, least: float) -> np.ndarray:
    """Dark channel prior dehazing (He et al., CVPR 2009), refined with a guided filter (He et al., ECCV 2010).

    In haze-free images, the minimum D(J) over the channels and a local patch is close to 0. The airlight A is therefore
    taken as the brightest of the 0.1 % of pixels with the largest D(I), the transmission as t = 1 - w D(I / A), and the
    image is recovered as J = (I - A) / max(t, t0) + A. The greyscale image guides the filter.

    Args:
        hazy: (H, W, 3).
        patch: side of the patch in pixels.
        strength: w in [0, 1]; below 1, some haze is kept on distant objects.
        least: t0, the lower bound of the transmission.
    """
    dark = _dark_channel(hazy, patch)
    candidates = hazy[dark >= np.quantile(dark, 0.999)]
    airlight = np.maximum(candidates[candidates.sum(axis=1).argmax()], 0.1)
    transmission = 1 - strength * _dark_channel(hazy / airlight, patch)
    transmission = guided_filter(cv2.cvtColor(hazy, cv2.COLOR_RGB2GRAY), transmission, 4 * patch + 1, 1e-3)
    clear = (hazy - airlight) / np.maximum(transmission, least)[..., None] + airlight
    return np.clip(clear, 0, 1).astype(np.float32)


def guided_filter(guide: np.ndarray, image: np.ndarray, side: int, epsilon: float) -> np.ndarray:
    """Edge-preserving smoothing of ``image`` (H, W) with windows of ``side`` pixels (He et al., ECCV 2010).

    In each window the output is a linear function of the guide (H, W), a guide + b, fitted by least squares with the
    penalty epsilon a^2.
    """
    box = partial(cv2.blur, ksize=(side, side))
    mean_guide, mean_image = box(guide), box(image)
    variance = box(guide * guide) - mean_guide**2
    slope = (box(guide * image) - mean_guide * mean_image) / (variance + epsilon)
    return box(slope) * guide + box(mean_image - slope * mean_guide)


def deconvolve(blurred: np.ndarray, *, radius: float, iterations: int) -> np.ndarray:
    """Deblurring by Richardson-Lucy deconvolution (scikit-image) in linear light, with a disc kernel.

    The true kernel is unknown; for motion blur, the disc approximates motion in any direction. Few iterations avoid
    ringing.

    Args:
        blurred: (H, W, 3).
        radius: of the disc, in pixels.
        iterations: number of Richardson-Lucy updates.
    """
    margin = 16  # reflected padding, since richardson_lucy assumes black outside the image
    padded = cv2.copyMakeBorder(to_linear(blurred), *[margin] * 4, cv2.BORDER_REFLECT)
    sharp = np.dstack([richardson_lucy(padded[..., c], disc(radius), iterations) for c in range(3)])
    return to_srgb(sharp[margin:-margin, margin:-margin])


def median_filter(image: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Deraining and desnowing with a median filter of height x width pixels, per channel.

    Removes whatever covers less than half of the window. A window that is wider than high removes vertical streaks
    with less loss of detail.
    """
    footprint = np.ones((height, width), np.uint8)
    return np.dstack([median(image[..., c], footprint) for c in range(3)])


@dataclass(frozen=True)
class Method:
    """A classical method: its display name, the function, and the parameter values that ``fit`` tries."""

    name: str
    restore: Callable[..., np.ndarray]
    values: dict[str, tuple[float, ...]]

    def fit(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Restore, dict[str, float]]:
        """Grid search for the best mean PSNR over (degraded, target) pairs: the tuned method and its parameters.

        Raises:
            ValueError: there are no pairs, or the results of all parameters contain NaN.
        """

        def score(parameters: dict[str, float]) -> float:
            psnr = mean(peak_signal_noise_ratio(t, self.restore(x, **parameters), data_range=1) for x, t in pairs)
            return -math.inf if math.isnan(psnr) else psnr

        choices = [dict(zip(self.values, choice, strict=True)) for choice in product(*self.values.values())]
        scores = [score(choice) for choice in choices]
        best = choices[scores.index(max(scores))]
        if max(scores) == -math.inf:
            raise ValueError(f"{self.name}: no parameters give finite pixels")
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


def classical_method(restore: Restore) -> scoring.Method:
    """A classical method as ``evaluation.scoring.score_images`` takes it."""
    return lambda name, input: as_tensor(restore(as_array(input[0])))[None]


def scores_of(
    method: scoring.Method, device: torch.device, samples: Iterable[Sample], protocol: str
) -> Iterator[Score]:
    """``evaluation.scoring.score_images`` of single samples, each of which must have a score.

    Raises:
        InputError: an image cannot be read or restored, or the restored image is not finite.
    """
    for result, *_ in score_images(method, (collate([sample]) for sample in samples), protocol, device):
        if isinstance(result, Failure):
            raise InputError(result.problem)
        yield result


def as_array(image: Tensor) -> np.ndarray:
    """(3, H, W) -> (H, W, 3)."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def as_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) -> (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _dark_channel(image: np.ndarray, patch: int) -> np.ndarray:
    """(H, W, 3) -> (H, W): minimum over the channels and a square patch (the dark channel)."""
    return cv2.erode(image.min(axis=2), np.ones((patch, patch), np.uint8))
