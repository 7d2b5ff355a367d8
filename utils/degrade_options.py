"""The degradations that a configuration may ask for, and their parameters.

``degrade`` of a set is a name (``noise``), a name with parameters (``{noise: {sigma: 25}}``), or a list of such,
applied one after the other. A parameter that varies from image to image is a range, [LOW, HIGH], or a number that
stands for both; its value is drawn uniformly, those marked so uniformly in their logarithm.
"""

from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from utils.errors import shortened

Degrade = str | dict[str, Any] | list[str | dict[str, Any]]


def ranged(low: float, high: float, bounds: tuple[float, float]) -> Any:
    """A parameter drawn from [low, high], which a configuration may set to any range within ``bounds``."""
    return field(default=(low, high), metadata={"bounds": bounds})


def counted(low: int, high: int, bounds: tuple[int, int]) -> Any:
    """``ranged`` for whole numbers."""
    return field(default=(low, high), metadata={"bounds": bounds, "whole": True})


def optional(bounds: tuple[float, float]) -> Any:
    """``ranged`` that is None unless it is set."""
    return field(default=None, metadata={"bounds": bounds})


def fixed(value: float, bounds: tuple[float, float]) -> Any:
    """A parameter that is the same for all images."""
    return field(default=value, metadata={"bounds": bounds})


def share(value: float) -> Any:
    """The fraction of images that something happens to."""
    return fixed(value, (0, 1))


@dataclass(frozen=True, kw_only=True)
class Haze:
    """Atmospheric scattering with a synthetic depth of at most 1, as in RESIDE"""

    beta: tuple[float, float] = ranged(0.6, 1.8, (0, 100))
    """Scattering coefficient per unit of depth."""
    airlight: tuple[float, float] = ranged(0.7, 1, (0, 1))
    """Colour of the haze where it is not white, sRGB value."""
    white: float = share(0.5)
    """Share of images whose airlight is 1."""


@dataclass(frozen=True, kw_only=True)
class Rain:
    """light_rain or heavy_rain"""

    heavy: float = share(0.5)
    """Share of images with heavy_rain."""


@dataclass(frozen=True, kw_only=True)
class LightRain:
    """Soft streaks in almost one direction, similar to Rain100L"""

    angle: tuple[float, float] = ranged(-40, 40, (-90, 90))
    """Of the streaks, in degrees from vertical."""
    layers: tuple[int, int] = counted(2, 5, (1, 50))
    """Number of layers, each with streaks of one size."""
    length: tuple[float, float] = ranged(6, 60, (1, 1000))
    """Of the streaks, in pixels; uniform in its logarithm."""
    cover: tuple[float, float] = ranged(0.01, 0.12, (0, 10))
    """Fraction of the image that the streaks of a layer would cover if they did not cross."""
    brightness: tuple[float, float] = ranged(0.2, 1, (0, 1))
    """Of the brightest streak possible, sRGB value."""


@dataclass(frozen=True, kw_only=True)
class HeavyRain:
    """Dense streaks in a few directions over light_rain, similar to Rain100H"""

    light: float = share(0.8)
    """Share of images that have light_rain as well."""
    angle: tuple[float, float] = ranged(-30, 30, (-90, 90))
    """Main direction of the streaks, in degrees from vertical."""
    stray: float = share(0.3)
    """Share of layers with a direction of their own."""
    stray_angle: tuple[float, float] = ranged(-40, 40, (-90, 90))
    """That direction, in degrees from vertical."""
    layers: tuple[int, int] = counted(1, 5, (1, 50))
    """Number of layers, each with streaks of one size."""
    length: tuple[float, float] = ranged(10, 100, (1, 1000))
    """Of the streaks, in pixels; uniform in its logarithm."""
    width: tuple[float, float] = ranged(0.8, 3, (0.1, 100))
    """Of the streaks, in pixels."""
    soft: float = share(0.5)
    """Share of layers whose streaks fade towards their borders; those of the others are flat."""
    soft_cover: tuple[float, float] = ranged(0.05, 1.2, (0, 10))
    """Fraction of the image that the streaks of a soft layer would cover if they did not cross."""
    flat_cover: tuple[float, float] = ranged(0.05, 0.7, (0, 10))
    """The same of a flat layer."""
    soft_brightness: tuple[float, float] = ranged(0.1, 0.7, (0, 1))
    """Of the brightest streak of a soft layer, sRGB value."""
    flat_brightness: tuple[float, float] = ranged(0.1, 0.4, (0, 1))
    """Of the streaks of a flat layer, sRGB value."""


@dataclass(frozen=True, kw_only=True)
class Snow:
    """Snowflakes of several sizes, blurred by their motion, in front of a veil"""

    size: tuple[float, float] = ranged(3, 12, (0.5, 100))
    """Radius of the nearest flakes, in pixels; the furthest are a tenth of it."""
    angle: tuple[float, float] = ranged(-50, 50, (-90, 90))
    """Of the motion, in degrees from vertical."""
    motion: tuple[float, float] = ranged(0, 24, (0, 200))
    """Distance that the nearest flakes move during the exposure, in pixels."""
    cover: tuple[float, float] = ranged(0.003, 0.03, (1e-6, 1))
    """Fraction of the image that the flakes of each of six sizes would cover; uniform in its logarithm."""
    opacity: tuple[float, float] = ranged(0.5, 1, (0, 1))
    """Of the furthest flakes; the nearest have half of it."""
    veil: tuple[float, float] = ranged(0, 0.1, (0, 1))
    """Opacity of the veil."""
    brightness: tuple[float, float] = ranged(0.7, 1, (0, 1))
    """Of the flakes, linear light."""


@dataclass(frozen=True, kw_only=True)
class MotionBlur:
    """Motion of the camera and of an object during the exposure, similar to GoPro"""

    extent: tuple[float, float] = ranged(2, 32, (0, 200))
    """Length of the motion of the camera, and of the object, in pixels."""
    turn_radius: float = fixed(300, (1, 1e6))
    """The camera also rolls and zooms: by up to its extent at this distance, in pixels."""
    object: float = share(0.5)
    """Share of images with an object that moves by itself."""
    object_size: tuple[float, float] = ranged(15, 60, (1, 1000))
    """Radii of the object, in pixels."""
    linear: float = share(0.5)
    """Share of images averaged in linear light, as by a sensor; the others in sRGB values, as GoPro is made."""


@dataclass(frozen=True, kw_only=True)
class Defocus:
    """Blur of a thin lens with a synthetic depth"""

    radius: tuple[float, float] = ranged(0.5, 5, (0, 30))
    """Mean radius of the blur, in pixels."""
    max_radius: float = fixed(12, (0, 30))
    """Largest radius anywhere in the image, in pixels."""
    on_subject: float = share(0.5)
    """Share of images focused on one of their pixels; the others are focused at any depth."""
    focus: tuple[float, float] = ranged(0.1, 1, (0.01, 1))
    """Depth in focus where it is not that of a pixel; 1 is the furthest."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise, Poisson noise (peak), or both, independent in each channel; the result is clipped to [0, 1]"""

    sigma: tuple[float, float] | None = optional((0, 255))
    """Standard deviation of the Gaussian noise, in grey levels of 255; null: [0, 50], or 0 if there is a peak."""
    peak: tuple[float, float] | None = optional((0.01, 1e9))
    """Photons that a white pixel receives: Poisson noise of the sRGB values; uniform in its logarithm; null: none."""


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """Compression as JPEG, with colours at half size (4:2:0)"""

    quality: tuple[int, int] = counted(10, 95, (1, 100))
    """Of libjpeg."""


@dataclass(frozen=True, kw_only=True)
class LowLight:
    """A shorter exposure: less light, and the noise of its photons"""

    stops: tuple[float, float] = ranged(1, 5, (0, 20))
    """How often the light is halved."""
    peak: tuple[float, float] = ranged(1000, 10000, (0.01, 1e9))
    """Photons that a white pixel receives at the full exposure; uniform in its logarithm."""


OPTIONS: dict[str, type] = {
    "haze": Haze,
    "rain": Rain,
    "light_rain": LightRain,
    "heavy_rain": HeavyRain,
    "snow": Snow,
    "motion_blur": MotionBlur,
    "defocus": Defocus,
    "low_light": LowLight,
    "noise": Noise,
    "jpeg": Jpeg,
}


def parse_degrade(value: Degrade) -> list[tuple[str, Any]]:
    """The chain that ``degrade`` describes: names and options, an instance of a class above, in order.

    Raises:
        ValueError: a name or parameter is unknown, or a value is not what the parameter takes.
    """
    links = value if isinstance(value, list) else [value]
    if not links:
        raise ValueError(f"expected at least one degradation, or null; known: {', '.join(OPTIONS)}")
    return [_parse_link(link) for link in links]


def _parse_link(link: Any) -> tuple[str, Any]:
    if isinstance(link, dict) and len(link) != 1:
        given = f"{len(link)}: {_quoted(', '.join(map(str, link)))}" if link else "none"
        raise ValueError(f"expected one degradation with its parameters, not {given}; a chain is a list, [A, B]")
    name, parameters = next(iter(link.items())) if isinstance(link, dict) else (link, None)
    if not isinstance(name, str) or name not in OPTIONS:
        raise ValueError(f"unknown degradation {_quoted(name)}{_nearest(name, OPTIONS)}; known: {', '.join(OPTIONS)}")
    entries = {entry.name: entry for entry in fields(OPTIONS[name])}
    if not isinstance(parameters, dict | None):
        raise ValueError(
            f"{name}: expected a section of parameters, not {_quoted(parameters)}; known: {', '.join(entries)}"
        )
    values = {}
    for key, given in (parameters or {}).items():
        if key not in entries:
            elsewhere = [other for other, kind in OPTIONS.items() if key in kind.__dataclass_fields__]
            hint = _nearest(key, entries) or (f"; it is one of {', '.join(elsewhere)}" if elsewhere else "")
            raise ValueError(f"{name} has no parameter {_quoted(key)}{hint}; known: {', '.join(entries)}")
        values[key] = _parse_value(f"{name}.{key}", given, entries[key])
    return name, OPTIONS[name](**values)


def _parse_value(where: str, value: Any, entry: Field) -> Any:
    if value is None and entry.default is None:
        return None
    least, most = entry.metadata["bounds"]
    whole, single = entry.metadata.get("whole", False), isinstance(entry.default, int | float)
    expected = f"a {'whole ' * whole}number from {least:g} to {most:g}"
    if not single:
        expected += " or a range of such, [LOW, HIGH]"
    numbers = value if isinstance(value, list | tuple) and len(value) == 2 and not single else [value]
    for number in numbers:
        is_number = isinstance(number, int if whole else int | float) and not isinstance(number, bool)
        if not is_number or not least <= number <= most:  # not a NaN either
            raise ValueError(f"{where}: expected {expected}, not {_quoted(value)}")
    if numbers[0] > numbers[-1]:
        raise ValueError(f"{where}: expected the smaller number first, not {_quoted(value)}")
    return value if single else (numbers[0], numbers[-1])


def _nearest(name: Any, known: Iterable[str]) -> str:
    found = get_close_matches(str(name)[:40], known, n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def _quoted(value: Any) -> str:
    return shortened(repr(value), 40)
