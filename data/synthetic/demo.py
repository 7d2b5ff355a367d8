"""The demo's data: the photographs that come with scikit-image, under haze, in RESIDE's layout.

    python -m data.synthetic.demo --output datasets/demo

writes train/{hazy,gt} and test/{hazy,gt}; the photographs of one are not in the other. The motorcycle has its
measured depth, the others a made-up smooth one. Each photograph is written under sixteen hazes for training and
four for test. Writing the same folder again changes nothing.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.images import write_image
from data.synthetic.degradations import haze
from data.synthetic.depth import smooth_depth
from data.synthetic.photographs import PHOTOGRAPHS, photographs
from utils.cli import ScriptParser
from utils.errors import run_script

HAZES = {"train": 16, "test": 4}


def write_demo(output: Path, seed: int = 0) -> None:
    """Write both splits below ``output``."""
    for number, split in enumerate(HAZES):
        rng = np.random.default_rng([seed, number])
        for name, image, depth in tqdm(photographs(split), split, len(PHOTOGRAPHS[split]), disable=None):
            write_image(output / split / "gt" / f"{name}.png", image)
            clear = image.astype(np.float32) / 255
            for index in range(HAZES[split]):
                beta, airlight = rng.uniform(0.6, 1.8), rng.uniform(0.7, 1)
                distance = smooth_depth(*image.shape[:2], rng) if depth is None else depth
                hazy = haze(clear, distance, beta, airlight)
                path = output / split / "hazy" / f"{name}_{index + 1}_{beta:.2f}_{airlight:.2f}.png"
                write_image(path, np.round(hazy * 255).astype(np.uint8))


def main() -> None:
    parser = ScriptParser(prog="python -m data.synthetic.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("datasets/demo"), help="the folder to write")
    write_demo(parser.parse().output)


if __name__ == "__main__":
    run_script(main)
