"""Physical models that degrade clean photographs: haze, rain, snow, motion blur and defocus.

Images are sRGB-encoded float32 (H, W, 3) in [0, 1], of any size. Depth maps are float32 (H, W), larger is further away.
Each model takes its physical parameters; ``data.synthetic.drawn`` draws them. Effects that integrate light over the
exposure (snow, shake, defocus) are computed in linear light; haze and rain, like the data sets whose models they
follow, in sRGB values, as are half of the random motion blurs. What a sensor and a file add is in
``data.synthetic.sensor``.
"""

import functools
import math

import cv2
import numpy as np

from data.synthetic.motion import trajectory

FLAKE_SIZES = 6
# Largest kernel side that OpenCV's filter2D convolves directly. For larger ones it uses a DFT, 50 times slower.
MAX_DIRECT_SIDE = 11
HALF_SIZE_RADIUS = 6  # discs from this radius on are applied at half size


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB values in [0, 1] -> linear light in [0, 1] (IEC 61966-2-1)."""
    srgb = np.clip(srgb, 0, 1)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] -> sRGB values in [0, 1] (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


def haze(clear: np.ndarray, depth: np.ndarray, beta: float, airlight: float) -> np.ndarray:
    """Atmospheric scattering: I = J t + A (1 - t) with transmission t = exp(-beta d) (Koschmieder's law).

    Applied to sRGB values, not linear light, as in RESIDE (Li et al., IEEE TIP 2019). RESIDE's indoor set draws beta
    from [0.6, 1.8] and the airlight A from [0.7, 1], with depths up to about 1.
    """
    transmission = np.exp(-beta * depth)[..., None]
    return (clear * transmission + airlight * (1 - transmission)).astype(np.float32)


def rain(clean: np.ndarray, streaks: np.ndarray) -> np.ndarray:
    """Grey streaks S added to the sRGB values of the background B: O = min(B + S, 1) (Yang et al., CVPR 2017).

    Rain100L and Rain100H are composed like this, to within rounding. A real drop also hides some of the background,
    and its light adds up in linear light (Garg and Nayar, CVPR 2004): this is a model of data sets, not of optics.

    Args:
        clean: (H, W, 3).
        streaks: S, (H, W), the sum of all ``streak_layer``.
    """
    return np.minimum(clean + streaks[..., None], 1)


def streak_layer(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    angle: float,
    length: float,
    width: float,
    cover: float,
    brightness: float,
    soft: bool,
) -> np.ndarray:
    """Parallel rain streaks at random places, (*size) in [0, brightness].

    Soft streaks look like photographed or rendered ones: they fade towards ends and sides, differ in brightness and
    add up where they cross. The others look like drawn lines: sharp, and of one brightness, also where they cross.
    Both kinds occur in Rain100H. Drops are points that box filters, whose cost does not depend on the size and number
    of streaks, smear downwards; the result is then rotated.

    Args:
        rng: draws the places, and the brightness of soft streaks.
        size: height and width of the image.
        angle: of the streaks, in degrees from vertical; positive leans to the right on the way down.
        length: of a streak, in pixels.
        width: of a streak, in pixels: at half of the brightness, or rounded to whole pixels if not soft.
        cover: fraction of the image that the streaks would cover if they did not cross.
        brightness: sRGB value of the brightest pixels.
        soft: the kind of streaks.
    """
    length, width = max(round(length), 1), width if soft else max(round(width), 1)
    side = int(np.ceil(np.hypot(*size))) + 2
    count = rng.poisson(cover * side**2 / (length * width))
    drops = np.zeros((side, side), np.float32)
    strengths = rng.random(count, np.float32) ** 2 if soft else 1
    np.add.at(drops, tuple(rng.integers(side, size=(2, count))), strengths)
    border = cv2.BORDER_REFLECT
    layer = cv2.boxFilter(drops, -1, (1, length), normalize=False, borderType=border)
    if soft:
        layer = cv2.boxFilter(layer, -1, (1, length // 2 + 1), borderType=border)
        across = cv2.getGaussianKernel(2 * int(np.ceil(1.3 * width)) + 1, 0.425 * width, cv2.CV_32F)
        layer = cv2.sepFilter2D(layer, -1, across / across.max(), np.ones(1, np.float32), borderType=border)
    else:
        layer = cv2.boxFilter(layer, -1, (width, 1), normalize=False, borderType=border)
    turn = cv2.getRotationMatrix2D((side // 2, side // 2), angle, 1)
    turn[:, 2] += np.array(size[::-1]) // 2 - side // 2
    return brightness * cv2.warpAffine(np.minimum(layer, 1), turn, size[::-1], borderMode=border)


def streak(angle: float, length: float, sigma: float = 0.6) -> np.ndarray:
    """Motion-blurred image of a drop, (K, K) with peak 1: Gaussian across, fading towards both ends.

    ``angle`` is in degrees from vertical (see ``rain``); ``length`` and the Gaussian's ``sigma`` are in pixels.
    """
    x, y = _grid(length / 2 + 2 * sigma)
    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    along, across = x * sine + y * cosine, x * cosine - y * sine
    beyond = np.maximum(np.abs(along) - length / 2, 0)
    fade = 1 - 0.5 * np.minimum(np.abs(along) / (length / 2 + 0.5), 1) ** 2
    return (fade * np.exp(-(across**2 + beyond**2) / (2 * sigma**2))).astype(np.float32)


def snow(
    clean: np.ndarray,
    rng: np.random.Generator,
    *,
    angle: float,
    motion: float,
    size: float,
    cover: float,
    opacity: float,
    veil: float,
    brightness: float = 0.9,
) -> np.ndarray:
    """Motion-blurred snowflakes of several sizes in front of a uniform veil.

    I = A Z + J (1 - Z), with the flakes' opacity Z and brightness A (Liu et al., DesnowNet, IEEE TIP 2018). It is
    evaluated in linear light, where it is the mean over the exposure. Nearer flakes are larger, move further during
    the exposure and, being out of focus, are more transparent.

    Args:
        clean: (H, W, 3).
        rng: draws the shapes, positions and strengths of the flakes.
        angle: of the motion, in degrees from vertical; positive falls to the right.
        motion: distance a flake moves during the exposure, in flake diameters.
        size: radius of the nearest flakes, in pixels; the furthest are a tenth of it.
        cover: fraction of the image that the flakes of each size would cover without motion and overlap.
        opacity: of the furthest flakes, in [0, 1]; the nearest have half of it.
        veil: opacity of the veil, in [0, 1].
        brightness: A, linear light in [0, 1].
    """
    transmission = np.full(clean.shape[:2], 1 - veil, np.float32)
    for nearness in np.linspace(0, 1, FLAKE_SIZES):
        radius = size * 0.1 ** (1 - nearness)
        shape = flake(rng, radius, softness=0.5 + 0.2 * radius)
        path = streak(angle, 2 * radius * motion)
        shape = _convolve(np.pad(shape, len(path) // 2), path / path.sum())
        flakes = scatter(rng, clean.shape[:2], cover / (np.pi * radius**2 + 1), shape)
        transmission *= 1 - opacity * (1 - nearness / 2) * flakes
    return _composite(clean, transmission, brightness)


def flake(rng: np.random.Generator, radius: float, softness: float) -> np.ndarray:
    """Irregular soft-edged blob, (K, K) in [0, 1], of mean ``radius`` and edge width ``softness``, in pixels."""
    x, y = _grid(1.5 * radius + softness)
    theta = np.arctan2(y, x)
    outline = sum(rng.uniform(-0.3, 0.3) / k * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5))
    return np.clip((radius * (1 + outline) - np.hypot(x, y)) / softness + 0.5, 0, 1).astype(np.float32)


def scatter(rng: np.random.Generator, size: tuple[int, int], density: float, kernel: np.ndarray) -> np.ndarray:
    """Place copies of ``kernel`` (K, K) at random, scaled by 0.4 to 1; overlaps take the maximum. Returns (*size).

    ``density`` is the mean number of copies per pixel, including those centred just outside the image.
    """
    side = len(kernel)
    height, width = (length + 2 * (side // 2) for length in size)
    count = rng.poisson(density * height * width)
    tops, lefts = rng.integers((height, width), size=(count, 2)).T.tolist()
    canvas = np.zeros((height + side - 1, width + side - 1), np.float32)
    for top, left, strength in zip(tops, lefts, rng.uniform(0.4, 1, count).astype(np.float32), strict=True):
        window = canvas[top : top + side, left : left + side]
        np.maximum(window, strength * kernel, out=window)
    return canvas[side - 1 : side - 1 + size[0], side - 1 : side - 1 + size[1]]


def motion_blur(clean: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Uniform motion blur: linear light convolved with ``kernel``, with reflected borders.

    With a ``shake_kernel``, this models camera shake without rotation about the optical axis.

    Args:
        clean: (H, W, 3).
        kernel: (K, K), K odd, summing to 1.
    """
    return to_srgb(_convolve(to_linear(clean), kernel))


def shake_kernel(rng: np.random.Generator, extent: float) -> np.ndarray:
    """Random camera-shake blur kernel, (K, K) summing to 1: the points of a ``trajectory``, splatted bilinearly.

    Args:
        rng: draws the trajectory.
        extent: that of the trajectory, in pixels.
    """
    path = trajectory(rng, extent, steps=16 * int(np.ceil(extent) + 1))
    half = int(np.ceil(extent / 2)) + 1
    side = 2 * half + 1
    corner = np.floor(path).astype(int)
    (y, x), (v, u) = corner + half, path - corner
    weights = np.concatenate([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u])
    places = np.concatenate([y * side + x, y * side + x + 1, (y + 1) * side + x, (y + 1) * side + x + 1])
    kernel = np.bincount(places, weights, side * side).reshape(side, side)
    return (kernel / kernel.sum()).astype(np.float32)


def defocus(clean: np.ndarray, depth: np.ndarray, focus: float, strength: float) -> np.ndarray:
    """Depth-dependent blur of a thin lens focused at depth ``focus``.

    A point at depth d becomes a disc of radius ``strength`` |1/d - 1/focus| pixels. A thin lens's circle of confusion
    has diameter A f |1/d - 1/s| / (1 - f/s) for aperture A, focal length f and focus distance s; ``strength`` combines
    the constants of lens and sensor, and the factor of 1/2. The image is split into layers, one per integer radius,
    which are blurred in linear light and composited from far to near. Dividing by the accumulated opacity extends each
    layer behind its occluders, which avoids dark seams at layer boundaries.

    Args:
        clean: (H, W, 3).
        depth: (H, W), positive.
        focus: depth that is in focus, in the unit of ``depth``.
        strength: radius in pixels per unit of inverse depth.
    """
    radius = strength * (1 / np.maximum(depth, 1e-3) - 1 / focus).astype(np.float32)  # negative beyond the focus
    light = cv2.merge([to_linear(clean), np.ones_like(radius)])
    gathered = np.zeros_like(light)
    for layer in range(int(np.floor(radius.min())), int(np.ceil(radius.max())) + 1):
        share = np.maximum(1 - np.abs(radius - layer), 0)  # a pixel is shared by its two nearest layers
        if share.any():
            blurred = _blur(light * share[..., None], abs(layer))
            gathered *= 1 - blurred[..., 3:]
            gathered += blurred
    return to_srgb(gathered[..., :3] / np.maximum(gathered[..., 3:], 1e-6))


def _blur(light: np.ndarray, radius: int) -> np.ndarray:
    """Convolve (H, W, C) with a ``disc``; large ones at half size, in an eighth of the time."""
    if radius < HALF_SIZE_RADIUS or min(light.shape[:2]) < 2:
        return _convolve(light, disc(radius))
    height, width = light.shape[:2]
    even = cv2.copyMakeBorder(light, 0, height % 2, 0, width % 2, cv2.BORDER_REFLECT)
    half = cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    # Resizing blurs as well: a smaller disc keeps the mean squared distance from the centre.
    blurred = _convolve(half, disc(math.sqrt(radius**2 - 5) / 2))
    full = cv2.resize(blurred, even.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return full[:height, :width]


@functools.cache
def disc(radius: float, samples: int = 8) -> np.ndarray:
    """Anti-aliased disc, (K, K) summing to 1, by supersampling each pixel with samples x samples points."""
    offsets = _offsets(radius)
    points = (offsets[:, None] + (np.arange(samples) + 0.5) / samples - 0.5).ravel()
    # A disc smaller than half a pixel might fall between the sample points of the centre pixel.
    inside = points**2 + points[:, None] ** 2 <= max(radius, 0.5) ** 2
    cover = inside.reshape(len(offsets), samples, len(offsets), samples).mean((1, 3))
    return (cover / cover.sum()).astype(np.float32)


def _composite(clean: np.ndarray, transmission: np.ndarray, brightness: float) -> np.ndarray:
    """Blend the image, in linear light, with a foreground of ``brightness`` and opacity 1 - ``transmission`` (H, W)."""
    transmission = transmission[..., None]
    return to_srgb(to_linear(clean) * transmission + brightness * (1 - transmission))


def _convolve(light: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve (H, W) or (H, W, C) with (K, K), K odd, with reflected borders, splitting large kernels into blocks."""
    half = len(kernel) // 2
    height, width = light.shape[:2]
    if len(kernel) <= MAX_DIRECT_SIDE:
        flipped = np.ascontiguousarray(kernel[::-1, ::-1])  # filter2D correlates
        return cv2.filter2D(light, -1, flipped, borderType=cv2.BORDER_REFLECT).reshape(light.shape)
    padded = cv2.copyMakeBorder(light, half, half, half, half, cv2.BORDER_REFLECT)
    kernel = kernel[::-1, ::-1]
    result = np.zeros_like(light)
    for top in range(0, len(kernel), MAX_DIRECT_SIDE):
        for left in range(0, len(kernel), MAX_DIRECT_SIDE):
            block = np.ascontiguousarray(kernel[top : top + MAX_DIRECT_SIDE, left : left + MAX_DIRECT_SIDE])
            if block.any():
                filtered = cv2.filter2D(padded, -1, block, anchor=(0, 0))
                result += filtered[top : top + height, left : left + width]
    return result


def _grid(reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel offsets x and y from the centre, (K, K) each, covering at least ``reach`` in each direction."""
    return np.meshgrid(_offsets(reach), _offsets(reach))


def _offsets(reach: float) -> np.ndarray:
    return np.arange(-np.ceil(reach), np.ceil(reach) + 1)
