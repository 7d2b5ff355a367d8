"""What the page says and shows about each task: a line, and an example made from a photograph of scikit-image."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data

from data.images import read_image, write_image
from data.synthetic.degradations import defocus, haze, motion_blur, rain, shake_kernel, snow, streak_layer
from data.synthetic.photographs import photographs

THUMBNAIL = 96  # pixels per side


@dataclass(frozen=True)
class Task:
    """A task as the page offers it.

    Attributes:
        line: what its network removes.
        degraded: makes the example, float32 (H, W, 3) in [0, 1].
    """

    line: str
    degraded: Callable[[np.random.Generator], np.ndarray]


def _photograph(name: str) -> np.ndarray:
    """A photograph of scikit-image, float32 (H, W, 3) in [0, 1]."""
    return getattr(skimage.data, name)().astype(np.float32) / 255


def _haze(rng: np.random.Generator) -> np.ndarray:
    _, image, depth = next(one for one in photographs("train") if one[0] == "motorcycle-left")  # depth is measured
    return haze(image.astype(np.float32) / 255, depth, beta=1.5, airlight=0.9)


def _rain(rng: np.random.Generator) -> np.ndarray:
    image = _photograph("astronaut")
    shapes = ({"length": 40, "width": 2, "cover": 0.1}, {"length": 18, "width": 1.2, "cover": 0.12})
    layers = (streak_layer(rng, image.shape[:2], angle=12, brightness=0.8, soft=True, **shape) for shape in shapes)
    return rain(image, sum(layers))


def _snow(rng: np.random.Generator) -> np.ndarray:
    flakes = {"size": 6, "cover": 0.015, "angle": 20, "motion": 0.5}
    return snow(_photograph("rocket"), rng, opacity=0.9, veil=0.03, **flakes)


def _shake(rng: np.random.Generator) -> np.ndarray:
    return motion_blur(_photograph("chelsea"), shake_kernel(rng, extent=12))


def _out_of_focus(rng: np.random.Generator) -> np.ndarray:
    image = _photograph("coffee")
    depth = np.linspace(1, 0.4, len(image), dtype=np.float32)[:, None]  # a table, seen from one side
    return defocus(image, np.broadcast_to(depth, image.shape[:2]), focus=0.4, strength=2.5)


TASKS = {
    "dehazing": Task("haze, mist and smog", _haze),
    "deblurring": Task("camera shake and moving subjects", _shake),
    "defocus": Task("parts that are out of focus", _out_of_focus),
    "deraining": Task("streaks of rain", _rain),
    "desnowing": Task("falling snow", _snow),
}


def example_of(task: str) -> np.ndarray:
    """The example of a task, uint8 (H, W, 3); always the same."""
    degraded = TASKS[task].degraded(np.random.default_rng(0))
    return np.round(np.clip(degraded, 0, 1) * 255).astype(np.uint8)


def write_example(task: str, folder: Path) -> Path:
    """Write the example of a task to ``folder``, unless it is there.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / f"{task}_example.png"
    if not path.exists():
        write_image(path, example_of(task))
    return path


def thumbnail(example: Path) -> str:
    """The middle of an example as a URL that holds its content, ``THUMBNAIL`` pixels per side."""
    image = read_image(example)
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top : top + side, left : left + side]
    small = cv2.resize(square, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", small[..., ::-1])
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
