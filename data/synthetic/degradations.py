"""Physical models that degrade clean photographs: haze, rain, snow, camera shake and defocus.

Images are float32 (H, W, 3) in [0, 1] as files store them (sRGB), of any size; depth maps are float32 (H, W), larger
is further. Each model takes its physical parameters; ``DEGRADATIONS`` has each by name with parameters drawn at random.
What gathers light during an exposure (rain, snow, shake, defocus) is computed in linear light.
"""

from collections.abc import Callable

import cv2
import numpy as np

from data.synthetic.depth import smooth_depth

RAIN_LAYERS = 3
FLAKE_SIZES = 6
DIRECT = 11  # the largest kernel side for which OpenCV's filter2D does not take a Fourier transform, 50 times slower


def to_linear(stored: np.ndarray) -> np.ndarray:
    """Stored values in [0, 1] -> linear light in [0, 1] (sRGB, IEC 61966-2-1)."""
    stored = np.clip(stored, 0, 1)
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_stored(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] -> stored values in [0, 1] (sRGB, IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


def haze(clear: np.ndarray, depth: np.ndarray, beta: float, airlight: float) -> np.ndarray:
    """Haze by atmospheric scattering: I = J t + A (1 - t), t = exp(-beta d) (Koschmieder's law).

    Applied to the stored values, not to linear light, as in RESIDE (Li et al., IEEE TIP 2019), whose indoor set
    draws beta from 0.6 to 1.8 and the airlight A from 0.7 to 1 with depths of at most about 1.
    """
    transmission = np.exp(-beta * depth)[..., None]
    return (clear * transmission + airlight * (1 - transmission)).astype(np.float32)


def rain(
    clean: np.ndarray,
    rng: np.random.Generator,
    *,
    angle: float,
    length: float,
    density: float,
    opacity: float,
    veil: float,
    brightness: float = 0.8,
) -> np.ndarray:
    """Streaks of falling drops before a veil of those too far to be told apart.

    A drop that covers a pixel for the part b of the exposure changes its light B to (1 - b) B + b E, E being the
    drop's own (Garg and Nayar, CVPR 2004); the veil does the same everywhere (heavy rain: Yang et al., CVPR 2017).
    Streaks lie at random places, all along ``angle``. Of the layers of rain, each twice as far as the one before has
    four times the drops, half as long, and half as opaque since they are thinner than a pixel.

    Args:
        angle: of the streaks from the vertical, in degrees; positive falls towards the right.
        length: of the nearest streaks, in pixels.
        density: of the nearest streaks, per pixel.
        opacity: b of the nearest streaks, up to 1.
        veil: b of the veil.
        brightness: E, linear light in [0, 1]; a drop shows the sky.
    """
    clearness = np.full(clean.shape[:2], 1 - veil, np.float32)
    for distance in 2 ** np.arange(RAIN_LAYERS):
        kernel = streak(angle, length / distance, sigma=max(0.5, 0.8 / distance))
        clearness *= 1 - opacity / distance * scatter(rng, clean.shape[:2], density * distance**2, kernel)
    return _cover(clean, clearness, brightness)


def streak(angle: float, length: float, sigma: float = 0.6) -> np.ndarray:
    """The image of a moving drop (K, K), its peak 1: Gaussian across, fading to both ends.

    angle in degrees from the vertical (see ``rain``), length and sigma in pixels.
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
    """Flakes of several sizes, blurred by their own motion, before a veil.

    I = A Z + J (1 - Z), Z the flakes' opacity and A their colour (Liu et al., DesnowNet, IEEE TIP 2018), here in linear
    light, where it is the mean over the exposure. The nearer a flake is, the larger, the further it moves and, being
    out of focus, the more transparent.

    Args:
        angle: of the motion from the vertical, in degrees; positive falls towards the right.
        motion: of a flake during the exposure, in diameters.
        size: radius of the nearest flakes, in pixels; the furthest have a tenth of it.
        cover: share of the image that flakes of each size would cover if they did not move or overlap.
        opacity: of the furthest flakes, in [0, 1]; the nearest have half of it.
        veil: opacity of the veil.
        brightness: A, linear light in [0, 1].
    """
    clearness = np.full(clean.shape[:2], 1 - veil, np.float32)
    for nearness in np.linspace(0, 1, FLAKE_SIZES):
        radius = size * 0.1 ** (1 - nearness)
        shape = flake(rng, radius, softness=0.5 + 0.2 * radius)
        path = streak(angle, 2 * radius * motion)
        shape = _convolve(np.pad(shape, len(path) // 2), path / path.sum())
        flakes = scatter(rng, clean.shape[:2], cover / (np.pi * radius**2 + 1), shape)
        clearness *= 1 - opacity * (1 - nearness / 2) * flakes
    return _cover(clean, clearness, brightness)


def flake(rng: np.random.Generator, radius: float, softness: float) -> np.ndarray:
    """An uneven soft blob (K, K) in [0, 1] of ``radius`` pixels on average; ``softness`` is the width of its edge."""
    x, y = _grid(1.5 * radius + softness)
    theta = np.arctan2(y, x)
    outline = sum(rng.uniform(-0.3, 0.3) / k * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5))
    return np.clip((radius * (1 + outline) - np.hypot(x, y)) / softness + 0.5, 0, 1).astype(np.float32)


def scatter(rng: np.random.Generator, size: tuple[int, int], density: float, kernel: np.ndarray) -> np.ndarray:
    """Copies of ``kernel`` (K, K) with random strengths from 0.4 to 1: (*size), the strongest where they overlap.

    density is their mean number per pixel; those whose centre lies outside the image are there as well.
    """
    side = len(kernel)
    height, width = (length + 2 * (side // 2) for length in size)
    count = rng.poisson(density * height * width)
    tops, lefts = rng.integers((height, width), size=(count, 2)).T.tolist()
    canvas = np.zeros((height + side - 1, width + side - 1), np.float32)
    for top, left, strength in zip(tops, lefts, rng.uniform(0.4, 1, count).astype(np.float32), strict=True):
        place = canvas[top : top + side, left : left + side]
        np.maximum(place, strength * kernel, out=place)
    return canvas[side - 1 : side - 1 + size[0], side - 1 : side - 1 + size[1]]


def motion_blur(clean: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The mean over the exposure: linear light convolved with ``kernel``, borders reflected.

    With ``shake_kernel`` it is the blur of a shaking camera that does not turn about its axis.

    Args:
        kernel: (K, K), K odd, summing to 1.
    """
    return to_stored(_convolve(to_linear(clean), kernel))


def shake_kernel(rng: np.random.Generator, extent: float) -> np.ndarray:
    """The path of a point in the image while the camera shakes, as a kernel (K, K) that sums to 1.

    The velocity is a constant drift plus smooth Gaussian noise, so that the hand has inertia and trembles, as in the
    random trajectories of Boracchi and Foi (IEEE TIP 2012). The path's points are spread bilinearly over their four
    pixels; its centre of mass lies at the kernel's centre.

    Args:
        extent: diameter of the path, that is, twice the largest distance from its centre of mass, in pixels.
    """
    steps = 16 * int(np.ceil(extent) + 1)
    tremble = cv2.GaussianBlur(rng.normal(size=(2, steps)), (0, 0), steps / 12, sigmaY=1e-6)
    velocity = tremble / (tremble.std() + 1e-12) + rng.normal(size=(2, 1))
    path = np.cumsum(velocity, axis=1)
    path -= path.mean(axis=1, keepdims=True)
    path *= extent / 2 / max(np.hypot(*path).max(), 1e-12)

    half = int(np.ceil(extent / 2)) + 1
    side = 2 * half + 1
    corner = np.floor(path).astype(int)
    (y, x), (v, u) = corner + half, path - corner
    weights = np.concatenate([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u])
    places = np.concatenate([y * side + x, y * side + x + 1, (y + 1) * side + x, (y + 1) * side + x + 1])
    kernel = np.bincount(places, weights, side * side).reshape(side, side)
    return (kernel / kernel.sum()).astype(np.float32)


def defocus(clean: np.ndarray, depth: np.ndarray, focus: float, strength: float) -> np.ndarray:
    """Blur by a thin lens of large aperture focused at the depth ``focus``.

    A point at depth d becomes a disc of radius ``strength`` |1/d - 1/focus| pixels: the circle of confusion of a thin
    lens, A f |1/d - 1/s| / (1 - f/s) in diameter for aperture A, focal length f and focus s, halved and with the lens's
    and the sensor's constants in one. The image is cut into layers, one for each whole radius, which are blurred in
    linear light and laid over each other from far to near. Dividing by the opacity gathered continues each layer behind
    what covers it, so that no dark seam appears where a layer ends.

    Args:
        depth: (H, W), above 0.
        strength: radius in pixels per unit of inverse depth.
    """
    radius = strength * (1 / np.maximum(depth, 1e-3) - 1 / focus).astype(np.float32)  # negative beyond the focus
    light = np.dstack([to_linear(clean), np.ones_like(radius)])
    gathered = np.zeros_like(light)
    for layer in range(int(np.floor(radius.min())), int(np.ceil(radius.max())) + 1):
        share = np.clip(1 - np.abs(radius - layer), 0, 1)[..., None]  # of a pixel between two layers
        if share.any():
            blurred = _convolve(light * share, disc(abs(layer)))
            gathered = gathered * (1 - blurred[..., 3:]) + blurred
    return to_stored(gathered[..., :3] / np.maximum(gathered[..., 3:], 1e-6))


def disc(radius: float, samples: int = 8) -> np.ndarray:
    """A disc (K, K) that sums to 1: each pixel counts by how many of its samples x samples points the disc covers."""
    steps = _steps(radius)
    points = (steps[:, None] + (np.arange(samples) + 0.5) / samples - 0.5).ravel()
    # Below half a pixel the disc lies within the middle pixel, between its points perhaps.
    inside = points**2 + points[:, None] ** 2 <= max(radius, 0.5) ** 2
    cover = inside.reshape(len(steps), samples, len(steps), samples).mean((1, 3))
    return (cover / cover.sum()).astype(np.float32)


def random_haze(clean: np.ndarray, rng: np.random.Generator, depth: np.ndarray | None = None) -> np.ndarray:
    """``haze`` with RESIDE's range of parameters."""
    depth = smooth_depth(*clean.shape[:2], rng) if depth is None else depth
    return haze(clean, depth, beta=rng.uniform(0.6, 1.8), airlight=rng.uniform(0.7, 1))


def random_rain(clean: np.ndarray, rng: np.random.Generator, depth: np.ndarray | None = None) -> np.ndarray:
    """``rain`` from a shower to a downpour; it needs no depth."""
    strength = rng.uniform(0, 1)
    return rain(
        clean,
        rng,
        angle=rng.uniform(-35, 35),
        length=rng.uniform(12, 40),
        density=0.0003 * 10**strength,
        opacity=rng.uniform(0.3, 0.8),
        veil=rng.uniform(0, 0.1) * strength,
    )


def random_snow(clean: np.ndarray, rng: np.random.Generator, depth: np.ndarray | None = None) -> np.ndarray:
    """``snow`` from a few flakes to a storm; it needs no depth."""
    return snow(
        clean,
        rng,
        angle=rng.uniform(-50, 50),
        motion=rng.uniform(0.2, 1.2),
        size=rng.uniform(4, 10),
        cover=rng.uniform(0.005, 0.03),
        opacity=rng.uniform(0.6, 1),
        veil=rng.uniform(0, 0.08),
    )


def random_motion_blur(clean: np.ndarray, rng: np.random.Generator, depth: np.ndarray | None = None) -> np.ndarray:
    """``motion_blur`` along a path of 4 to 16 pixels; it needs no depth."""
    return motion_blur(clean, shake_kernel(rng, extent=rng.uniform(4, 16)))


def random_defocus(clean: np.ndarray, rng: np.random.Generator, depth: np.ndarray | None = None) -> np.ndarray:
    """``defocus`` with the focus on something in the image and discs of 1.5 to 4 pixels radius on average."""
    depth = smooth_depth(*clean.shape[:2], rng) if depth is None else np.maximum(depth, 1e-3)
    focus = float(rng.choice(depth.ravel()))
    off = np.abs(1 / depth - 1 / focus)
    return defocus(
        clean, depth, focus, strength=min(rng.uniform(1.5, 4) / (off.mean() + 1e-6), 12 / (off.max() + 1e-6))
    )


DEGRADATIONS: dict[str, Callable[..., np.ndarray]] = {
    "haze": random_haze,
    "rain": random_rain,
    "snow": random_snow,
    "motion_blur": random_motion_blur,
    "defocus": random_defocus,
}
"""``degrade(clean, rng, depth=None) -> degraded``: everything random is drawn from ``rng``; depth (H, W) up to 1, made
up where it is None."""


def _cover(clean: np.ndarray, clearness: np.ndarray, brightness: float) -> np.ndarray:
    """The share ``clearness`` (H, W) of the image's light, the rest from something of ``brightness`` before it."""
    clearness = clearness[..., None]
    return to_stored(to_linear(clean) * clearness + brightness * (1 - clearness))


def _convolve(light: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) convolved with (K, K), K odd, borders reflected."""
    half = len(kernel) // 2
    height, width = light.shape[:2]
    padded = cv2.copyMakeBorder(light, half, half, half, half, cv2.BORDER_REFLECT)
    kernel = kernel[::-1, ::-1]  # filter2D correlates
    result = np.zeros_like(light)
    for top in range(0, len(kernel), DIRECT):
        for left in range(0, len(kernel), DIRECT):
            part = np.ascontiguousarray(kernel[top : top + DIRECT, left : left + DIRECT])
            if part.any():
                filtered = cv2.filter2D(padded, -1, part, anchor=(0, 0))
                result += filtered[top : top + height, left : left + width]
    return result


def _grid(reach: float) -> tuple[np.ndarray, np.ndarray]:
    """x and y (K, K) of the pixels around a centre, ``reach`` at least in each direction."""
    return np.meshgrid(_steps(reach), _steps(reach))


def _steps(reach: float) -> np.ndarray:
    return np.arange(-np.ceil(reach), np.ceil(reach) + 1)
