"""NIQE and BRISQUE: the quality of a photograph that has no target; lower is better.

Both compare the statistics of locally normalised luminance with those of natural photographs, at full and half size.
They follow the programs that their authors released and use the parameters of those (evaluation/live/LICENSE.txt), so
the values are those of published tables that were made with them. MATLAB's ``niqe`` and ``brisque`` have parameters of
their own and give other values.

Images are uint8 or uint16 arrays, (H, W, 3) RGB or (H, W) grey. They are read in bands of rows: beside the image, the
functions need about 13 bytes per pixel.
"""

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np

PARAMETERS = Path(__file__).parent / "live" / "models.npz"
BLOCK = 96  # side of NIQE's blocks at full size, in pixels
BAND = 96  # rows normalised at a time
WINDOW, SIGMA = 7, 7 / 6  # Gaussian window of the local mean and deviation
HALO = WINDOW // 2
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows and columns to the neighbour that a pixel is multiplied with
# MATLAB's bicubic kernel (a = -0.5), stretched by two against aliasing, at the eight pixels around a pixel of half size
TAPS = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
ZERO = 1e-10  # what rounding leaves of the normalised value of a flat area is less
# scipy.special's takes a tenth as long to import as torch.
gammaln = np.vectorize(math.lgamma, otypes=[float])
SHAPES = np.arange(200, 10_001) / 1000  # of generalised Gaussian distributions, among which the best is searched


def niqe(image: np.ndarray) -> float | None:
    """Natural Image Quality Evaluator: from about 2, natural, to above 10, and about 20 for noise.

    Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE Signal Processing Letters
    2013. The score is the distance between two Gaussian distributions of the features of 96 x 96 blocks. It depends on
    the image's size, so only scores of images of one size can be compared.

    Returns:
        The score; None if fewer than two blocks fit into the image or have any structure.
    """
    levels = grey_levels(image)
    rows, columns = (side // BLOCK for side in levels.shape)
    levels = levels[: rows * BLOCK, : columns * BLOCK]
    if rows * columns < 2:
        return None
    scales = ((levels, BLOCK), (half_size(levels), BLOCK // 2))
    features = np.hstack([_block_features(each, side) for each, side in scales])
    known = features[np.isfinite(features).all(1)]
    if len(known) < 2:
        return None
    model = _parameters()
    with np.errstate(invalid="ignore"):
        difference = model["niqe_mean"] - np.nanmean(features, axis=0)
    covariance = (model["niqe_covariance"] + np.cov(known, rowvar=False)) / 2
    return math.sqrt(difference @ np.linalg.pinv(covariance) @ difference)


def brisque(image: np.ndarray) -> float | None:
    """Blind/Referenceless Image Spatial Quality Evaluator: from about 0, best, to about 100, worst.

    Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", IEEE Trans. Image
    Processing 2012. A support vector machine, trained on opinions about the LIVE database, predicts the score from 36
    features; it may leave the range from 0 to 100.

    Returns:
        The score; None if the image has no structure.
    """
    levels = grey_levels(image)
    if min(levels.shape) < 2 * WINDOW:
        return None
    features = np.hstack([_image_features(each) for each in (levels, half_size(levels))])
    return brisque_of(features) if np.isfinite(features).all() else None


def brisque_of(features: np.ndarray) -> float:
    """The score that belongs to the 36 features of an image."""
    model = _parameters()
    low, high = model["brisque_low"], model["brisque_high"]
    scaled = 2 * (features - low) / (high - low) - 1
    distances = np.square(model["brisque_support"] - scaled).sum(1)
    return float(model["brisque_weights"] @ np.exp(-model["brisque_gamma"] * distances) + model["brisque_bias"])


METRICS = {"NIQE": niqe, "BRISQUE": brisque}


def grey_levels(image: np.ndarray) -> np.ndarray:
    """Luminance in whole levels from 0 to 255, as ``rgb2gray`` of MATLAB gives for 8 bits: (H, W) uint8."""
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.ndim == 2 or image.shape[2] == 1:
        return image.reshape(image.shape[:2])
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def half_size(image: np.ndarray) -> np.ndarray:
    """An image (H, W) at half size as MATLAB's ``imresize``, (ceil(H / 2), ceil(W / 2)) float64, not rounded."""
    for _ in range(2):  # columns, then rows
        padded = np.pad(image, ((3, 3 + len(image) % 2), (0, 0)), mode="symmetric")
        count = -(-len(image) // 2)
        small = np.zeros((count, image.shape[1]))
        for start, weight in enumerate(TAPS):
            small += weight * padded[start : start + 2 * count : 2]
        image = small.T
    return np.ascontiguousarray(image)


def _normalised(image: np.ndarray, start: int, end: int, border: int) -> np.ndarray:
    """Rows of the image, less their local mean and divided by their local deviation: (end - start, W) float64.

    The fits below count negative and positive values, so in a flat area they must not see the sign of rounding errors.
    The authors' program does not take care of this: its score of an image with large flat areas depends on the machine.
    """
    first = max(0, start - HALO)
    rows = image[first : end + HALO].astype(np.float64)
    window = cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_64F)
    mean, square = (cv2.sepFilter2D(x, cv2.CV_64F, window, window, borderType=border) for x in (rows, rows * rows))
    normalised = (rows - mean) / (np.sqrt(np.abs(square - mean * mean)) + 1)
    normalised[np.abs(normalised) < ZERO] = 0
    return normalised[start - first : end - first]


def _block_features(image: np.ndarray, side: int) -> np.ndarray:
    """NIQE's 18 features of each block of an image of whole blocks: (blocks, 18); NaN where a block is flat."""
    features = []
    for start in range(0, len(image), side):
        band = _normalised(image, start, start + side, cv2.BORDER_REPLICATE)
        blocks = band.reshape(side, -1, side).transpose(1, 0, 2)
        shape, left, right = _asymmetric_fit(_moments(blocks))
        scale = np.sqrt(np.exp(gammaln(1 / shape) - gammaln(3 / shape)))
        columns = [shape, (left + right) * scale / 2]
        for shift in SHIFTS:
            shape, left, right = _asymmetric_fit(_moments(blocks * np.roll(blocks, shift, (1, 2))))
            scale = np.sqrt(np.exp(gammaln(1 / shape) - gammaln(3 / shape)))
            mean = (right - left) * scale * np.exp(gammaln(2 / shape) - gammaln(1 / shape))
            columns += [shape, mean, left * scale, right * scale]
        features.append(np.stack(columns, axis=1))
    return np.concatenate(features)


def _image_features(image: np.ndarray) -> np.ndarray:
    """BRISQUE's 18 features of an image: (18,); not finite if the image is flat."""
    own, *products = sum(map(np.stack, _sums_of_bands(image)))
    absolute, square, *_, count = own
    with np.errstate(invalid="ignore"):
        shape = _nearest_shape(absolute**2 / (count * square), symmetric=True)
    features = [shape, square / count]
    for moments in products:
        shape, left, right = _asymmetric_fit(moments)
        ratio = np.exp(gammaln(2 / shape) - (gammaln(1 / shape) + gammaln(3 / shape)) / 2)
        features += [shape, (right - left) * ratio, left**2, right**2]
    return np.array(features)


def _sums_of_bands(image: np.ndarray) -> Iterator[list[np.ndarray]]:
    """``_moments`` of the normalised image and of its products with each neighbour, by bands of rows.

    The neighbours of the first row are those of the last, as in the authors' program.
    """
    height = len(image)
    above = _normalised(image, height - 1, height, cv2.BORDER_CONSTANT)
    for start in range(0, height, BAND):
        band = _normalised(image, start, min(height, start + BAND), cv2.BORDER_CONSTANT)
        both = np.concatenate([above, band])
        neighbours = [np.roll(both[1 - down : len(both) - down], right, axis=1) for down, right in SHIFTS]
        yield [_moments(band), *(_moments(band * neighbour) for neighbour in neighbours)]
        above = band[-1:]


def _moments(x: np.ndarray) -> np.ndarray:
    """Sums over the last two dimensions, (..., H, W) -> (7, ...).

    They are of |x|, of x^2, of x^2 where x < 0 and how often, of x^2 where x > 0 and how often, and of 1.
    """
    square, negative, positive = x * x, x < 0, x > 0
    parts = [np.abs(x), square, square * negative, negative, square * positive, positive]
    sums = [part.sum((-2, -1), dtype=np.float64) for part in parts]
    return np.stack([*sums, np.full_like(sums[0], x.shape[-2] * x.shape[-1])])


def _asymmetric_fit(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shape, left and right deviation of the asymmetric generalised Gaussian with these ``_moments``; NaN if undefined.

    Lasmar, Stitou and Berthoumieu, "Multiscale skewed heavy tailed model for texture analysis", ICIP 2009.
    """
    absolute, square, negative, below, positive, above, count = moments
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = np.sqrt(negative / below), np.sqrt(positive / above)
        skew = left / right
        ratio = absolute**2 / (count * square) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    return _nearest_shape(ratio), left, right


def _nearest_shape(ratio: np.ndarray, symmetric: bool = False) -> np.ndarray:
    """The shape whose ratio of squared mean modulus to mean square is nearest; NaN for NaN.

    For ``symmetric`` distributions the authors' program compares the reciprocals of the ratios.
    """
    table = _ratios()
    with np.errstate(invalid="ignore", divide="ignore"):
        after = np.clip(np.searchsorted(table, ratio), 1, len(table) - 1)
        low, high, wanted = (1 / x if symmetric else x for x in (table[after - 1], table[after], ratio))
        nearest = np.where(np.abs(wanted - low) <= np.abs(wanted - high), after - 1, after)
    return np.where(np.isfinite(ratio), SHAPES[nearest], np.nan)


@cache
def _ratios() -> np.ndarray:
    """The ratio of squared mean modulus to mean square for each of ``SHAPES``, which it grows with."""
    return np.exp(2 * gammaln(2 / SHAPES) - gammaln(1 / SHAPES) - gammaln(3 / SHAPES))


@cache
def _parameters() -> dict[str, np.ndarray]:
    """The parameters of both metrics that their authors published."""
    with np.load(PARAMETERS) as file:
        return dict(file)
