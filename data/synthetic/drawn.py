"""Degradations with parameters drawn at random, one by one and in chains.

``DEGRADATIONS`` maps names to degradations with the ranges of ``utils.degrade_options``; ``chain_of`` makes what a
configuration describes. The models themselves are in ``data.synthetic.degradations`` and ``data.synthetic.sensor``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.synthetic import sensor
from data.synthetic.degradations import defocus, haze, rain, snow, streak_layer, to_linear, to_srgb
from data.synthetic.depth import scene_depth
from data.synthetic.motion import moving_camera, moving_object, random_motion
from utils.degrade_options import (
    OPTIONS,
    Defocus,
    Degrade,
    Haze,
    HeavyRain,
    Jpeg,
    LightRain,
    LowLight,
    MotionBlur,
    Noise,
    Rain,
    Snow,
    parse_degrade,
)

Drawn = dict[str, float | int | bool]  # the parameters of one image, by name
BLIND_SIGMA = (0, 50)  # of noise without parameters, as blind denoisers are trained


@dataclass(frozen=True)
class Degradation:
    """A degradation with the ranges that its parameters are drawn from."""

    name: str
    options: Any

    def __call__(self, clean: np.ndarray, rng: np.random.Generator, depth: np.ndarray | None = None) -> np.ndarray:
        """Degrade ``clean``, float32 (H, W, 3) in [0, 1]; all randomness is drawn from ``rng``.

        ``depth`` is (H, W) with values up to 1; synthesised if needed and None.
        """
        return self.drawn(clean, rng, depth)[0]

    def drawn(
        self, clean: np.ndarray, rng: np.random.Generator, depth: np.ndarray | None = None
    ) -> tuple[np.ndarray, Drawn]:
        """The degraded image as by calling, and the parameters drawn for it."""
        return DRAW[self.name](clean, rng, depth, self.options)


@dataclass(frozen=True)
class Chain:
    """Degradations, one after the other."""

    links: tuple[Degradation, ...]

    def drawn(self, clean: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[str, Drawn]]]:
        """The degraded image, and the name and parameters of each degradation; arguments as of ``Degradation``."""
        image, parameters = clean, []
        for link in self.links:
            image, values = link.drawn(image, rng)
            parameters.append((link.name, values))
        return image, parameters


def chain_of(degrade: Degrade) -> Chain:
    """The chain that ``degrade`` of a set describes.

    Raises:
        ValueError: as ``parse_degrade``.
    """
    return Chain(tuple(Degradation(name, options) for name, options in parse_degrade(degrade)))


def _haze(clean, rng, depth, options: Haze) -> tuple[np.ndarray, Drawn]:
    """Half of the airlights are white: those of the test set SOTS-Indoor are, as far as its pairs tell."""
    depth = scene_depth(clean, rng) if depth is None else depth
    airlight = 1 if rng.random() < options.white else rng.uniform(*options.airlight)
    beta = rng.uniform(*options.beta)
    return haze(clean, depth, beta, airlight), {"beta": beta, "airlight": airlight}


def _rain(clean, rng, depth, options: Rain) -> tuple[np.ndarray, Drawn]:
    heavy = bool(rng.random() >= 1 - options.heavy)
    image, drawn = DEGRADATIONS["heavy_rain" if heavy else "light_rain"].drawn(clean, rng)
    return image, {"heavy": heavy} | drawn


def _light_rain(clean, rng, depth, options: LightRain) -> tuple[np.ndarray, Drawn]:
    streaks, drawn = _soft_streaks(rng, clean.shape[:2], options)
    return rain(clean, streaks), drawn


def _heavy_rain(clean, rng, depth, options: HeavyRain) -> tuple[np.ndarray, Drawn]:
    size = clean.shape[:2]
    light = rng.random() < options.light
    streaks = _soft_streaks(rng, size, LightRain())[0] if light else np.zeros(size, np.float32)
    main = rng.uniform(*options.angle)
    layers = _whole(rng, options.layers)
    for _ in range(layers):
        soft = bool(rng.random() < options.soft)
        along = rng.random() < 1 - options.stray
        streaks += streak_layer(
            rng,
            size,
            angle=main + rng.normal(0, 4) if along else rng.uniform(*options.stray_angle),
            length=_log_uniform(rng, options.length),
            width=rng.uniform(*options.width),
            cover=rng.uniform(*(options.soft_cover if soft else options.flat_cover)),
            brightness=rng.uniform(*(options.soft_brightness if soft else options.flat_brightness)),
            soft=soft,
        )
    return rain(clean, streaks), {"angle": main, "layers": layers}


def _soft_streaks(rng: np.random.Generator, size: tuple[int, int], options: LightRain) -> tuple[np.ndarray, Drawn]:
    """Soft streaks of several sizes in almost one direction, (*size)."""
    main, strength = rng.uniform(*options.angle), rng.uniform(*options.brightness)
    streaks = np.zeros(size, np.float32)
    layers = _whole(rng, options.layers)
    for _ in range(layers):
        length = _log_uniform(rng, options.length)
        streaks += streak_layer(
            rng,
            size,
            angle=main + rng.normal(0, 3),
            length=length,
            width=rng.uniform(1, 2 + length / 15),
            cover=rng.uniform(*options.cover),
            brightness=strength * rng.uniform(0.1, 1),
            soft=True,
        )
    return streaks, {"angle": main, "brightness": strength, "layers": layers}


def _snow(clean, rng, depth, options: Snow) -> tuple[np.ndarray, Drawn]:
    size = rng.uniform(*options.size)
    angle = rng.uniform(*options.angle)
    diameters = rng.uniform(*(pixels / (2 * size) for pixels in options.motion))
    drawn = {
        "cover": _log_uniform(rng, options.cover),
        "opacity": rng.uniform(*options.opacity),
        "veil": rng.uniform(*options.veil),
        "brightness": rng.uniform(*options.brightness),
    }
    snowy = snow(clean, rng, angle=angle, motion=diameters, size=size, **drawn)
    return snowy, {"size": size, "angle": angle, "motion": 2 * size * diameters} | drawn


def _motion_blur(clean, rng, depth, options: MotionBlur) -> tuple[np.ndarray, Drawn]:
    """GoPro's blurred images have the mean of its sharp ones: frames are averaged in sRGB values.

    Its blur is mostly 4 to 40 pixels long and differs within an image.
    """
    height, width = clean.shape[:2]
    extent = rng.uniform(*options.extent)
    frames = 7 + int(extent / 3)  # GoPro's have gaps too: they are averages of 7 to 13
    is_linear = bool(rng.random() < options.linear)
    image = to_linear(clean) if is_linear else clean
    camera = random_motion(rng, extent, frames, rng.uniform((0, 0), (width, height)), turn=extent / options.turn_radius)
    moves = bool(rng.random() < options.object)
    if moves:
        centre, radii = rng.uniform((0, 0), (width, height)), rng.uniform(*options.object_size, 2)
        own = random_motion(rng, rng.uniform(*options.extent), frames, centre)
        blurred = moving_object(image, camera, _soft_ellipse((height, width), centre, radii), own)
    else:
        blurred = moving_camera(image, camera)
    blurred = to_srgb(blurred) if is_linear else np.clip(blurred, 0, 1)
    return blurred, {"extent": extent, "linear": is_linear, "object": moves}


def _soft_ellipse(size: tuple[int, int], centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Opacity of an ellipse with centre and radii (x, y) in pixels, (*size, 1); its border is 2 pixels wide."""
    x, y = ((np.arange(size[1 - axis]) - centre[axis]) / radii[axis] for axis in (0, 1))
    distance = np.hypot(y[:, None], x).astype(np.float32)
    return np.clip(0.5 + (1 - distance) * radii.min().astype(np.float32) / 2, 0, 1)[..., None]


def _defocus(clean, rng, depth, options: Defocus) -> tuple[np.ndarray, Drawn]:
    """Half the time the focus is at any depth of the scene, so that all of a crop may be out of focus."""
    depth = scene_depth(clean, rng) if depth is None else np.maximum(depth, 1e-3)
    on_subject = rng.random() < options.on_subject
    focus = float(rng.choice(depth.ravel())) if on_subject else rng.uniform(*options.focus)
    blur = np.abs(1 / depth - 1 / focus)  # radius per unit of strength
    radius = rng.uniform(*options.radius)
    strength = min(radius / (blur.mean() + 1e-6), options.max_radius / (blur.max() + 1e-6))
    return defocus(clean, depth, focus, strength), {"focus": focus, "radius": float(strength * blur.mean())}


def _low_light(clean, rng, depth, options: LowLight) -> tuple[np.ndarray, Drawn]:
    drawn = {"stops": rng.uniform(*options.stops), "peak": _log_uniform(rng, options.peak)}
    return sensor.low_light(clean, rng, **drawn), drawn


def _noise(clean, rng, depth, options: Noise) -> tuple[np.ndarray, Drawn]:
    """The photons come first: Gaussian noise is that of reading them."""
    image, drawn = clean, {}
    if options.peak is not None:
        drawn["peak"] = _log_uniform(rng, options.peak)
        image = sensor.poisson_noise(image, rng, drawn["peak"])
    sigma = BLIND_SIGMA if options.sigma is None and options.peak is None else options.sigma
    if sigma is not None:
        drawn["sigma"] = rng.uniform(*sigma)
        image = sensor.gaussian_noise(image, rng, drawn["sigma"])
    return image, drawn


def _jpeg(clean, rng, depth, options: Jpeg) -> tuple[np.ndarray, Drawn]:
    quality = _whole(rng, options.quality)
    return sensor.jpeg(clean, quality), {"quality": quality}


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Uniform in the logarithm."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def _whole(rng: np.random.Generator, limits: tuple[int, int]) -> int:
    """A whole number; both limits may occur."""
    return int(rng.integers(limits[0], limits[1] + 1))


DRAW: dict[str, Callable[..., tuple[np.ndarray, Drawn]]] = {
    "haze": _haze,
    "rain": _rain,
    "light_rain": _light_rain,
    "heavy_rain": _heavy_rain,
    "snow": _snow,
    "motion_blur": _motion_blur,
    "defocus": _defocus,
    "low_light": _low_light,
    "noise": _noise,
    "jpeg": _jpeg,
}
DEGRADATIONS = {name: Degradation(name, kind()) for name, kind in OPTIONS.items()}
