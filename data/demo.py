"""The demo's data: the photographs that come with scikit-image, under haze, in RESIDE's layout.

    python -m data.demo --output datasets/demo

writes train/{hazy,gt} and test/{hazy,gt}; the photographs of one are not in the other. The motorcycle has its
measured depth, the others a made-up smooth one. Each photograph is written under sixteen hazes for training and
four for test. Writing the same folder again changes nothing.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
from tqdm import tqdm

from data.degradations import depth_from_disparity, haze, smooth_depth
from data.pictures import write_picture
from utils.config import ScriptParser
from utils.errors import run_script

PHOTOGRAPHS = {
    "train": ("astronaut", "chelsea", "motorcycle-left", "motorcycle-right", "camera", "gravel"),
    "test": ("coffee", "rocket"),
}
HAZES = {"train": 16, "test": 4}
# Calibration of the motorcycle pair, from its page in scikit-image's documentation: pixels, pixels, millimetres.
MOTORCYCLE = {"focal": 994.978, "offset": 31.086, "baseline": 193.001}


def photographs(split: str) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """(name, RGB uint8 (H, W, 3), depth (H, W) up to 1 or None where it is not known) of a split."""
    left, right, disparity = skimage.data.stereo_motorcycle()
    for name in PHOTOGRAPHS[split]:
        if name.startswith("motorcycle"):
            depth = depth_from_disparity(disparity, **MOTORCYCLE)
            # The disparity belongs to the left picture; the right one sees a point that many pixels further left.
            picture = left if name.endswith("left") else right
            if name.endswith("right"):
                depth = seen_from_the_right(depth, disparity)
            yield name, picture, depth / depth.max()
        else:
            picture = getattr(skimage.data, name)()
            yield name, picture if picture.ndim == 3 else np.stack([picture] * 3, axis=-1), None


def seen_from_the_right(depth: np.ndarray, disparity: np.ndarray) -> np.ndarray:
    """The left picture's depth (H, W) moved to where the right picture shows it.

    What only the right picture sees keeps the depth that the left one has at that place.
    """
    moved = np.full_like(depth, np.nan)
    rows, columns = np.nonzero(np.isfinite(disparity))
    order = np.argsort(-depth[rows, columns])  # far first, so that what is near covers it
    rows, columns = rows[order], columns[order]
    targets = np.round(columns - disparity[rows, columns]).astype(int)
    inside = (targets >= 0) & (targets < depth.shape[1])
    moved[rows[inside], targets[inside]] = depth[rows[inside], columns[inside]]
    return np.where(np.isnan(moved), depth, moved)


def write_demo(output: Path, seed: int = 0) -> None:
    """Write both splits below ``output``."""
    for number, split in enumerate(PHOTOGRAPHS):
        rng = np.random.default_rng([seed, number])
        for name, picture, depth in tqdm(photographs(split), split, len(PHOTOGRAPHS[split]), disable=None):
            write_picture(output / split / "gt" / f"{name}.png", picture)
            clear = picture.astype(np.float32) / 255
            for index in range(HAZES[split]):
                beta, airlight = rng.uniform(0.6, 1.8), rng.uniform(0.7, 1)
                distance = smooth_depth(*picture.shape[:2], rng) if depth is None else depth
                hazy = haze(clear, distance, beta, airlight)
                path = output / split / "hazy" / f"{name}_{index + 1}_{beta:.2f}_{airlight:.2f}.png"
                write_picture(path, np.round(hazy * 255).astype(np.uint8))


def main() -> None:
    parser = ScriptParser(prog="python -m data.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("datasets/demo"), help="the folder to write")
    write_demo(parser.parse().output)


if __name__ == "__main__":
    run_script(main)
